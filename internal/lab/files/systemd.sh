# systemd as the first process of PID, UTS and cgroup namespaces of its own, which
# knows no unit of the machine: it must not touch anything of it.
set -e
mount -t cgroup2 none /sys/fs/cgroup
units=/run/systemd/system
mkdir -p "$units"
for name in default sysinit basic shutdown sockets timers paths; do
	printf '[Unit]\nDefaultDependencies=no\n' >"$units/$name.target"
done
export container=lab SYSTEMD_UNIT_PATH="$units" SYSTEMD_GENERATOR_PATH= SYSTEMD_LOG_TARGET=console
for program in /usr/lib/systemd/systemd /lib/systemd/systemd; do
	[ ! -x "$program" ] || exec "$program" --system --unit=default.target --show-status=no
done

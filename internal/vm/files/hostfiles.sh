# The job of vm.RunOnHostFiles: the command in /command.sh on the machine's files,
# which QEMU serves read-only; an overlay takes the changes. Those files do not
# change while this runs, so the cache need not ask.
mkdir -p /machine /lower /changes
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro root /lower || failed=1
mount -t tmpfs tmpfs /changes
mkdir /changes/upper /changes/work
mount -t overlay -o lowerdir=/lower,upperdir=/changes/upper,workdir=/changes/work overlay /machine || failed=1
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for dir in proc sys dev; do
	mount -o rbind "/$dir" "/machine/$dir"
done

# Not only this program's root, but that of the mounts too: paths in /proc are
# right only then. Our own root stays where it was, and so does that of the
# program which the kernel runs to load a module: lead it in.
cd /machine || failed=1
mount -o move /machine /
printf '#!/bin/sh\nexec chroot /proc/1/cwd /sbin/modprobe "$@"\n' >/sbin/load
chmod +x /sbin/load
echo /sbin/load >/proc/sys/kernel/modprobe

. /command.sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export VIRT_VNET_LAB_KVM=1      # that of this virtual machine's emulated CPU
export VIRT_VNET_LAB_PATIENCE=6 # all of a lab in here is emulated
# shellcheck disable=SC2016 # for the shell inside
try "${2##*/}" chroot . /bin/sh -c 'cd "$0" && exec "$@"' "$@"

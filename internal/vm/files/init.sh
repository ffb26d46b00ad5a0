#!/bin/busybox sh
# The first process: loads the modules, does the job in /job.sh and says how that
# went. The kernel turns words of its command line into our environment:
# MODULES=a,b,c and what the job wants to know.
export PATH=/sbin:/bin
export VIRT_VNET_VM=1 VIRT_VNET_REQUIRE_LAB=1
/bin/busybox mkdir -p /sbin /run /root /etc /var/lib /var/log /var/cache
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
failed=0
for m in $(echo "$MODULES" | tr , ' '); do
	insmod "/modules/$m" || failed=1
done
unset MODULES
ip link set lo up || failed=1

# try NAME PROGRAM ARGUMENT...: run it, and remember when it failed.
try() {
	name=$1
	shift
	echo "vm: runs $name"
	"$@" </dev/null 2>&1
	status=$?
	echo "vm: $name ended with status $status"
	[ "$status" = 0 ] || failed=1
}

. /job.sh
if [ "$failed" = 0 ]; then
	echo "vm: verdict pass"
else
	echo "vm: verdict fail"
fi
poweroff -f

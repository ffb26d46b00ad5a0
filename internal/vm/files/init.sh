#!/bin/busybox sh
# Runs every program in /tests and says how that went. The kernel turns words of
# its command line into our environment: MODULES=a,b,c and TIMEOUT of each.
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
ip link set lo up || failed=1
for program in /tests/*; do
	echo "vm: runs ${program##*/}"
	"$program" -test.v -test.timeout="$TIMEOUT" </dev/null 2>&1
	status=$?
	echo "vm: ${program##*/} ended with status $status"
	[ "$status" = 0 ] || failed=1
done
if [ "$failed" = 0 ]; then
	echo "vm: verdict pass"
else
	echo "vm: verdict fail"
fi
poweroff -f

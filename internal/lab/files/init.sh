#!/bin/sh
# The whole userspace of a lab guest. Its set-up is on the kernel command line:
#   vnet.name=NAME  vnet.modules=a,b,c  vnet.addr=MAC,PREFIX  vnet.route=ADDRESS
#   vnet.vlan=MAC,ID,PREFIX  vnet.dhcp=MAC  vnet.mtu=MAC,BYTES
# Programs are busybox applets: its shell finds them without a PATH once there is
# a /proc.

say() {
	read -r up _ </proc/uptime
	echo "vnet-guest: $* at $up"
}

# device MAC: the name of the interface with this address.
device() {
	for d in /sys/class/net/*; do
		read -r mac <"$d/address"
		if [ "$mac" = "$1" ]; then
			echo "${d##*/}"
			return
		fi
	done
	say "no interface has the address $1" >/dev/console
	echo lo
}

# add_address DEVICE PREFIX
add_address() {
	case $2 in
	*:*) ip -6 addr add "$2" dev "$1" ;;
	*) ip addr add "$2" dev "$1" ;;
	esac
}

# add_vlan MAC ID PREFIX
add_vlan() {
	parent=$(device "$1")
	ip link add link "$parent" name "$parent.$2" type vlan id "$2"
	ip link set "$parent.$2" up
	[ -z "$3" ] || add_address "$parent.$2" "$3"
}

# setting KEY=VALUE: carry out one word of the kernel command line.
setting() {
	value=${1#*=}
	rest=${value#*,}
	case $1 in
	vnet.name=*) hostname "$value" ;;
	vnet.mtu=*) ip link set "$(device "${value%%,*}")" mtu "$rest" ;;
	vnet.addr=*) add_address "$(device "${value%%,*}")" "$rest" ;;
	vnet.vlan=*) add_vlan "${value%%,*}" "${rest%%,*}" "${rest#*,}" ;;
	vnet.dhcp=*) udhcpc -q -n -t 10 -T 1 -O mtu -i "$(device "$value")" -s /dhcp.sh ;;
	vnet.route=*:*) ip -6 route add default via "$value" ;;
	vnet.route=*) ip route add default via "$value" ;;
	esac
}

# obey: run each line "ID COMMAND" that comes over the second serial port and
# answer with its output and "ID rc=STATUS" on a line of its own.
obey() {
	while IFS= read -r line; do
		sh -c "${line#* }" </dev/null 2>&1
		rc=$?
		echo
		echo "${line%% *} rc=$rc"
	done
}

/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
say userspace
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	vnet.modules=*)
		IFS=,
		for m in ${word#*=}; do
			insmod "/modules/$m"
		done
		unset IFS
		;;
	esac
done
for d in /sys/class/net/*; do
	case ${d##*/} in
	lo) ip link set lo up ;;
	*)
		echo 0 >"/proc/sys/net/ipv6/conf/${d##*/}/accept_dad"
		ip link set "${d##*/}" up
		;;
	esac
done
for word in $cmdline; do
	setting "$word"
done
# Open before anyone is told: what arrives at a closed port is lost.
exec 3<>/dev/ttyS1
stty raw -echo <&3
obey <&3 >&3 &
[ ! -x /agent.sh ] || /agent.sh
say ready
while :; do
	sleep 3600
done

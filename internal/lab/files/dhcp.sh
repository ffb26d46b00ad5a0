#!/bin/sh
# What udhcpc calls in a lab guest.
case $1 in
bound | renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/$mask" dev "$interface"
	[ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
	[ -z "$router" ] || ip route replace default via "${router%% *}"
	;;
esac

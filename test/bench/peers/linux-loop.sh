#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
#
# The hook an administrator writes for a Linux bridge: for each NIC one ip and
# one bridge call. Libvirt has put the tap on the bridge already. The XML is
# taken apart by a single sed, which counts on libvirt's layout (mac, source,
# target, in this order); xmllint would be more robust, and slower.
set -eu -o pipefail
[ "$2/$3" = start/begin ] || exit 0
guest=$1
sed -nE "/<interface /,/<\/interface>/ s/^ *<(mac address|source network|target dev)='([^']*)'.*/\2/p" |
	while read -r mac && read -r network && read -r dev; do
		case $network in
		lan)
			ip link set dev "$dev" mtu 9000 alias "$guest $mac $network"
			bridge link set dev "$dev" isolated on guard on
			;;
		esac
	done

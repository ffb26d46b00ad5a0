#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
#
# The hook an administrator writes for Open vSwitch: ovs-vsctl for each NIC,
# which waits until ovs-vswitchd has followed. Libvirt has made the port
# already. The XML is taken apart as in linux-loop.sh.
set -eu -o pipefail
[ "$2/$3" = start/begin ] || exit 0
guest=$1
sed -nE "/<interface /,/<\/interface>/ s/^ *<(mac address|source network|target dev)='([^']*)'.*/\2/p" |
	while read -r mac && read -r network && read -r dev; do
		case $network in
		red)
			ovs-vsctl --timeout=10 set port "$dev" tag=20 protected=true \
				external_ids:guest="$guest" external_ids:network="$network"
			;;
		esac
	done

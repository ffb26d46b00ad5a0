#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
#
# The same as linux-loop.sh by somebody who has guests with many NICs: all of
# them in one ip and one bridge call.
set -eu -o pipefail
[ "$2/$3" = start/begin ] || exit 0
guest=$1
links= ports=
while read -r mac && read -r network && read -r dev; do
	case $network in
	lan)
		links+="link set dev $dev mtu 9000 alias \"$guest $mac $network\""$'\n'
		ports+="link set dev $dev isolated on guard on"$'\n'
		;;
	esac
done < <(sed -nE "/<interface /,/<\/interface>/ s/^ *<(mac address|source network|target dev)='([^']*)'.*/\2/p")
ip -batch - <<<"$links"
bridge -batch - <<<"$ports"

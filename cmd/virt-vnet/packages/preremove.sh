#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
set -e

# dpkg says remove, and rpm how many versions remain; else it is an upgrade.
if [ "$1" = remove ] || [ "$1" = 0 ]; then
	virt-vnet hooks uninstall
	if [ -d /run/systemd/system ]; then
		systemctl disable --now virt-vnet-verify.timer
	fi
fi

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

const (
	protoUDP       = 17
	udpHeader      = 8
	portDHCPServer = 67
)

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package rtnl is what drivers share of rtnetlink(7): one socket with bounded
// waits, whole dumps and several requests at a time, and the attributes that
// every link has.
//
// It stands on the nl half of the netlink library only. The other half cannot
// read a bridge port's attributes in one message, and its initialisation would
// be paid at every start of a guest.
//
// Out of scope: what only one kind of switch has.
package rtnl

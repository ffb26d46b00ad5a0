// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package ovsdb is a client of OVSDB servers (RFC 7047), such as those of Open
// vSwitch and of OVN, on this host or another. It carries transactions out, and
// knows nothing of any schema.
//
// It speaks JSON-RPC itself, with encoding/json to read it. The usual client,
// libovsdb, makes a process that only imports it 3.2 to 3.6 times as slow as an
// empty one, before it has said a word (5.8 to 7.7 ms against 1.8 to 2.1: the
// initialisation of its metrics and validation libraries), and the program that
// imports this package runs at every start of a guest, on hosts without Open
// vSwitch too. Its wire types alone are cheap, but they panic on malformed
// answers.
//
// Out of scope: keeping a copy of a database up to date.
package ovsdb

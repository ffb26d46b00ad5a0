// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package bundle packs what a colleague needs to judge a network from afar into
// one file, without the secrets: definitions, states, rules, and frames without
// what they carry.
//
// Secrets are kept out in two ways. Of libvirt's XML only elements that are known
// to describe the network are taken; text and JSON are searched for what looks
// like a secret. Neither can know a password that nothing calls one.
//
// Out of scope: deciding what is collected, and running programs for it
// (cmd/virt-vnet does).
package bundle

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Command noop does nothing: it is what a static Go program costs at least.
package main

func main() {}

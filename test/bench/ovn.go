// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import "context"

// ovnPorts measures writing logical ports of OVN, in a lab of its own with OVN
// central: a benchmark of the driver's, as it is without what follows, which is
// ovn-northd's and ovn-controller's.
func ovnPorts(ctx context.Context, _ *bench) (medians, error) {
	return goBenchmarks(ctx, "./switchcfg/ovn", []string{"-bench", "^BenchmarkPorts$", "-benchtime", "5x"})
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Try finds out whether this kernel can do it all, and returns in one line why
// not, or "". It builds the table in a network namespace that is made for it and
// goes with it, for only that tells which parts the kernel has, or modules of it
// that it then loads.
func Try(ctx context.Context) (reason string) {
	result := make(chan error)
	go func() {
		// Nobody may get this thread, which is in another namespace then: it
		// ends with the goroutine, for that does not unlock it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("make a network namespace: %w", translate(err))
			return
		}
		result <- attempt(ctx)
	}()
	return explain(<-result)
}

// attempt guards a port and looks whether it is.
func attempt(ctx context.Context) error {
	c, err := Open()
	if err != nil {
		return err
	}
	want := Port{Index: 1, Priority: maxPriority, Guard: switchcfg.Guard{
		MACs:      []vnet.MAC{{2}},
		Addresses: []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()},
		DHCP:      true, RA: true,
	}}
	err = c.Set(ctx, []Port{want})
	if err == nil {
		var got map[int]Port
		got, err = c.Ports(ctx, []int{want.Index})
		if p := got[want.Index]; err == nil && (!p.Guard.Equal(want.Guard) || p.Priority != want.Priority) {
			err = fmt.Errorf("%w: nftables: elements do not come back", switchcfg.ErrUnsupported)
		}
	}
	return errors.Join(err, c.Close())
}

// explain says in one line what a failed attempt means.
func explain(err error) string {
	var refused *refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused) && isLack(err) && refused.message.kind == unix.NFT_MSG_NEWCHAIN:
		return "this kernel has no nftables bridge filtering (CONFIG_NF_TABLES_BRIDGE)"
	case errors.As(err, &refused) && isLack(err) && refused.message.what != "":
		return "this kernel's nftables cannot do it: " + refused.Error()
	case isLack(err):
		return "this kernel has no nftables (CONFIG_NF_TABLES)"
	case errors.Is(err, switchcfg.ErrPermission):
		return "whether this kernel has nftables bridge filtering can only root tell"
	}
	return err.Error()
}

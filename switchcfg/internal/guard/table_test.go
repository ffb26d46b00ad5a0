// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest/guardtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// here is a table that is not ours.
const here = "table inet others { chain c { type filter hook forward priority 0; policy drop; }; }\n" +
	"table bridge virt_vnet2 { set ports { type iface_index; elements = { 1 }; }; }"

// start starts a lab without a table of ours.
func start(t testing.TB) *guard.Conn {
	t.Helper()
	lab.Need(t)
	labtest.Start(t, lab.Options{})
	if out, err := exec.CommandContext(t.Context(), "nft", "flush", "ruleset").CombinedOutput(); err != nil && !vm.Inside() {
		t.Fatalf("nft: %v: %s", err, out)
	}
	c := open(t)
	if err := c.Sweep(t.Context(), func(int) bool { return false }); err != nil {
		t.Fatal(err)
	}
	return c
}

func nft(t testing.TB, command string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(command)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v: %s", command, err, out)
	}
	return string(out)
}

// portN is a guarded port.
func portN(n int) guard.Port {
	return guard.Port{Index: n, Priority: 5, Guard: switchcfg.Guard{
		MACs:      []vnet.MAC{{2, 0, 0, 0, byte(n >> 8), byte(n)}},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}), netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)})},
		DHCP:      true, RA: true,
	}}
}

// want checks what is in force, asked for in both ways.
func want(t testing.TB, c *guard.Conn, ports ...guard.Port) {
	t.Helper()
	all := map[int]guard.Port{}
	indices := []int{987654}
	for _, p := range ports {
		all[p.Index], indices = p, append(indices, p.Index)
	}
	for _, asked := range [][]int{nil, indices} {
		got, err := c.Ports(t.Context(), asked)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("ports %v (-want +got):\n%s", asked, diff)
		}
	}
}

func TestListing(t *testing.T) {
	c := start(t)
	if vm.Inside() {
		return // no nft there
	}
	nft(t, here)
	before := nft(t, "list ruleset")
	p := portN(1000001)
	set(t, c, p)
	listing := nft(t, "list table bridge virt_vnet")
	golden.Check(t, "testdata/table.nft", listing)
	set(t, c, p)
	if again := nft(t, "list table bridge virt_vnet"); again != listing {
		t.Errorf("the second time makes a difference:\n%s", cmp.Diff(listing, again))
	}
	set(t, c, guard.Port{Index: p.Index})
	want(t, c)
	if err := c.Sweep(t.Context(), func(int) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if after := nft(t, "list ruleset"); after != before {
		t.Errorf("tables of others (-before +after):\n%s", cmp.Diff(before, after))
	}
}

func TestSetReplaces(t *testing.T) {
	c := start(t)
	want(t, c) // no table
	set(t, c, guard.Port{Index: 7})
	want(t, c)
	first, second := portN(7), portN(8)
	set(t, c, first, second)
	want(t, c, first, second)

	many := guard.Port{Index: 7, Guard: switchcfg.Guard{RA: true}}
	for i := range 64 {
		many.Guard.MACs = append(many.Guard.MACs, vnet.MAC{2, byte(i)})
		many.Guard.Addresses = append(many.Guard.Addresses, netip.AddrFrom4([4]byte{192, 168, 100, byte(100 + i)}))
	}
	for i := range 64 {
		a := [16]byte{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, byte(0x80 + i)}
		many.Guard.Addresses = append(many.Guard.Addresses, netip.AddrFrom16(a))
	}
	for _, p := range []guard.Port{
		many,
		{Index: 7, Priority: 3},
		{Index: 7, Guard: switchcfg.Guard{DHCP: true}},
		{Index: 7, Guard: switchcfg.Guard{Addresses: many.Guard.Addresses[:1]}},
		{Index: 7, Guard: switchcfg.Guard{MACs: many.Guard.MACs[3:9]}, Priority: 7},
		first,
	} {
		set(t, c, p)
		want(t, c, p, second)
	}
	set(t, c, guard.Port{Index: 7})
	want(t, c, second)
}

func TestSetRefuses(t *testing.T) {
	c := start(t)
	for _, p := range []guard.Port{
		{Index: 0, Priority: 1},
		{Index: 7, Priority: 8},
		{Index: 7, Priority: -1},
		{Index: 7, Guard: switchcfg.Guard{Addresses: []netip.Addr{{}}}},
		{Index: 7, Guard: switchcfg.Guard{Addresses: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}}},
		{Index: 7, Guard: switchcfg.Guard{Addresses: []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}}},
	} {
		if err := c.Set(t.Context(), []guard.Port{portN(8), p}); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
	want(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Set(ctx, []guard.Port{portN(8)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestSweep(t *testing.T) {
	c := start(t)
	alive := func(index int) bool { return index != 8 }
	if err := c.Sweep(t.Context(), alive); err != nil {
		t.Fatal(err)
	}
	set(t, c, portN(7), portN(8))
	for range 2 {
		if err := c.Sweep(t.Context(), alive); err != nil {
			t.Fatal(err)
		}
		want(t, c, portN(7))
	}
	if err := c.Sweep(t.Context(), func(int) bool { return false }); err != nil {
		t.Fatal(err)
	}
	want(t, c)
	if vm.Inside() {
		return
	}
	if out := nft(t, "list tables"); strings.Contains(out, "virt_vnet") {
		t.Errorf("the table is left: %s", out)
	}
}

// TestTogether starts guests all at once, the first of them on a host without
// the table, and sweeps meanwhile.
func TestTogether(t *testing.T) {
	start(t)
	const guests = 32
	g, ctx := errgroup.WithContext(t.Context())
	all := make([]guard.Port, guests)
	for i := range all {
		all[i] = portN(100 + i)
		g.Go(func() error {
			c, err := guard.Open()
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // nothing is buffered
			for _, p := range []guard.Port{all[i], {Index: all[i].Index}, all[i]} {
				if err := c.Set(ctx, []guard.Port{p}); err != nil {
					return fmt.Errorf("guest %d: %w", i, err)
				}
				got, err := c.Ports(ctx, []int{p.Index})
				if err != nil {
					return fmt.Errorf("guest %d: %w", i, err)
				}
				if !got[p.Index].Guard.Equal(p.Guard) {
					return fmt.Errorf("guest %d: got %v, want %v", i, got, p)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	want(t, open(t), all...)
}

func TestPermission(t *testing.T) {
	start(t)
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with its capabilities
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := make([]unix.CapUserData, 2)
		if err := unix.Capset(&header, &none[0]); err != nil {
			result <- err
			return
		}
		c, err := guard.Open()
		if err == nil {
			err = c.Set(context.Background(), []guard.Port{portN(7)})
		}
		result <- err
	}()
	if err := <-result; !errors.Is(err, switchcfg.ErrPermission) {
		t.Errorf("got error %v, want %v", err, switchcfg.ErrPermission)
	}
}

func TestTry(t *testing.T) {
	c := start(t)
	if reason := guard.Try(t.Context()); reason != "" {
		t.Error(reason)
	}
	want(t, c) // nothing here
}

func TestForwardDrops(t *testing.T) {
	start(t)
	if vm.Inside() {
		return
	}
	got, err := guard.ForwardDrops(t.Context())
	if err != nil || len(got) != 0 {
		t.Errorf("got %q and error %v, want none", got, err)
	}
	nft(t, `table ip filter {
		chain FORWARD { type filter hook forward priority 0; policy drop; }
		chain INPUT { type filter hook input priority 0; policy drop; }
		chain plain { }
	}
	table ip6 f { chain c { type filter hook forward priority 0; policy accept; }; }
	table inet f { chain c { type filter hook forward priority 0; policy drop; }; }
	table bridge f { chain c { type filter hook forward priority 0; policy drop; }; }`)
	got, err = guard.ForwardDrops(t.Context())
	if diff := cmp.Diff([]string{"table ip filter, chain FORWARD", "table inet f, chain c"}, got); diff != "" || err != nil {
		t.Errorf("error %v (-want +got):\n%s", err, diff)
	}
}

// TestPriority counts the frames that leave the bridge with a priority.
func TestPriority(t *testing.T) {
	w := newWire(t)
	if vm.Inside() {
		return
	}
	c := open(t)
	nft(t, `flush ruleset
	table bridge count { chain c { type filter hook postrouting priority 0; ether type 0x88b6 meta priority 0:5 counter; }; }`)
	counted := func() bool {
		w.Passes(t, guardtest.Ether(guardtest.GuestMAC, 0x88b6, []byte{1}))
		return !strings.Contains(nft(t, "list table bridge count"), "packets 0")
	}
	if set(t, c, guard.Port{Index: w.Index, Guard: guardtest.FullGuard()}); counted() {
		t.Error("the frame has a priority without one being set")
	}
	if set(t, c, guard.Port{Index: w.Index, Guard: guardtest.FullGuard(), Priority: 5}); !counted() {
		t.Error("the frame has not the priority of its port")
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/vm"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestOthers changes the table behind our back, looks whether Ports tells, and
// whether Set makes good.
func TestOthers(t *testing.T) {
	c := start(t)
	if vm.Inside() {
		return
	}
	without := func(change func(*guard.Port)) guard.Port {
		p := portN(7)
		change(&p)
		return p
	}
	nothing := guard.Port{}
	for command, in := range map[string]guard.Port{
		"flush set bridge virt_vnet mac_ports":                      without(func(p *guard.Port) { p.Guard.MACs = nil }),
		"flush set bridge virt_vnet macs":                           without(func(p *guard.Port) { p.Guard.MACs = []vnet.MAC{{}} }),
		"flush set bridge virt_vnet ipv4":                           without(func(p *guard.Port) { p.Guard.Addresses[0] = netip.IPv4Unspecified() }),
		"flush set bridge virt_vnet ipv6":                           without(func(p *guard.Port) { p.Guard.Addresses[1] = netip.IPv6Unspecified() }),
		"flush set bridge virt_vnet ipv6_ports":                     without(func(p *guard.Port) { p.Guard.Addresses = p.Guard.Addresses[:1] }),
		"flush set bridge virt_vnet dhcp_ports":                     without(func(p *guard.Port) { p.Guard.DHCP = false }),
		"flush set bridge virt_vnet ra_ports":                       without(func(p *guard.Port) { p.Guard.RA = false }),
		"flush map bridge virt_vnet priorities":                     without(func(p *guard.Port) { p.Priority = 0 }),
		"flush set bridge virt_vnet ports":                          nothing,
		"flush table bridge virt_vnet":                              nothing,
		"flush chain bridge virt_vnet prerouting":                   nothing,
		"flush chain bridge virt_vnet hidden":                       nothing,
		"delete table bridge virt_vnet":                             nothing,
		"table bridge virt_vnet { flags dormant; }":                 nothing,
		"insert rule bridge virt_vnet ipv4_source accept":           nothing,
		"add rule bridge virt_vnet hidden iif lo jump solicitation": nothing,
		"flush ruleset": nothing,
		"add element bridge virt_vnet dhcp_ports { 1 }":                     portN(7), // lo
		"add chain bridge virt_vnet mine":                                   nothing,
		"add table bridge virt_vnet; add chain bridge virt_vnet prerouting": portN(7),
	} {
		set(t, c, portN(7))
		nft(t, command)
		if in.Index == 0 {
			want(t, c)
		} else {
			want(t, c, in)
		}
		set(t, c, portN(7))
		want(t, c, portN(7))
	}
}

// TestStrangeElement adds a source to those of a port, which only a look at all
// elements can tell.
func TestStrangeElement(t *testing.T) {
	c := start(t)
	if vm.Inside() {
		return
	}
	p := portN(1) // lo, for nft takes names only
	set(t, c, p)
	nft(t, "add element bridge virt_vnet ipv4 { lo . 10.66.66.66 }")
	got, err := c.Ports(t.Context(), nil)
	if err != nil || len(got[1].Guard.Addresses) != len(p.Guard.Addresses)+1 {
		t.Errorf("got %v and error %v, want another address", got, err)
	}
	set(t, c, p)
	want(t, c, p)
}

// TestOtherVersion replaces a table of another version, which has no set of
// priorities, and keeps the rest.
func TestOtherVersion(t *testing.T) {
	c := start(t)
	if vm.Inside() {
		return
	}
	nft(t, `table bridge virt_vnet {
		comment "virt-vnet ruleset 0"
		set ports { type iface_index; elements = { lo }; }
		set ra_ports { type iface_index; elements = { lo }; }
		set more { type iface_index; elements = { lo }; }
		chain prerouting { type filter hook prerouting priority 0; }
	}`)
	want(t, c)
	set(t, c, portN(7))
	want(t, c, guard.Port{Index: 1, Guard: switchcfg.Guard{RA: true}}, portN(7))
	if out := nft(t, "list table bridge virt_vnet"); strings.Contains(out, "more") {
		t.Errorf("the old table is left:\n%s", out)
	}
}

func TestForeignTable(t *testing.T) {
	c := start(t)
	if vm.Inside() {
		return
	}
	nft(t, "add table bridge virt_vnet")
	before := nft(t, "list ruleset")
	want(t, c)
	if err := c.Set(t.Context(), []guard.Port{portN(7)}); !errors.Is(err, switchcfg.ErrNotOwned) {
		t.Errorf("got error %v, want %v", err, switchcfg.ErrNotOwned)
	}
	if err := c.Sweep(t.Context(), func(int) bool { return false }); err != nil {
		t.Error(err)
	}
	if after := nft(t, "list ruleset"); after != before {
		t.Errorf("it was changed (-before +after):\n%s", cmp.Diff(before, after))
	}
}

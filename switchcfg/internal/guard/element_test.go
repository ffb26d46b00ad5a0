// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guard

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables/expr"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/nlconn"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// longest is a port whose comments are as long as can be.
func longest() Port {
	p := Port{Index: 1 << 30, Priority: maxPriority, Guard: switchcfg.Guard{DHCP: true, RA: true}}
	for i := range 200 {
		p.Guard.MACs = append(p.Guard.MACs, vnet.MAC{0xaa, 0xaa, 0xaa, 0xaa, 0xaa, byte(i)})
		a := [16]byte{0: 0xff, 1: 0xff, 2: 0xff, 3: 0xff, 4: 0xff, 5: 0xff, 6: 0xff, 7: 0xff, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: byte(i)}
		p.Guard.Addresses = append(p.Guard.Addresses, netip.AddrFrom16(a))
	}
	return p
}

// TestElements checks that what is made of a port is found again by following
// the comments, and that it says what was wanted.
func TestElements(t *testing.T) {
	t.Parallel()
	mac, v4, v6 := vnet.MAC{2}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1")
	for name, p := range map[string]Port{
		"nothing":   {Index: 1},
		"priority":  {Index: 1, Priority: 1},
		"DHCP":      {Index: 1, Guard: switchcfg.Guard{DHCP: true}},
		"RA":        {Index: 1, Guard: switchcfg.Guard{RA: true}},
		"MAC":       {Index: 1, Guard: switchcfg.Guard{MACs: []vnet.MAC{mac}}},
		"addresses": {Index: 1, Guard: switchcfg.Guard{Addresses: []netip.Addr{v4, v6}}},
		"longest":   longest(),
	} {
		table := found{}
		for _, e := range p.elements() {
			if len(e.comment) > maxComment {
				t.Errorf("%s: a comment of %d bytes", name, len(e.comment))
			}
			if got, err := parseKey(e.set, e.encode()); err != nil || got != e.key {
				t.Errorf("%s: got key %+v and error %v, want %+v", name, got, err, e.key)
			}
			table[e.key] = e
		}
		seen := found{}
		for keys := heads(p.Index); len(keys) > 0; keys = keys[1:] {
			if e, ok := table[keys[0]]; ok {
				seen[e.key] = e
				keys = append(keys, e.named()...)
			}
		}
		if len(seen) != len(table) || !seen.whole(p.Index) {
			t.Errorf("%s: found %d of %d elements again, whole: %t", name, len(seen), len(table), seen.whole(p.Index))
		}
		if got := seen.port(p.Index); !got.Guard.Equal(p.Guard) || got.Priority != p.Priority {
			t.Errorf("%s: got %+v, want %+v", name, got, p)
		}
		for k := range table {
			delete(seen, k)
			if len(seen) > 0 && seen.whole(p.Index) {
				t.Errorf("%s: it does not show that %s lacks an element", name, k.set.name())
			}
			seen[k] = table[k]
		}
	}
}

func TestParseMembers(t *testing.T) {
	t.Parallel()
	for comment, want := range map[string]int{
		"":                                    0,
		"...":                                 0,
		" ...":                                0,
		"hello":                               0,
		"02:00:00:00:00:01 10.0.0.1":          1,
		"02:00:00:00:00:01 02:00:00:00:00:02": 2,
		"02:00:00:00:00:01 02:00:00:00:00:02 ...": 2,
	} {
		if got := (element{key: key{set: macPorts, port: 1}, comment: comment}).named(); len(got) != want {
			t.Errorf("%q: got %v, want %d", comment, got, want)
		}
	}
}

// TestTable checks that the rules lead to chains that are there and that no
// chain is left out.
func TestTable(t *testing.T) {
	t.Parallel()
	uses := map[string]int{}
	sum := 0
	all := chains()
	for _, c := range all {
		sum += len(c.rules)
		for _, r := range c.rules {
			for _, target := range targets(r) {
				uses[target]++
				sum++
			}
		}
	}
	for _, c := range all {
		if uses[c.name] == 0 && c.name != prerouting {
			t.Errorf("nothing leads to chain %s", c.name)
		}
		delete(uses, c.name)
	}
	if len(uses) > 0 {
		t.Errorf("these chains are missing: %v", uses)
	}
	if len(all) != wholeChains || sum != wholeUse {
		t.Errorf("%d chains, %d uses; the constants are %d and %d", len(all), sum, wholeChains, wholeUse)
	}
	if _, err := build(); err != nil {
		t.Error(err)
	}
}

// targets are the chains that r leads to.
func targets(r rule) []string {
	var names []string
	for _, e := range r.exprs {
		if v, ok := e.(*expr.Verdict); ok && v.Chain != "" {
			names = append(names, v.Chain)
		}
	}
	return names
}

func TestComment(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "x", strings.Repeat("x", maxComment)} {
		var a attrs
		a.comment(1, text)
		got := "none"
		if err := rtnl.EachAttr(a, func(_ uint16, value []byte) error {
			got = parseComment(value)
			return nil
		}); err != nil || got != text {
			t.Errorf("got %q and error %v, want %q", got, err, text)
		}
	}
	if got := parseComment([]byte{1, 1, 7, 0, 2, 'x', 0}); got != "x" {
		t.Errorf("got %q, want the comment behind something else", got)
	}
}

// FuzzParse checks that nothing that could be received makes us panic.
func FuzzParse(f *testing.F) {
	p := longest()
	m := ipv6.request(0, 0)
	m.elements(p.elements()[:3])
	f.Add([]byte(m.payload))
	f.Add(m.appendTo(nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for s := range setCount {
			_, _ = parseElements(s, b)
		}
		_, _ = parseTable(b)
		_, _ = parseChain(b)
		_ = parseComment(b)
		var a answer
		for rest := b; len(rest) > 0; {
			var r nlconn.Message
			var err error
			if r, rest, err = nlconn.Next(rest); err != nil {
				return
			}
			a.add(r)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// torn traces, and then cannot say everything.
type torn struct{ Switches }

func (torn) WatchDrops(context.Context, []int, []vnet.MAC) (func(context.Context) ([]Drop, error), error) {
	return func(context.Context) ([]Drop, error) {
		return []Drop{{Target: macA, Rule: "drop"}}, errors.New("iptables-legacy-save: exit status 1")
	}, nil
}

// TestTracingFails checks that a trace that cannot be ended well ends no run, and
// what it said is used.
func TestTracingFails(t *testing.T) {
	r, n := &run{opts: Options{Switches: torn{}}}, healthy()
	r.opts.defaults()
	if err := r.tracing(t.Context(), []*nic{n}, func(context.Context) error { return nil }); err != nil {
		t.Errorf("error %v", err)
	}
	if len(n.drops) != 1 {
		t.Errorf("drops %+v", n.drops)
	}
}

// TestBlameRule checks which dropped frames explain that a guest is silent.
func TestBlameRule(t *testing.T) {
	vantage, stranger := vnet.MAC{2, 1}, vnet.MAC{2, 2}
	bridge := Drop{By: DropByBridge, Place: "table bridge f, chain c, rule 3", Rule: "drop", Fix: "nft delete rule", Frames: 3}
	host := Drop{By: DropByHost, Place: "table ip filter, chain FORWARD, policy", IP: true}
	guard := Drop{By: DropByGuard, Place: "table bridge virt_vnet, chain arp_address, rule 9", Sender: ipB}
	with := func(d Drop, source, target vnet.MAC, in int) Drop {
		d.Source, d.Target, d.In = source, target, in
		return d
	}
	noARP := func(n *nic) { n.probe.target.arp = false }
	noICMP := func(n *nic) { n.probe.target.icmp = false }
	onIP := func(d Drop) Drop { d.IP = true; return d }
	const port, other = 7, 8
	for _, test := range []struct {
		name    string
		spoil   func(*nic)
		drop    Drop
		code    string
		subject string
	}{
		{"request", noARP, with(bridge, vantage, macA, other), CodeFiltered, bridge.Place},
		{"answer", noARP, with(bridge, macA, vantage, port), CodeFiltered, bridge.Place},
		{"ping", noICMP, with(onIP(bridge), vantage, macA, other), CodeFiltered, bridge.Place},
		{"ping, in the host's firewall", noICMP, with(host, vantage, macA, other), CodeBridgeNetfilter, "br_netfilter"},
		{"answer, in its guard", noARP, with(guard, macA, vantage, port), CodeGuardDrops, "guest web1, NIC vnet0"},
		{"whatever, in its guard", noARP, with(guard, macB, stranger, port), CodeGuardDrops, "guest web1, NIC vnet0"},
		{"request of somebody else", noARP, with(bridge, stranger, macA, other), CodeNoARP, "guest web1, NIC vnet0"},
		{"something else of the guest", noARP, with(bridge, macA, stranger, port), CodeNoARP, "guest web1, NIC vnet0"},
		{"a ping while ARP is silent", noARP, with(host, vantage, macA, other), CodeNoARP, "guest web1, NIC vnet0"},
		{"ARP while ping is silent", noICMP, with(bridge, stranger, macA, other), CodeICMPFiltered, "guest web1, NIC vnet0"},
		{"never learned, for a rule drops the requests", silent, with(bridge, vantage, macA, other), CodeFiltered, bridge.Place},
		{"never learned, for another reason", silent, with(bridge, stranger, macA, other), CodeMACNotLearned, "guest web1, NIC vnet0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := healthy()
			n.segment.prober.mac = vantage
			test.spoil(n)
			n.drops = []Drop{test.drop}
			n.climbAll()
			p := n.problem
			if p == nil || p.Code != test.code || p.Subject != test.subject {
				t.Fatalf("got %+v, want %s of %s", p, test.code, test.subject)
			}
			named := slices.ContainsFunc(p.Evidence, func(line string) bool { return strings.HasPrefix(line, test.drop.Place+": ") })
			if blamed := test.drop.By != 0 && (p.Code == CodeFiltered || p.Code == CodeBridgeNetfilter || p.Code == CodeGuardDrops); named != blamed {
				t.Errorf("the rule is named: %t; evidence %q", named, p.Evidence)
			}
			if p.Fix == "" || p.Got == "" || p.Want == "" {
				t.Errorf("half a diagnosis: %+v", p.Problem)
			}
		})
	}
}

// A counter that differs from guest to guest must not make one rule many
// findings.
func TestRuleText(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"ip protocol icmp counter packets 3 bytes 252 drop", "ip protocol icmp counter drop"},
		{`ether type arp drop comment "x"`, `ether type arp drop comment "x"`},
		{"counter packets 3 bytes 252", "counter"},
		{"", ""},
	} {
		if got := rule(test.text); got != test.want {
			t.Errorf("rule(%q) = %q, want %q", test.text, got, test.want)
		}
	}
}

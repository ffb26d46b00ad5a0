// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn_test

import (
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// testRate is far below what the slowest machine passes.
const testRate = 16e6

// rules are the QoS rules of the northbound database.
func (s *site) rules() string {
	s.Helper()
	return nbctl(s.T, s.c, "--bare", "--columns=_uuid", "list", "QoS")
}

// TestLimits measures what real transfers get, and checks that limits are facts
// and end with their port.
func TestLimits(t *testing.T) {
	s := startSite(t, 1)
	a, p := s.station(0, "ct0", 5)
	b, q := s.station(0, "ct1", 6)
	s.mustWire(0, p, q)
	p.Policy.QoS = vnet.QoS{Inbound: vnet.Rate{Bits: 1.5 * testRate}, Outbound: vnet.Rate{Bits: testRate}}
	undo := s.plan(p).Reverse()
	s.mustWire(0, p)
	out, in := switchtest.Limited(t, "outbound", a, b, testRate), switchtest.Limited(t, "inbound", b, a, 1.5*testRate)
	t.Logf("outbound %.0f Mbit/s: a transfer gets %.2f; inbound %.0f: %.2f", testRate/1e6, out/1e6, 1.5*testRate/1e6, in/1e6)

	for _, meddle := range [][]string{
		{"set", "QoS", strings.Fields(s.rules())[0], "bandwidth:rate=5"},
		{"clear", "Logical_Switch", "red", "qos_rules"},
	} {
		nbctl(t, s.c, meddle...)
		if plan := s.plan(p).String(); !strings.Contains(plan, "bound rate: none -> ") {
			t.Errorf("%q, and the plan is:\n%s", meddle, plan)
		}
		s.mustWire(0, p)
		if plan := s.plan(p); !plan.Empty() || len(strings.Fields(s.rules())) != 2 {
			t.Errorf("%q, and after apply there are the rules %s, and to do:\n%s", meddle, s.rules(), plan)
		}
	}

	nbctl(t, s.c, "qos-add", "red", "to-lport", "7", "ip4", "rate=1000000") // somebody else's
	if _, err := s.drivers[0].Apply(t.Context(), undo); err != nil {
		t.Fatal(err)
	}
	if left := strings.Fields(s.rules()); len(left) != 1 {
		t.Errorf("after the undo there are the rules %q, want that of others", left)
	}
	if free := switchtest.Transfer(t, a, b); free < 3*testRate {
		t.Errorf("without a limit: %.1f Mbit/s", free/1e6)
	}
	for _, end := range []string{"", switchtest.InterfaceID("ct0")} {
		s.mustWire(0, p)
		if end != "" {
			nbctl(t, s.c, "lsp-del", end) // somebody else was there first
		}
		s.release(0)
		if left := strings.Fields(s.rules()); len(left) != 1 {
			t.Errorf("after the guest's end there are the rules %q, want that of others", left)
		}
	}
}

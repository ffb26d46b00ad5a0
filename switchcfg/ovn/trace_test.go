// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"slices"
	"testing"
)

// TestParseTrace reads what ovn-trace 23.03 prints of a packet that is delivered,
// dropped, or answered with a reset.
func TestParseTrace(t *testing.T) {
	const (
		ingress = "ingress(dp=\"red\", inport=\"a\")\n---\n" +
			" 0. ls_in_check_port_sec (northd.c:8432): 1, priority 50, uuid ad23f169\n    reg0[15] = check_in_port_sec();\n    next;\n" +
			"25. ls_in_l2_lkup (northd.c:9122): eth.dst == 52:54:00:00:20:12, priority 50, uuid 4c42d029\n    outport = \"b\";\n    output;\n\n" +
			"egress(dp=\"red\", inport=\"a\", outport=\"b\")\n---\n"
		output = " 9. ls_out_apply_port_sec (northd.c:5777): 1, priority 0, uuid 2d428459\n    output;\n    /* output to \"b\", type \"\" */\n"
		acl    = " 4. ls_out_acl (northd.c:6588): ip4 && tcp.dst == 22, priority 2500, uuid ca6299a2\n"
	)
	dropped := "ls_out_acl: ip4 && tcp.dst == 22, priority 2500"
	for name, test := range map[string]struct {
		out       string
		delivered bool
		stage     string
	}{
		"delivered": {ingress + output, true, ""},
		"dropped":   {ingress + acl + "    drop;\n", false, dropped},
		"rejected":  {ingress + acl + "    reg0 = 0;\n    reject { outport <-> inport; };\n\ntcp_reset\n---\n" + ingress + output, false, dropped},
	} {
		if got, _ := parseTrace(test.out); got.Delivered != test.delivered || got.Stage != test.stage {
			t.Errorf("%s: got %+v, want %v and %q", name, got, test.delivered, test.stage)
		}
	}
}

// TestParseFlows reads what ovs-ofctl 3.1 prints.
func TestParseFlows(t *testing.T) {
	const out = "NXST_FLOW reply (xid=0x4):\n" +
		" cookie=0x3866f150, duration=15.008s, table=74, n_packets=4, n_bytes=240, idle_age=0, priority=80,arp,reg14=0x1 actions=drop\n"
	want := []flow{{cookie: 0x3866f150, table: 74, packets: 4, text: "priority=80,arp,reg14=0x1 actions=drop"}}
	if got := parseFlows(out); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := cookieOf("3866f150-67a5-4e65-9fa5-be3ce346d203"); got != want[0].cookie {
		t.Errorf("cookie: got %#x, want %#x", got, want[0].cookie)
	}
}

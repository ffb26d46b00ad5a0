// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// trunkExample takes a guest with VLAN interfaces of its own.
const trunkExample = "../examples/ovs-trunk-appliance"

// TestTrunkAppliance follows the README of the example with a real router, between
// a machine in each of its VLANs, and one that looks at what the mirror sends.
func TestTrunkAppliance(t *testing.T) {
	h := newHost(t, filepath.Join(trunkExample, "spec.yaml"))
	station := func(name, device string, vlan uint16, address string) *lab.Station {
		s := &lab.Station{Name: name, Bridge: "br0", Device: device, VLAN: vlan}
		if address != "" {
			s.Addresses = []netip.Prefix{netip.MustParsePrefix(address)}
		}
		if err := h.AddStation(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	ids := station("ids", "span0", 0, "")
	red, blue := station("red-pc", "", 20, "10.0.20.11/24"), station("blue-pc", "", 30, "10.0.30.11/24")
	for s, gateway := range map[*lab.Station]string{red: "10.0.20.1", blue: "10.0.30.1"} {
		if _, err := s.Run(t.Context(), "ip", "route", "add", "default", "via", gateway); err != nil {
			t.Fatal(err)
		}
	}
	golden.Check(t, filepath.Join(trunkExample, "plan.txt"), h.must(0, "plan"))
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	router := stage.Guests(h.spec.Topology)[0]
	router.NICs[0].VLANs = []lab.SubInterface{
		{ID: 20, Address: netip.MustParsePrefix("10.0.20.1/24")}, {ID: 30, Address: netip.MustParsePrefix("10.0.30.1/24")},
	}
	if err := h.Boot(t.Context(), router); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Exec(t.Context(), "router", "echo 1 >/proc/sys/net/ipv4/ip_forward"); err != nil {
		t.Fatal(err)
	}
	h.must(0, "plan", "--detailed-exitcode") // rates are in a plan unless they are seen in force
	routesInView(t, red, blue, ids)
	if got := h.vsctl("--bare", "--columns=other_config", "find", "QoS", "external_ids:virt-vnet-port="+h.device("router", "routed")); got != "max-rate=200000000" {
		t.Errorf("the rate towards the router: %q", got)
	}

	h.vsctl("clear", "mirror", "ids", "select_src_port", "--", "set", "mirror", "ids", "select_vlan=20")
	h.must(3, "plan", "--detailed-exitcode")
	out := h.must(0, "repair")
	for _, want := range []string{"mirrors: ids in -> ids", "mirror ids: guests, VLANs 20 to port span0 -> guests, VLANs 20,30 to port span0"} {
		if !strings.Contains(out, want) {
			t.Errorf("repair does not say %q:\n%s", want, out)
		}
	}
	h.must(0, "plan", "--detailed-exitcode")
	routesInView(t, red, blue, ids)

	sw := h.spec.Topology.Switches[0]
	h.spec.Topology.Switches[0].Mirrors = nil
	write := func() {
		if err := config.Write(filepath.Join(config.Dir, "site.yaml"), h.spec.Topology); err != nil {
			t.Fatal(err)
		}
	}
	write()
	if out := h.must(3, "plan", "--detailed-exitcode"); !strings.Contains(out, "mirror ids: guests, VLANs 20,30 to port span0 -> none") {
		t.Errorf("the plan for a mirror that is taken out of the spec:\n%s", out)
	}
	h.must(0, "apply")
	if left := h.vsctl("--bare", "--columns=name", "list", "mirror"); left != "" {
		t.Errorf("mirrors left: %s", left)
	}
	h.must(0, "plan", "--detailed-exitcode")
	h.spec.Topology.Switches[0] = sw
	write()
	h.must(0, "apply")
	routesInView(t, red, blue, ids)
	takeBack(t, h)
	if left := h.vsctl("--bare", "--columns=name", "list", "mirror"); left != "" {
		t.Errorf("mirrors left: %s", left)
	}
}

// routesInView pings from one VLAN to the other, and looks for the frames of both
// where the mirror sends them.
func routesInView(t *testing.T, red, blue, ids *lab.Station) {
	t.Helper()
	l, err := ids.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only read from
	const limit = 10 * time.Second
	var in20, in30 bool
	for end := time.Now().Add(limit); !in20 || !in30; {
		if err := red.WaitPing(t.Context(), blue.Addresses[0].Addr(), limit); err != nil {
			t.Fatal(err)
		}
		_, err := l.Sees(func(f []byte) bool {
			if len(f) > 38 && f[12] == 0x81 && binary.BigEndian.Uint16(f[16:]) == 0x0800 && f[27] == 1 { // ICMP behind a tag
				vlan := binary.BigEndian.Uint16(f[14:]) & 0xfff
				in20, in30 = in20 || vlan == 20, in30 || vlan == 30
			}
			return in20 && in30
		}, 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatalf("the mirror shows frames of VLAN 20: %t, of VLAN 30: %t", in20, in30)
		}
	}
}

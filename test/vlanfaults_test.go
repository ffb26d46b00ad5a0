// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// trunkAddress is that of a NIC of web2 which is plugged in while the guest runs.
const trunkAddress = "10.0.40.12"

// vlanFault is what somebody may do by hand to the VLANs of br0. Those of Open
// vSwitch, and all else that can be wrong, are in test/faults.
type vlanFault struct {
	name   string
	inject string // a shell line, with web1's port as $web1, and web2's trunk as $trunk
	// code and subject are what verify must name, and blames whom it is about.
	code, subject string
	blames        []string
	verdict       verify.Verdict
}

func vlanFaultTable() []vlanFault {
	const access, trunk = "guest web1, NIC $web1", "guest web2, NIC $trunk"
	web1, both, red := []string{"web1 (red)"}, []string{"web2 (both)"}, []string{"web1 (red)", "web2 (red)"}
	return []vlanFault{
		{
			"another network's VLAN", "bridge vlan del dev $web1 vid 20; bridge vlan add dev $web1 vid 30 pvid untagged",
			verify.CodeWrongVLAN, access, web1, verify.VerdictLeak,
		},
		{
			"VLAN that nobody uses", "bridge vlan del dev $web1 vid 20; bridge vlan add dev $web1 vid 99 pvid untagged",
			verify.CodeWrongVLAN, access, web1, verify.VerdictFail,
		},
		{
			"frames leave with a tag", "bridge vlan add dev $web1 vid 20 pvid",
			verify.CodeWrongVLAN, access, web1, verify.VerdictFail,
		},
		{
			"no PVID", "bridge vlan add dev $web1 vid 20 untagged",
			verify.CodeWrongVLAN, access, web1, verify.VerdictFail,
		},
		{
			"another network's VLAN besides", "bridge vlan add dev $web1 vid 30",
			verify.CodeWrongVLAN, access, web1, verify.VerdictLeak,
		},
		{
			"trunk without one of its VLANs", "bridge vlan del dev $trunk vid 30",
			verify.CodeWrongVLAN, trunk, both, verify.VerdictFail,
		},
		{
			"native and tagged VLAN swapped", "bridge vlan add dev $trunk vid 40; bridge vlan add dev $trunk vid 30 pvid untagged",
			verify.CodeWrongVLAN, trunk, both, verify.VerdictLeak,
		},
		{
			"uplink without the VLAN", "bridge vlan del dev eth1 vid 20",
			verify.CodeUplinkVLAN, "uplink eth1", red, verify.VerdictFail,
		},
		{
			"filtering off", "ip link set br0 type bridge vlan_filtering 0",
			verify.CodeWrongVLAN, "switch br0",
			[]string{"db1 (blue)", "web1 (red)", "web2 (both)", "web2 (red)"},
			verify.VerdictLeak,
		},
	}
}

// vlanFaults has verify name each fault of the table, and heals it by the very
// command that the finding names.
func vlanFaults(t *testing.T, h *host, ports []port) {
	t.Setenv("PATH", h.bin+":"+os.Getenv("PATH"))
	for _, p := range ports {
		t.Setenv(p.guest, p.device)
	}
	plugTrunk(t, h)
	for _, f := range vlanFaultTable() {
		t.Run(f.name, func(t *testing.T) { f.run(t, h.with(t)) })
	}
}

// plugTrunk gives web2 a NIC with a native VLAN and one more.
func plugTrunk(t *testing.T, h *host) {
	const network = "both"
	topology := &h.spec.Topology
	topology.Networks = append(topology.Networks, vnet.Network{
		Name: network, Mode: vnet.ModeBridge, Switch: "br0", Subnet: netip.MustParsePrefix("10.0.40.0/24"),
		Policy: vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 30, Last: 30}}, Native: 40}},
	})
	web2 := slices.IndexFunc(topology.Guests, func(g vnet.Guest) bool { return g.Name == "web2" })
	nic := vnet.NIC{Network: network, MAC: vnet.MAC{0x52, 0x54, 0, 0, 0x40, 0x12}, Address: netip.MustParseAddr(trunkAddress)}
	topology.Guests[web2].NICs = append(topology.Guests[web2].NICs, nic)
	if err := config.Write(filepath.Join(config.Dir, "site.yaml"), *topology); err != nil {
		t.Fatal(err)
	}
	h.must(0, "apply")
	h.must(0, "define", "interface", "web2", "--network", network, "--mac", nic.MAC.String(), "--live")
	t.Setenv("trunk", h.device("web2", network))
	if _, err := h.Exec(t.Context(), "web2", "until ip link set eth1 up; do sleep 1; done; ip addr add "+trunkAddress+"/24 dev eth1"); err != nil {
		t.Fatal(err)
	}
	h.passes(t)
}

func (f vlanFault) run(t *testing.T, h *host) {
	tool(t, "sh", "-ec", f.inject)
	start := time.Now()
	r := h.report("verify")
	took := time.Since(start)
	if r.Verdict() != f.verdict {
		t.Errorf("verdict %s, want %s", r.Verdict(), f.verdict)
	}
	if len(r.Problems) == 0 {
		t.Fatal("nothing is named")
	}
	for _, p := range r.Problems {
		if p.Code != f.code || p.Subject != os.ExpandEnv(f.subject) || !slices.Equal(blamed(p), f.blames) {
			t.Errorf("%s of %q is named, of %v: got %q, want %q, %v", p.Code, p.Subject, blamed(p), p.Got, p.Want, p.Evidence)
		}
		t.Logf("fix: %s", p.Fix)
		tool(t, "sh", "-ec", p.Fix)
	}
	h.passes(t)
	t.Logf("named in %v", took)
}

// passes waits until verify passes.
func (h *host) passes(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		r := h.report("verify")
		if r.Verdict() == verify.VerdictPass {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("verify does not pass, but says %s: %+v", r.Verdict(), r.Problems)
		}
	}
}

func blamed(p verify.Problem) []string {
	var list []string
	for _, e := range p.Affects {
		list = append(list, e.String())
	}
	slices.Sort(list)
	return list
}

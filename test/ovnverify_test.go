// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/verify"
)

// healthyRuns is how often a healthy network is looked at.
const healthyRuns = 20

// newChassis is two chassis of OVN with the networks and guests of the spec, a
// guest on each.
func newChassis(t *testing.T) *hosts {
	t.Helper()
	lab.Need(t, lab.Libvirt, lab.Guests, lab.OVN)
	ctx := t.Context()
	h := &hosts{t: t, bin: programs(t)}
	h.Cluster = labtest.StartCluster(t, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	text, err := os.ReadFile("testdata/two-chassis.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h.useSpec(strings.ReplaceAll(string(text), "@NB@", h.Central.NBTCP()))
	spec, err := config.Load(h.spec)
	if err != nil {
		t.Fatal(err)
	}
	guests := stage.Guests(spec.Topology)
	each := func(do func(*lab.Host, *lab.Guest) error) {
		t.Helper()
		for i, g := range guests {
			if err := do(h.Hosts[i], g); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.apply(0) // the networks, without which there are no guests
	each(func(host *lab.Host, g *lab.Guest) error { return host.DefineGuest(ctx, g) })
	h.apply(0) // what the spec says of guests goes to those that there are
	each(func(host *lab.Host, g *lab.Guest) error { return host.StartGuest(ctx, g.Name) })
	each(func(host *lab.Host, g *lab.Guest) error { return host.WaitUp(ctx, g.Name) })
	if err := h.Central.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	return h
}

// verify runs virt-vnet verify on a host, for the guests that are there.
func (h *hosts) verify(host *lab.Host, guests ...string) verify.Report {
	h.t.Helper()
	args := append([]string{filepath.Join(h.bin, "virt-vnet"), "verify", "-f", h.spec, "-o", "json"}, guests...)
	out, err := host.Run(h.t.Context(), args...)
	var r verify.Report
	if errJSON := json.Unmarshal([]byte(out), &r); errJSON != nil {
		h.t.Fatalf("%s: verify: %v: %v: %s", host.Name, err, errJSON, out)
	}
	return r
}

// wants compares the problems of a report, as "CODE subject".
func (h *hosts) wants(what string, r verify.Report, want ...string) {
	h.t.Helper()
	var got []string
	for _, p := range r.Problems {
		got = append(got, p.Code+" "+p.Subject)
		if p.Fix == "" || len(p.Evidence) == 0 {
			h.t.Errorf("%s: %s has no evidence or no fix: %+v", what, p.Code, p)
		}
	}
	if !slices.Equal(got, want) {
		text, _ := json.MarshalIndent(r, "", " ")
		h.t.Errorf("%s: got %q, want %q\n%s", what, got, want, text)
	}
}

// TestVerifyOVN looks at healthy networks over and over, and then breaks them, a
// thing at a time.
func TestVerifyOVN(t *testing.T) {
	h := newChassis(t)
	begin := time.Now()
	for i := range healthyRuns {
		r := h.verify(h.Hosts[i%2])
		h.wants("healthy", r)
		h.spans(r, h.Hosts[(i+1)%2])
		if r.Verdict() != verify.VerdictPass {
			text, _ := json.MarshalIndent(r, "", " ")
			t.Fatalf("healthy: run %d: %s\n%s", i, r.Verdict(), text)
		}
	}
	t.Logf("%d healthy runs in %v", healthyRuns, time.Since(begin))
	t.Run("other hosts", func(t *testing.T) { h.with(t).missesGuests() })
	t.Run("wait", func(t *testing.T) { h.with(t).waitsForEcho() })
	t.Run("foreign sources", func(t *testing.T) { h.with(t).sendsForeign() })
	t.Run("ACL", func(t *testing.T) { h.with(t).filters() })
	t.Run("bound elsewhere", func(t *testing.T) { h.with(t).boundElsewhere() })
	t.Run("flows removed", func(t *testing.T) { h.with(t).losesFlows() })
	t.Run("no chassis", func(t *testing.T) { h.with(t).losesChassis() })
	t.Run("controller killed", func(t *testing.T) { h.with(t).losesControllerAndTunnel() })
	t.Run("southbound lost", func(t *testing.T) { h.with(t).losesSouthbound() })
	t.Run("no iface-id", func(t *testing.T) { h.with(t).losesInterfaceID() })
}

// spans checks that a report has the guests of all hosts, those of the other one
// asked through the tunnel.
func (h *hosts) spans(r verify.Report, other *lab.Host) {
	h.t.Helper()
	away := map[string]string{"host1": "a", "host2": "b"}[other.Name]
	var guests []string
	for _, n := range r.NICs {
		guests = append(guests, n.Guest)
		switch {
		case (n.Host == other.Name) != (n.Guest == away):
			h.t.Errorf("NIC %v: on host %q", n.Endpoint, n.Host)
		case n.Guest == away && n.Network == "red" && n.Rung(verify.RungICMP).Status != verify.StatusPass:
			h.t.Errorf("NIC %v of host %s: ICMP: %+v", n.Endpoint, n.Host, n.Rung(verify.RungICMP))
		}
	}
	reached := slices.ContainsFunc(r.Pairs, func(p verify.PairResult) bool {
		return p.To.Guest == away && p.Expect == verify.ExpectReach && p.Status == verify.StatusPass
	})
	if slices.Sort(guests); !slices.Equal(guests, []string{"a", "a", "b"}) || !reached || len(r.Notes) == 0 {
		h.t.Errorf("guests %v, other host's reached: %v, notes %q", guests, reached, r.Notes)
	}
}

// missesGuests has a guest that is on none of the hosts, one that may be on a host
// that does not answer, and a look from a machine that is no host.
func (h *hosts) missesGuests() {
	one := h.Hosts[0]
	text, err := os.ReadFile(h.spec)
	if err != nil {
		h.t.Fatal(err)
	}
	more := string(text) + "  c:\n    nics: [{network: red, mac: \"52:54:00:00:20:13\"}]\n"
	h.write(more)
	h.wants("a guest that no host has", h.verify(one), "DOMAIN_DOWN guest c")
	h.write(strings.Replace(more, "hosts:\n", "hosts:\n  host3: {uri: \"qemu+tcp://host1:1/system\"}\n", 1))
	r := h.verify(one)
	h.wants("a host that does not answer", r)
	if r.Verdict() != verify.VerdictInconclusive || len(r.Limits) != 1 || !strings.Contains(r.Limits[0], "host3") {
		h.t.Errorf("a host that does not answer: %s, with limits %q", r.Verdict(), r.Limits)
	}
	h.write(string(text))
	out, _ := h.virtVnet(6, "verify", "-f", h.spec, "-o", "json")
	r = verify.Report{}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatal(err)
	}
	h.wants("from no host", r)
	if len(r.NICs) != 3 || len(r.Limits) != 1 || slices.ContainsFunc(r.NICs, func(n verify.NICResult) bool { return n.Host == "" }) {
		h.t.Errorf("from no host: %d NICs, with limits %q", len(r.NICs), r.Limits)
	}
}

// device is the port of the guest's NIC with that MAC, and id its logical one.
func (h *hosts) device(host *lab.Host, mac string) (device, id string) {
	h.t.Helper()
	out := h.on(host, "ovs-vsctl", "--bare", "--columns=name,external_ids", "find", "Interface", "external_ids:attached-mac=\""+mac+"\"")
	for word := range strings.FieldsSeq(out) {
		if device == "" {
			device = word
		}
		if value, found := strings.CutPrefix(word, "iface-id="); found {
			id = value
		}
	}
	if device == "" || id == "" {
		h.t.Fatalf("%s has no port of %s: %q", host.Name, mac, out)
	}
	return device, id
}

// sync waits until every chassis has followed the northbound database.
func (h *hosts) sync() {
	h.t.Helper()
	if err := h.Central.Sync(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hosts) nbctl(args ...string) string {
	h.t.Helper()
	out, err := h.Central.Nbctl(h.t.Context(), args...)
	if err != nil {
		h.t.Fatalf("ovn-nbctl %v: %v: %s", args, err, out)
	}
	return out
}

// waitsForEcho waits for a guest that does not answer yet, though OVN answers ARP in
// its place.
func (h *hosts) waitsForEcho() {
	const ignore = "/proc/sys/net/ipv4/icmp_echo_ignore_all"
	one := h.Hosts[0]
	out, err := one.Exec(h.t.Context(), "a", "echo 1 > "+ignore+"; (sleep 3; echo 0 > "+ignore+") >/dev/null 2>&1 &")
	if err != nil {
		h.t.Fatal(err, out)
	}
	r := h.verify(one, "--wait=1m", "a")
	h.wants("after the wait", r)
	for _, n := range r.NICs {
		if n.ReachableAfter == 0 {
			h.t.Errorf("after the wait: NIC %v was not waited for", n.Endpoint)
		}
	}
}

// sendsForeign has a guest send from an address, and from a MAC, that its logical
// port does not allow. Whoever does not send at all is not blamed for that.
func (h *hosts) sendsForeign() {
	one, ctx := h.Hosts[0], h.t.Context()
	device, _ := h.device(one, "52:54:00:00:20:11")
	in := func(command string) {
		h.t.Helper()
		if out, err := one.Exec(ctx, "a", command); err != nil {
			h.t.Fatalf("in guest a: %s: %v: %s", command, err, out)
		}
	}
	guarded := func(what, from string) {
		h.t.Helper()
		r := h.verify(one, "a")
		h.wants(what, r, "GUARD_DROPS guest a, NIC "+device)
		h.blames(what, r, "red")
		h.shows(r, from, "port_security", "52:54:00:00:20:11 10.0.20.11")
	}
	ipv6 := func(off string) { in("echo " + off + " > /proc/sys/net/ipv6/conf/eth0/disable_ipv6") }
	ipv6("1") // it solicits routers whenever it likes, and is not silent then
	in("ip addr del 10.0.20.11/24 dev eth0; ip addr add 10.0.20.99/24 dev eth0")
	guarded("another address", "52:54:00:00:20:11 10.0.20.99")
	in("ip addr del 10.0.20.99/24 dev eth0; ip addr add 10.0.20.11/24 dev eth0")
	in("ip link set eth0 address 52:54:00:00:20:99")
	h.wants("another MAC, and silent", h.verify(one, "a"), "GUEST_SILENT guest a, NIC "+device)
	in("(ping -c 100 -i 0.2 10.0.20.12 >/dev/null 2>&1 &)")
	guarded("another MAC", "52:54:00:00:20:99 10.0.20.11")
	in("killall ping; ip link set eth0 address 52:54:00:00:20:11")
	ipv6("0")
	r := h.verify(one, "a")
	h.wants("itself again", r)
	if r.Verdict() != verify.VerdictPass {
		h.t.Errorf("itself again: %s", r.Verdict())
	}
}

// filters has ACLs drop what the spec expects: one that somebody else has made,
// and one of the spec itself, which contradicts it.
func (h *hosts) filters() {
	one := h.Hosts[0]
	text, err := os.ReadFile(h.spec)
	if err != nil {
		h.t.Fatal(err)
	}
	spec := func(acl string) {
		h.t.Helper()
		with := strings.Replace(string(text), "    anti_spoof: true\n", "    anti_spoof: true\n    acls: ["+acl+"]\n", 1)
		h.write(with + "expect:\n  - {from: a/red, tcp: \"10.0.20.12:22\"}\n  - {from: a/red, reach: 10.0.20.12}\n")
		h.apply(0)
	}
	spec("")
	h.nbctl("--wait=hv", "--name=block", "acl-add", "red", "to-lport", "1500", "ip4 && tcp.dst == 22", "drop")
	r := h.verify(one, "a")
	h.wants("a foreign ACL for TCP", r, `FILTERED ACL "block"`)
	h.blames("a foreign ACL for TCP", r)
	h.shows(r, "ip4 && tcp.dst == 22", "ovn-trace", "not of the spec")

	h.nbctl("--wait=hv", "--name=noping", "acl-add", "red", "to-lport", "1600", "ip4 && icmp4", "drop")
	r = h.verify(one, "a")
	h.wants("a foreign ACL for ICMP", r, `FILTERED ACL "noping"`)
	h.blames("a foreign ACL for ICMP", r, "red")
	h.nbctl("--wait=hv", "acl-del", "red")

	spec("{direction: in, action: drop, protocol: tcp, ports: 22}, {direction: in, action: drop, protocol: icmp}")
	r = h.verify(one, "a")
	h.wants("the spec's own ACLs", r, `FILTERED ACL "in drop icmp" of network red`, `FILTERED ACL "in drop tcp ports 22" of network red`)
	h.blames("the spec's own ACLs", r)
	h.shows(r, "acls: of network red and "+h.spec, "contradict each other")
	for _, n := range r.NICs {
		if rung := n.Rung(verify.RungICMP); n.Network == "red" && rung.Status != verify.StatusSkip {
			h.t.Errorf("the spec's own ACL for ICMP: %+v", rung)
		}
	}
	h.write(string(text))
	h.apply(0)
	h.wants("without ACLs", h.verify(one, "a"))
}

// shows checks that the first problem says all this.
func (h *hosts) shows(r verify.Report, parts ...string) {
	h.t.Helper()
	if len(r.Problems) == 0 {
		return // which is an error already
	}
	said := r.Problems[0].Got + "\n" + strings.Join(r.Problems[0].Evidence, "\n")
	for _, part := range parts {
		if !strings.Contains(said, part) {
			h.t.Errorf("no %q in %s", part, said)
		}
	}
}

// boundElsewhere gives the port of a guest to the other host, which has a device
// with its iface-id, too: a copy of the guest that was started there.
func (h *hosts) boundElsewhere() {
	one, two := h.Hosts[0], h.Hosts[1]
	device, id := h.device(one, "52:54:00:00:20:11")
	h.on(two, "ovs-vsctl", "add-port", lab.IntegrationBridge, "copy", "--",
		"set", "Interface", "copy", "type=internal", "external_ids:iface-id="+id)
	h.nbctl("--wait=hv", "set", "Logical_Switch_Port", id, "options:requested-chassis=host2")
	r := h.verify(one, "a")
	h.wants("bound elsewhere", r, "PORT_ELSEWHERE guest a, NIC "+device)
	h.blames("bound elsewhere", r, "red")
	h.on(two, "ovs-vsctl", "del-port", "copy")
	h.nbctl("--wait=hv", "set", "Logical_Switch_Port", id, "options:requested-chassis=host1")
	h.wants("bound here again", h.verify(one, "a"))
}

// blames checks that the NICs of these networks fail, and no other.
func (h *hosts) blames(what string, r verify.Report, networks ...string) {
	h.t.Helper()
	for _, n := range r.NICs {
		if failed := n.Status == verify.StatusFail; failed != slices.Contains(networks, n.Network) {
			h.t.Errorf("%s: NIC %v: %s", what, n.Endpoint, n.Status)
		}
	}
}

// losesFlows removes all that ovn-controller told the integration bridge.
func (h *hosts) losesFlows() {
	one := h.Hosts[0]
	h.on(one, "ovs-ofctl", "del-flows", lab.IntegrationBridge)
	r := h.verify(one, "a")
	h.wants("without flows", r, "FLOWS_MISSING chassis host1")
	h.blames("without flows", r, "red", "blue")
	// The other host sees no more than that nothing comes back.
	h.wants("without flows, from the other host", h.verify(h.Hosts[1]), "UNREACHABLE guest a")
	h.restart(one.Controller())
	h.wants("with flows again", h.verify(one, "a"))
}

// restart does what the report advises.
func (h *hosts) restart(d *lab.Daemon) {
	h.t.Helper()
	if err := d.Restart(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
	h.sync()
}

// losesChassis takes from the host what it needs to be a chassis.
func (h *hosts) losesChassis() {
	one, ctx := h.Hosts[0], h.t.Context()
	h.on(one, "ovs-vsctl", "remove", "Open_vSwitch", ".", "external_ids", "ovn-encap-ip")
	if out, err := h.Central.Sbctl(ctx, "chassis-del", "host1"); err != nil {
		h.t.Fatal(err, out)
	}
	r := h.verify(one, "a")
	h.wants("without the chassis", r, "CHASSIS_MISSING chassis host1")
	h.blames("without the chassis", r, "red", "blue")
	h.on(one, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-encap-ip="+one.Tunnel.String())
	h.sync()
	h.wants("a chassis again", h.verify(one, "a"))
}

// losesControllerAndTunnel kills ovn-controller, without which traffic goes on,
// and removes the tunnel.
func (h *hosts) losesControllerAndTunnel() {
	one, ctx := h.Hosts[0], h.t.Context()
	ping, err := one.StartPing(ctx, "a", netip.MustParseAddr("10.0.20.12"), 100*time.Millisecond)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := one.Controller().Kill(ctx); err != nil {
		h.t.Fatal(err)
	}
	// A vantage needs ovn-controller, so the guests are not asked.
	r := h.verify(one, "a")
	h.wants("with ovn-controller killed", r, "CONTROLLER_DOWN chassis host1")
	h.blames("with ovn-controller killed", r)
	if loss, err := one.StopPing(ctx, ping); err != nil || loss.Lost > 1 {
		h.t.Errorf("with ovn-controller killed: the ping: %+v, %v", loss, err)
	}
	tunnel := h.on(one, "ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "type=geneve")
	h.on(one, "ovs-vsctl", "del-port", strings.TrimSpace(tunnel))
	r = h.verify(one, "a")
	h.wants("without the tunnel", r, "CONTROLLER_DOWN chassis host1", "TUNNEL_DOWN tunnel from host1 to host2")
	if err := one.Controller().Start(ctx); err != nil {
		h.t.Fatal(err)
	}
	h.sync()
	h.wants("well again", h.verify(one, "a"))
}

// losesSouthbound has it that the southbound database is not known, and then
// that it is not there, which is no fault of ovn-controller.
func (h *hosts) losesSouthbound() {
	one, ctx := h.Hosts[0], h.t.Context()
	h.on(one, "ovs-vsctl", "remove", "Open_vSwitch", ".", "external_ids", "ovn-remote")
	r := h.verify(one, "a")
	h.limited("without ovn-remote", r, "ovn-remote")
	h.on(one, "ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ovn-remote="+h.Central.SBTCP())
	h.sync()
	if err := h.Central.SB().Stop(ctx); err != nil {
		h.t.Fatal(err)
	}
	h.limited("without the southbound database", h.verify(h.Hosts[1], "b"), "southbound database")
	if err := h.Hosts[1].Controller().Kill(ctx); err != nil {
		h.t.Fatal(err)
	}
	h.wants("without ovn-controller, too", h.verify(h.Hosts[1], "b"), "CONTROLLER_DOWN chassis host2")
	for _, err := range []error{h.Central.SB().Start(ctx), h.Hosts[1].Controller().Start(ctx)} {
		if err != nil {
			h.t.Fatal(err)
		}
	}
	h.sync()
	h.wants("with the southbound database again", h.verify(h.Hosts[1], "b"))
}

// limited checks that nothing fails and that a limit says what was not looked at.
func (h *hosts) limited(what string, r verify.Report, limit string) {
	h.t.Helper()
	h.wants(what, r)
	h.blames(what, r)
	named := slices.ContainsFunc(r.Limits, func(l string) bool {
		return strings.Contains(l, "bindings and tunnels") && strings.Contains(l, limit)
	})
	if !named || r.Verdict() != verify.VerdictInconclusive {
		h.t.Errorf("%s: %s, with limits %q", what, r.Verdict(), r.Limits)
	}
}

// losesInterfaceID takes from a port what makes it that of a logical one.
func (h *hosts) losesInterfaceID() {
	one := h.Hosts[0]
	device, _ := h.device(one, "52:54:00:00:20:11")
	h.on(one, "ovs-vsctl", "remove", "Interface", device, "external_ids", "iface-id")
	r := h.verify(one, "a")
	h.wants("without the iface-id", r, "PORT_NOT_BOUND guest a, NIC "+device)
	h.blames("without the iface-id", r, "red")
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/verify"
)

// newAgentHost boots the guests of a spec with agents in them and the addresses.
func newAgentHost(t *testing.T, specFile string, addresses map[string]string) *host {
	t.Helper()
	lab.NeedProgram(t, "qemu-ga")
	h := newHost(t, specFile)
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	guests := stage.Guests(h.spec.Topology)
	for _, g := range guests {
		g.Agent = true
		g.NICs[0].Addresses = []netip.Prefix{netip.MustParsePrefix(addresses[g.Name])}
	}
	if err := h.Boot(t.Context(), guests...); err != nil {
		t.Fatal(err)
	}
	return h
}

// exec runs a command in a guest, over its serial port.
func (h *host) exec(guest, command string) {
	h.t.Helper()
	if _, err := h.Exec(h.t.Context(), guest, command); err != nil {
		h.t.Fatal(err)
	}
}

// sources are where the guests' addresses are known from.
func sources(r verify.Report) map[string]verify.AddressSource {
	out := map[string]verify.AddressSource{}
	for _, n := range r.NICs {
		out[n.Guest] = n.AddressSource
	}
	return out
}

// TestAgents asks the agents of guests whose addresses nobody else knows: they
// answer, one hangs, and there is none.
func TestAgents(t *testing.T) {
	h := newAgentHost(t, "testdata/agent.yaml", map[string]string{"a": "10.0.80.11/24", "b": "10.0.80.12/24"})
	tainted := func() bool {
		out, err := h.Virsh(t.Context(), "dominfo", "a")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out, "guest agent")
	}
	if h.must(0, "list", "ports"); tainted() {
		t.Error("list ports has asked an agent")
	}
	answer := func() bool {
		s := sources(h.report("verify"))
		return s["a"] == verify.AddressAgent && s["b"] == verify.AddressAgent
	}
	h.eventually("both agents answer", answer)
	h.must(0, "verify")
	if !tainted() {
		t.Error("a guest whose agent has answered is not tainted, so the test of list ports proves nothing")
	}
	took := func() time.Duration {
		began := time.Now()
		h.must(0, "verify", "a") // which asks b's agent too
		return time.Since(began)
	}
	quick := took()

	h.exec("b", "killall -STOP qemu-ga")
	if slow := took() - quick; slow > 1500*time.Millisecond {
		t.Errorf("an agent that hangs costs %v, want a second", slow)
	}
	if s := sources(h.report("verify")); s["a"] != verify.AddressAgent || s["b"] != "" {
		t.Errorf("b's agent hangs: sources %v", s)
	}
	h.must(6, "verify")

	h.exec("b", "killall -CONT qemu-ga")
	h.eventually("both agents answer again", answer)
	h.must(0, "verify")

	h.exec("a", "killall qemu-ga")
	h.exec("b", "killall qemu-ga")
	h.eventually("without agents", func() bool {
		s := sources(h.report("verify"))
		return s["a"] == "" && s["b"] == ""
	})
}

// TestInGuest looks into guests that fail: by commands, by what the agent tells
// without them, and where it tells nothing.
func TestInGuest(t *testing.T) {
	h := newAgentHost(t, "testdata/inguest.yaml", map[string]string{"a": "10.0.81.11/24", "b": "10.0.81.12/24"})
	for _, guest := range []string{"a", "b"} {
		h.eventually("the agent of "+guest, func() bool {
			_, err := h.Virsh(t.Context(), "guestinfo", guest, "--interface")
			return err == nil
		})
	}
	h.must(0, "verify", "--in-guest")
	// found is the evidence of what is wrong with a guest, and the notes. Whether
	// it is called silent depends on what was heard of it before.
	found := func(guest string, args ...string) (evidence, notes string) {
		t.Helper()
		r := h.report(append([]string{"verify"}, args...)...)
		if len(r.Problems) != 1 || r.Problems[0].Affects[0].Guest != guest {
			t.Fatalf("problems %+v, want one of %s", r.Problems, guest)
		}
		t.Logf("%s: %s %q, notes %q", guest, r.Problems[0].Code, r.Problems[0].Evidence, r.Notes)
		return strings.Join(r.Problems[0].Evidence, "\n"), strings.Join(r.Notes, "\n")
	}
	wants := func(text string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("want %q in:\n%s", part, text)
			}
		}
	}

	h.exec("a", "ip link set eth0 arp off")
	if evidence, _ := found("a"); strings.Contains(evidence, "in guest") {
		t.Errorf("looked into the guest without being asked to:\n%s", evidence)
	}
	evidence, notes := found("a", "--in-guest")
	wants(evidence, "in guest a: eth0 is up, with MTU 1500", "in guest a: ARP is off at eth0 (NOARP)", "in guest a: eth0 has 10.0.81.11/24")
	if notes != "" {
		t.Errorf("notes %q, want none", notes)
	}
	h.exec("a", "ip link set eth0 arp on; sysctl -w net.ipv4.icmp_echo_ignore_all=1")
	evidence, _ = found("a", "--in-guest")
	wants(evidence, "in guest a: it ignores ICMP echo")
	h.exec("a", "sysctl -w net.ipv4.icmp_echo_ignore_all=0; ip addr flush dev eth0")
	evidence, _ = found("a", "--in-guest")
	wants(evidence, "in guest a: eth0 has no IPv4 address")

	h.exec("a", "/agent.sh --blacklist=guest-exec") // as RHEL has it
	h.eventually("the other agent", func() bool {
		_, err := h.Virsh(t.Context(), "qemu-agent-command", "a", `{"execute": "guest-exec", "arguments": {"path": "/sbin/ip"}}`)
		return err != nil && strings.Contains(err.Error(), "disabled")
	})
	evidence, notes = found("a", "--in-guest")
	wants(evidence, "in guest a: eth0 has no IPv4 address")
	wants(notes, "inside of a", "set not to run commands (guest-exec)")

	h.exec("a", "killall -STOP qemu-ga")
	evidence, notes = found("a", "--in-guest")
	if strings.Contains(evidence, "in guest") {
		t.Errorf("an agent that hangs told: %s", evidence)
	}
	wants(notes, "inside of a", "no agent answers")

	h.exec("a", "ip addr add 10.0.81.11/24 dev eth0")
	h.exec("b", "ip link set eth0 down")
	evidence, notes = found("b", "--in-guest")
	wants(evidence, "in guest b: eth0 is down")
	if notes != "" {
		t.Errorf("notes %q, want none", notes)
	}
}

// report is the report of verify, whatever it says.
func (h *host) report(args ...string) verify.Report {
	h.t.Helper()
	out, errOut, _ := h.run(append(args, "-o", "json")...)
	var r verify.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatalf("virt-vnet %v: %v\n%s%s", args, err, out, errOut)
	}
	return r
}

// eventually waits until something is so: libvirt hears of agents a moment later.
func (h *host) eventually(what string, so func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: not within a minute", what)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Frames of full length: a guest, a gateway and a whole path that take less.
func TestRunPathMTU(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.kernelGuest("web2", "red", "10.0.20.12/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	router := s.stranger("rt", br0, 0, "10.0.40.1/24")
	inside := func(st *lab.Station, mtu string) {
		t.Helper()
		_, err := st.Run(t.Context(), "ip", "link", "set", "eth0", "mtu", mtu)
		s.must(err)
	}
	says := func(r Report, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if all := brief(r); !strings.Contains(all, text) {
				t.Errorf("nothing says %q:\n%s", text, all)
			}
		}
	}

	report := s.verify()
	if report.Verdict() != VerdictPass {
		t.Errorf("healthy: want a pass:\n%s", brief(report))
	}
	for _, n := range report.NICs {
		if r := n.Rung(RungPathMTU); r.Status != StatusPass || !strings.Contains(r.Evidence[0], "1500 bytes") {
			t.Errorf("%s: path MTU %+v", n.Endpoint, r)
		}
	}

	// A guest may have a smaller MTU, unless the spec states one. (Its veth takes
	// four bytes more, for a VLAN tag.)
	inside(s.nsGuests["web1"], "1400")
	report = s.verify()
	if report.Verdict() != VerdictPass {
		t.Errorf("a guest's own choice: want a pass:\n%s", brief(report))
	}
	if r := report.NICs[2].Rung(RungPathMTU); !strings.Contains(strings.Join(r.Evidence, " "), "no more than 1404") {
		t.Errorf("path MTU of %s: %+v", report.NICs[2].Endpoint, r)
	}
	s.net("red").MTU = 1500
	report = s.verify()
	s.wantOnly(report, VerdictFail, CodePathMTU+" guest web1, NIC to-web1")
	says(report, "no more than 1404 do", "delivered to to-web1", "virsh console web1   # ip link set mtu 1500")

	// So it is for all: one finding.
	inside(s.nsGuests["web2"], "1400")
	report = s.verify()
	s.wantOnly(report, VerdictFail, CodePathMTU+" network red")
	if len(report.Problems) > 0 && len(report.Problems[0].Affects) != 2 {
		t.Errorf("it affects %v, want both", report.Problems[0].Affects)
	}
	inside(s.nsGuests["web1"], "1500")
	inside(s.nsGuests["web2"], "1500")

	inside(router, "1450")
	report = s.verify()
	s.wantOnly(report, VerdictFail, CodePathMTU+" network lan")
	says(report, "want 1500 bytes pass to gateway 10.0.40.1", "no more than 1454 do")
	inside(router, "1500")

	// Jumbo frames: the vantage's own device is made fit for them.
	for _, device := range []string{"to-web1", "to-web2", ovs0} {
		s.run("ip", "link", "set", device, "mtu", "9000")
	}
	inside(s.nsGuests["web1"], "9000")
	inside(s.nsGuests["web2"], "9000")
	s.net("red").MTU = 9000
	report = s.verify()
	for _, n := range report.NICs {
		r := n.Rung(RungPathMTU)
		if n.Network == "red" && (r.Status != StatusPass || !strings.Contains(r.Evidence[0], "9000 bytes")) {
			t.Errorf("%s: path MTU %+v", n.Endpoint, r)
		}
	}
}

func TestRunLatency(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.fakes["web2"].delay.Store(int64(5 * time.Millisecond))
	for _, n := range s.verify().NICs {
		if n.Latency != nil {
			t.Errorf("%s has latency %+v, and nobody asked for it", n.Endpoint, n.Latency)
		}
	}
	report := s.verify(func(o *Options) { o.Latency, o.Echoes = true, 7 })
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	for _, n := range report.NICs {
		l := n.Latency
		if l == nil || l.Sent != 7 || l.Received != 7 || l.Median <= 0 || l.Worst < l.Median || l.Worst > time.Second {
			t.Errorf("%s: latency %+v", n.Endpoint, l)
			continue
		}
		if slow := n.Guest == "web2"; slow != (l.Median >= 5*time.Millisecond) {
			t.Errorf("%s: median %v", n.Endpoint, l.Median)
		}
	}
}

// Answers that do not come are lost ones, and no more than that.
func TestEchoesCount(t *testing.T) {
	p := &prober{run: 7, mac: macA, source: ipB}
	e := &echoes{
		targets: []*target{{index: 3, addr: ipA}, {index: 5, addr: ipB}}, place: map[int]int{3: 0, 5: 1},
		start: time.Now(), sent: []time.Duration{1, 1, 1, 1}, took: make([]time.Duration, 4), missing: 4,
	}
	answer := func(index, number int, from netip.Addr, run uint32, after time.Duration) {
		e.take(seen{
			frame: frame{kind: frameEchoReply, sender: from, token: newToken(run, purposeLatency, index, number)},
			at:    e.start.Add(after),
		}, p.run)
	}
	answer(3, 0, ipA, 7, 3001)
	answer(3, 0, ipA, 7, 9001)         // twice
	answer(3, 1, ipB, 7, 9001)         // somebody else's
	answer(3, 1, ipA, 6, 9001)         // another run's
	answer(9, 1, ipA, 7, 9001)         // nobody's
	answer(3, 2, ipA, 7, 9001)         // never sent
	answer(5, 1, ipB, 7, -time.Second) // before it was sent: the clock was set
	if got, want := *e.latency(0, 2), (Latency{Sent: 2, Received: 1, Median: 3000, Worst: 3000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := e.latency(1, 2); got.Received != 1 || got.Worst <= 0 || got.Worst > time.Minute {
		t.Errorf("got %+v, want one answer at a time that can be", got)
	}
	if e.missing != 2 {
		t.Errorf("%d are missing, want 2", e.missing)
	}
}

// A guest that hangs, and one that speaks but does not do ARP.
func TestRunSilentKinds(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.kernelGuest("web2", "red", "10.0.20.12/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Fatalf("healthy: want a pass:\n%s", brief(report))
	}
	s.fakes["web1"].deaf.Store(true)
	report := s.verify()
	s.wantOnly(report, VerdictFail, CodeGuestSilent+" guest web1, NIC tap-web1")
	s.fakes["web1"].deaf.Store(false)

	_, err := s.nsGuests["web2"].Run(t.Context(), "ip", "link", "set", "eth0", "arp", "off")
	s.must(err)
	report = s.verify()
	s.wantOnly(report, VerdictFail, CodeNoARP+" guest web2, NIC to-web2")
	if all := brief(report); !strings.Contains(all, "the guest itself sent") {
		t.Errorf("the evidence does not say what it sent:\n%s", all)
	}
	_, err = s.nsGuests["web2"].Run(t.Context(), "ip", "link", "set", "eth0", "arp", "on")
	s.must(err)
}

// While the run looks at them, one guest goes away, one is replaced by another
// of that name, and one's link goes down: none of it is a failure.
func TestRunGuestsVanish(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	for i, name := range []string{"pc1", "pc2", "pc3", "pc4", "pc5"} {
		s.tapGuest(name, "lan", "10.0.40.1"+string(rune('1'+i))+"/24")
	}
	var once sync.Once
	vanish := func(string) {
		once.Do(func() {
			_ = s.fakes["pc1"].file.Close()
			l, err := netlink.LinkByName("tap-pc2")
			s.must(err)
			s.fakes["pc2"].deaf.Store(true)
			s.must(netlink.LinkSetDown(l))
			s.must(netlink.LinkSetName(l, "away"))
			s.run("ip", "link", "add", "tap-pc2", "type", "veth", "peer", "name", "tap-pc2p")
			s.run("ip", "link", "set", "tap-pc3", "down")
		})
	}
	inventory := s.inventory()
	opts := Options{Switches: s, Timing: Timing{Confirm: []time.Duration{300 * time.Millisecond}}}
	opts.Progress = func(stage string) {
		if stage == "asking the guests" {
			vanish(stage)
		}
	}
	report, err := Run(t.Context(), inventory, opts)
	s.must(err)
	if report.Verdict() != VerdictInconclusive || len(report.Problems) > 0 {
		t.Errorf("want inconclusive, and no problem:\n%s", brief(report))
	}
	want := map[string]string{
		"pc1": "its device tap-pc1 vanished during the run", "pc2": "its device tap-pc2 was replaced during the run",
		"pc3": "its device tap-pc3 went down during the run",
	}
	for _, n := range report.NICs {
		r := n.Rung(RungNIC)
		if r.Reason != want[n.Guest] || (r.Status == StatusInconclusive) != (want[n.Guest] != "") {
			t.Errorf("%s: %s %q, want %q", n.Guest, r.Status, r.Reason, want[n.Guest])
		}
	}
	for _, p := range report.Pairs {
		if gone := want[p.From.Guest] != "" || want[p.To.Guest] != ""; !gone && p.Status != StatusPass {
			t.Errorf("%s -> %s: %s %s", p.From, p.To, p.Status, p.Reason)
		}
	}
}

// A guest that libvirt has paused, for a migration say, is no fault, and nor are
// its pairs.
func TestRunHeldGuest(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	web1 := s.guest("web1")
	web1.Running, web1.State, web1.Held = false, "paused", "a migration"
	s.fakes["web1"].deaf.Store(true)
	report := s.verify()
	if report.Verdict() != VerdictInconclusive || len(report.Problems) > 0 {
		t.Errorf("want inconclusive, and no problem:\n%s", brief(report))
	}
	for _, p := range report.Pairs {
		if p.Status != StatusNotReached {
			t.Errorf("%s -> %s: %s %s", p.From, p.To, p.Status, p.Reason)
		}
	}
}

// A vantage that goes away makes everybody silent, and nobody guilty.
func TestRunVantageVanishes(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	opts := Options{Switches: s, Timing: Timing{Confirm: []time.Duration{300 * time.Millisecond}}}
	opts.Progress = func(stage string) {
		if stage == "asking the guests" {
			s.run("ip", "link", "del", "vt0")
		}
	}
	report, err := Run(t.Context(), s.inventory(), opts)
	if err == nil {
		t.Error("the vantage could be closed, and it was gone")
	}
	if report.Verdict() != VerdictInconclusive || len(report.Problems) > 0 {
		t.Errorf("want inconclusive, and no problem:\n%s", brief(report))
	}
	if all := brief(report); !strings.Contains(all, "the vantage vt0 in the untagged VLAN of br0 vanished during the run") {
		t.Errorf("nothing says what became of the vantage:\n%s", all)
	}
}

// A guest that floods the network with ARP, for addresses of others and for the
// one we ask from, must not keep the run from its answers, nor prolong it.
func TestRunARPFlood(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	s.kernelGuest("pc3", "lan", "10.0.40.13/24")
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	sent := 0
	done.Go(func() {
		g := s.fakes["pc1"]
		var frames [][]byte
		for i := range 256 {
			mac := g.mac
			if i%2 == 1 { // and in the name of many who are not there
				mac = vnet.MAC{2, 0, 0, 0, 0, byte(i)}
			}
			frames = append(frames, frame{
				kind: frameARPRequest, dst: broadcast, src: mac, senderMAC: mac,
				sender: netip.AddrFrom4([4]byte{10, 0, 40, 11}), target: netip.AddrFrom4([4]byte{10, 0, 40, byte(i)}),
			}.encode())
		}
		for ; ctx.Err() == nil; sent++ {
			_, _ = g.file.Write(frames[sent%len(frames)])
		}
	})
	start := time.Now()
	report := s.verify(func(o *Options) { o.Networks = []string{"lan"} })
	took := time.Since(start)
	stop()
	done.Wait()
	t.Logf("%d frames in %v", sent, took)
	if took > 15*time.Second || sent < 1000 {
		t.Errorf("the run took %v in a flood of %d frames", took, sent)
	}
	for _, n := range report.NICs {
		if n.Guest != "pc1" && n.Status == StatusFail {
			t.Errorf("%s fails:\n%s", n.Endpoint, brief(report))
		}
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// stranger is a machine that no inventory knows.
func (s *site) stranger(name, bridge string, vlan uint16, addrs ...string) *lab.Station {
	s.t.Helper()
	st := &lab.Station{Name: name, Bridge: bridge, VLAN: vlan, MAC: lab.MACFor(name, 7)}
	for _, a := range addrs {
		st.Addresses = append(st.Addresses, netip.MustParsePrefix(a))
	}
	s.must(s.lab.AddStation(s.t.Context(), st))
	return st
}

// wantConflict checks that one address is disputed and nothing else is wrong,
// and that the evidence says all of these.
func (s *site) wantConflict(report Report, subject string, says ...string) {
	s.t.Helper()
	s.wantOnly(report, VerdictFail, CodeAddressConflict+" "+subject)
	for _, text := range says {
		if all := brief(report); !strings.Contains(all, text) {
			s.t.Errorf("nothing says %q:\n%s", text, all)
		}
	}
}

func TestRunAddressConflict(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.kernelGuest("web2", "red", "10.0.20.12/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.both("web1", "2001:db8:20::11/64")
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Fatalf("healthy: want a pass:\n%s", brief(report))
	}
	mac := func(name string) string { return s.guest(name).NICs[0].Want.MAC.String() }

	// One guest has taken the other's address: one finding, about both.
	s.move("web2", "10.0.20.12/24", "10.0.20.11/24")
	report := s.verify()
	s.wantConflict(report, "network red, address 10.0.20.11", mac("web1"), mac("web2"), "learned on to-web2", "take 10.0.20.11 from it")
	if len(report.Problems) > 0 && len(report.Problems[0].Affects) != 2 {
		t.Errorf("it affects %v, want both", report.Problems[0].Affects)
	}
	s.move("web2", "10.0.20.11/24", "10.0.20.12/24")

	// A machine that nobody knows, over IPv6.
	other := s.stranger("other6", ovs0, 20)
	_, err := other.Run(t.Context(), "ip", "-6", "address", "add", "2001:db8:20::11/64", "dev", "eth0", "nodad")
	s.must(err)
	s.wantConflict(s.verify(), "network red, address 2001:db8:20::11", "no guest that is looked at, learned on to-other6")
	_, err = other.Run(t.Context(), "ip", "link", "set", "eth0", "down")
	s.must(err)

	// Only a forger answers: the guest is on its own address no more.
	s.stranger("forger", br0, 0, "10.0.40.11/24")
	s.move("pc1", "10.0.40.11/24", "10.0.40.99/24")
	s.wantConflict(s.verify(), "network lan, address 10.0.40.11", "does not answer for it", "learned on to-forger")
	s.move("pc1", "10.0.40.99/24", "10.0.40.11/24")

	// Those who are asked for keep it from being found, but not those who speak.
	off := func(o *Options) { o.Conflicts = vnet.ToggleOff }
	if report := s.verify(off); report.Verdict() != VerdictPass {
		t.Errorf("nobody was asked: want a pass:\n%s", brief(report))
	}
	allow := func(mac vnet.MAC) {
		s.guest("pc1").NICs[0].Want.Policy.Allow.MACs = []vnet.MAC{mac}
	}
	allow(vnet.MAC(lab.MACFor("forger", 7)))
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("the spec allows it: want a pass:\n%s", brief(report))
	}
	allow(macA)
	s.wantConflict(s.verify(), "network lan, address 10.0.40.11")
}

// A guest hangs, and another says that it is there.
func TestRunForgedAnswers(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	s.tapGuest("pc2", "lan", "10.0.40.12/24")
	s.kernelGuest("pc3", "lan", "10.0.40.13/24")
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Fatalf("healthy: want a pass:\n%s", brief(report))
	}
	hung, liar := s.fakes["pc1"], s.fakes["pc2"]
	hung.deaf.Store(true)
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		lie := frame{kind: frameARPReply, dst: broadcast, src: liar.mac, senderMAC: hung.mac, sender: hung.addr}.encode()
		for ctx.Err() == nil {
			_, _ = liar.file.Write(lie)
			time.Sleep(10 * time.Millisecond)
		}
	})
	report := s.verify()
	stop()
	done.Wait()
	s.wantConflict(report, "network lan, address 10.0.40.11", "does not answer for it", "is of guest pc2, NIC tap-pc2, learned on tap-pc2")
}

// What looks like a conflict and is none.
func TestRunNoConflict(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	router := s.stranger("rt", br0, 0, "10.0.40.1/24")

	// A guest with two NICs in one network: Linux answers on both for both.
	second := &lab.Station{Name: "second", Bridge: br0, MAC: lab.MACFor("second", 0)}
	s.must(s.lab.AddStation(t.Context(), second))
	_, err := second.Run(t.Context(), "ip", "link", "add", "link", "eth0", "name", "inner", "type", "macvlan", "mode", "bridge")
	s.must(err)
	_, err = second.Run(t.Context(), "ip", "link", "set", "inner", "up")
	s.must(err)
	_, err = second.Run(t.Context(), "ip", "address", "add", "10.0.40.13/24", "dev", "eth0")
	s.must(err)
	s.nsGuests["second"] = second
	// Its eth0 and a macvlan on it, as keepalived makes, answer for each other.
	s.addGuest("second", "lan", second.Device, netip.MustParseAddr("10.0.40.13"))
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("a guest that answers twice: want a pass:\n%s", brief(report))
	}

	// A gateway that answers for guests takes their frames, unless they are
	// isolated and that is its job.
	_, err = router.Run(t.Context(), "busybox", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward;"+
		"echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp_pvlan; echo 0 > /proc/sys/net/ipv4/neigh/eth0/proxy_delay")
	s.must(err)
	s.wantConflict(s.verify(), "network lan", "gateway 10.0.40.1", "answers for guests too", "it answers for 10.0.40.12")
	s.net("lan").Policy.Isolated = true
	for i := range s.guests {
		nic := &s.guests[i].NICs[0]
		nic.Want.Policy.Isolated = true
		s.run("bridge", "link", "set", "dev", nic.Want.Device, "isolated", "on")
	}
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("a router between isolated guests: want a pass:\n%s", brief(report))
	}
}

// Whoever answers for several guests is one finding, and who it is is its
// subject.
func TestRunAnswersForMany(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	for name, addr := range map[string]string{"pc1": "10.0.40.11/24", "pc2": "10.0.40.12/24", "pc3": "10.0.40.13/24"} {
		s.kernelGuest(name, "lan", addr)
	}
	proxy := func(st *lab.Station, on string) {
		t.Helper()
		_, err := st.Run(t.Context(), "sysctl", "-qw", "net.ipv4.ip_forward="+on, "net.ipv4.conf.eth0.proxy_arp_pvlan="+on, "net.ipv4.neigh.eth0.proxy_delay=0")
		s.must(err)
	}
	stranger := s.stranger("proxy", br0, 0, "10.0.40.66/24")
	proxy(stranger, "1")
	report := s.verify()
	s.wantConflict(report, "network lan, MAC "+stranger.MAC.String(), "addresses of 3 guests", "learned on to-proxy", "10.0.40.12, which is at")
	if len(report.Problems) > 0 && len(report.Problems[0].Affects) != 3 {
		t.Errorf("it affects %v, want all guests", report.Problems[0].Affects)
	}
	proxy(stranger, "0")

	proxy(s.nsGuests["pc3"], "1")
	s.wantConflict(s.verify(), "guest pc3, NIC to-pc3", "addresses of 2 guests", "virsh console pc3")
}

// A liar who speaks is noticed also when nobody is asked.
func TestNoticeIsBounded(t *testing.T) {
	n := healthy()
	p := &prober{owners: map[netip.Addr]*nic{ipA: n}, nics: map[vnet.MAC]*nic{macA: n}, heard: map[vnet.MAC]netip.Addr{}}
	p.hear(&seen{frame: frame{kind: frameARPReply, src: macA, senderMAC: macA, sender: ipA}})
	if len(n.rivals) != 0 {
		t.Fatalf("the guest is its own rival: %+v", n.rivals)
	}
	for i := range 1000 {
		mac := vnet.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		p.hear(&seen{frame: frame{kind: frameARPReply, src: mac, senderMAC: mac, sender: ipA}})
	}
	if len(n.rivals) != maxRivals || len(p.heard) != 1 {
		t.Errorf("%d rivals and %d addresses are remembered, want %d and 1", len(n.rivals), len(p.heard), maxRivals)
	}
}

// What one says in another's name is no answer of that other. A router that
// answers for an address which it shares does so from its own MAC.
func TestForgedAnswer(t *testing.T) {
	n, virtual, gw := healthy(), vnet.MAC{0, 0, 0x5e, 0, 1, 7}, netip.MustParseAddr("10.0.20.1")
	guest, gateway := &target{mac: macA, addr: ipA}, &target{index: maxNICs, addr: gw}
	p := &prober{owners: map[netip.Addr]*nic{ipA: n}, nics: map[vnet.MAC]*nic{macA: n}, heard: map[vnet.MAC]netip.Addr{}}
	asking := p.newAsking([]*target{guest, gateway})
	says := func(src, mac vnet.MAC, a netip.Addr) *seen {
		return &seen{frame: frame{kind: frameARPReply, src: src, senderMAC: mac, sender: a}}
	}
	asking.take(says(macB, macA, ipA))
	if guest.arp || len(n.rivals) != 1 || n.rivals[0].mac != macB {
		t.Errorf("a forged answer counts (%v), and the rivals are %+v, want one at %s", guest.arp, n.rivals, macB)
	}
	asking.take(says(macA, macA, ipA))
	asking.take(says(macB, virtual, gw))
	if !guest.arp || !gateway.arp || gateway.mac != virtual || len(n.rivals) != 1 {
		t.Errorf("the guest answered: %v, the gateway: %v at %s, rivals: %d", guest.arp, gateway.arp, gateway.mac, len(n.rivals))
	}

	from, to := on("red", "ovs0", access(20)), on("red", "ovs0", access(20))
	to.index, to.address.Addr = 1, ipA
	tried := &pair{from: from, to: to}
	m := &matrix{byMAC: map[vnet.MAC][]*nic{macA: {to}}, byEnds: map[[2]int]*pair{{0, 1}: tried}}
	m.takeAnswer(from, says(macB, macA, ipA))
	if tried.arp || len(to.rivals) != 1 || to.rivals[0].mac != macB {
		t.Errorf("a forged answer counts for the pair (%v), and the rivals are %+v", tried.arp, to.rivals)
	}
	if m.takeAnswer(from, says(macA, macA, ipA)); !tried.arp {
		t.Error("the answer does not count for the pair")
	}
}

func TestToleratedRivals(t *testing.T) {
	virtual := vnet.MAC{0, 0, 0x5e, 0, 1, 7}
	for name, test := range map[string]struct {
		change func(*nic, *rival)
		other  *nic
		want   bool
	}{
		"a stranger":          {func(*nic, *rival) {}, nil, false},
		"VRRP, allowed":       {func(n *nic, _ *rival) { n.Want.Policy.Allow.MACs = []vnet.MAC{virtual} }, nil, true},
		"address may move":    {func(n *nic, _ *rival) { n.Want.Policy.Allow.Addresses = []netip.Addr{ipA} }, nil, true},
		"its own other NIC":   {func(*nic, *rival) {}, &nic{NIC: &NIC{}, guest: vnet.GuestRef{Name: "web1", UUID: "u1"}}, true},
		"another guest's NIC": {func(*nic, *rival) {}, &nic{NIC: &NIC{}, guest: vnet.GuestRef{Name: "web2", UUID: "u2"}}, false},
		"behind its own port": {func(_ *nic, v *rival) { v.device = "vnet0" }, nil, true},
		"behind another port": {func(_ *nic, v *rival) { v.device = "vnet1" }, nil, false},
		"router of isolated guests": {func(n *nic, _ *rival) {
			n.Want.Policy.Isolated, n.segment.gateway = true, &target{mac: virtual}
		}, nil, true},
		"router of guests": {func(n *nic, _ *rival) { n.segment.gateway = &target{mac: virtual} }, nil, false},
	} {
		n, v := healthy(), &rival{mac: virtual, addr: ipA}
		test.change(n, v)
		if got := n.tolerates(v, test.other); got != test.want {
			t.Errorf("%s: tolerated is %v, want %v", name, got, test.want)
		}
	}
}

// Questions that everybody hears are paced.
func TestPaced(t *testing.T) {
	lab.Need(t)
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.tapGuest("pc1", "lan", "10.0.40.11/24")
	device := slices.Index(s.devices(), "tap-pc1")
	if device < 0 {
		t.Fatal("no device")
	}
	host, err := dumpLinks()
	s.must(err)
	p := &prober{device: host["tap-pc1"].index, mac: macA}
	p.socket, err = openSocket(p.device)
	s.must(err)
	defer p.socket.close() //nolint:errcheck // the lab goes with the process
	before, start := s.fakes["pc1"].heard.Load(), time.Now()
	err = p.paced(t.Context(), 200, time.Millisecond, func(int) packet {
		return packet{device: p.device, data: request().encode()}
	}, func(seen) bool { return true })
	s.must(err)
	if took := time.Since(start); took < 199*time.Millisecond {
		t.Errorf("200 packets a millisecond apart took %v", took)
	}
	time.Sleep(20 * time.Millisecond)
	if got := s.fakes["pc1"].heard.Load() - before; got != 200 {
		t.Errorf("%d packets arrived, want 200", got)
	}
}

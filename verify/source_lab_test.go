// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Runs at once, and one that begins while others are busy with something else,
// ask from addresses of their own.
func TestSourcesDiffer(t *testing.T) {
	s := newSite(t)
	var probers []*prober
	for i := range 3 {
		probers = append(probers, s.prober(vnet.VLANID(i+1)))
	}
	choose := func(p *prober) error { return p.chooseAny(t.Context()) }
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, p := range probers[:2] {
		both.Go(func() { errs[i] = choose(p) })
	}
	both.Wait()
	// The first one's next address is not answered for, as on a busy host.
	late, err := probers[0].listenFor(netip.MustParseAddr("10.0.40.252"))
	s.must(err)
	s.must(errors.Join(append(errs, choose(probers[2]))...))
	if got := probers[2].source.String(); got != "10.0.40.251" {
		t.Errorf("the third asks from %s, want the first that nobody claims", got)
	}
	s.must(late.close())
	count := map[netip.Addr]int{}
	for _, p := range probers {
		count[p.source]++
		s.must(p.end())
	}
	if len(count) != len(probers) {
		t.Errorf("addresses %v, want %d different ones", count, len(probers))
	}
}

// prober is one that is alone on br0, with a vantage of its own.
func (s *site) prober(vlan vnet.VLANID) *prober {
	s.t.Helper()
	device, err := s.OpenVantage(s.t.Context(), br0, vlan)
	s.must(err)
	l, err := netlink.LinkByName(device)
	s.must(err)
	p := &prober{
		device: l.Attrs().Index, timing: Timing{WindowMin: 200 * time.Millisecond},
		nics: map[vnet.MAC]*nic{}, owners: map[netip.Addr]*nic{}, heard: map[vnet.MAC]netip.Addr{},
	}
	p.mac, err = randomMAC()
	s.must(err)
	p.socket, err = openSocket(p.device)
	s.must(err)
	return p
}

func (p *prober) chooseAny(ctx context.Context) error {
	return p.chooseSource(ctx, netip.MustParsePrefix("10.0.40.0/24"), func(netip.Addr) bool { return false })
}

func (p *prober) end() error {
	p.defence.stop()
	return errors.Join(p.defence.end(), p.socket.close())
}

// A guest that has our address at another MAC, which a run on another host may
// have had, is told before it is called deaf.
func TestAskTellsOurMAC(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	p := s.prober(0)
	s.must(p.chooseAny(t.Context()))
	_, err := s.nsGuests["pc1"].Run(t.Context(), "ip", "neigh", "replace", p.source.String(), "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "reachable")
	s.must(err)
	for _, slowly := range []bool{false, true} {
		pc1 := &target{mac: vnet.MAC(lab.MACFor("pc1", 0)), addr: netip.MustParseAddr("10.0.40.11"), wantICMP: true, arp: true}
		targets := []*target{pc1}
		asking := p.newAsking(targets)
		asking.rouse = slowly
		s.must(asking.ask(t.Context(), targets, 200*time.Millisecond))
		if pc1.icmp != slowly {
			t.Errorf("asked slowly: %t, answers: %t", slowly, pc1.icmp)
		}
	}
	s.must(p.end())
}

func TestRunFindsAddresses(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("bare", ovs0, 40, "")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.tapGuest("web2", "red", "10.0.20.12/24")
	s.tapGuest("web3", "red", "10.0.99.9/24")  // none of the subnet
	s.tapGuest("web4", "red", "10.0.20.14/24") // it has not said a word yet
	s.tapGuest("web5", "red", "10.0.99.10/24") // nor has this one, and is elsewhere
	s.tapGuest("web6", "red", "10.0.20.16/24")
	s.tapGuest("bare1", "bare", "10.0.60.11/24")
	s.tapGuest("bare2", "bare", "10.0.60.12/24")
	for _, name := range []string{"web1", "web2", "web3", "web4", "web5", "bare2"} {
		s.guest(name).NICs[0].Addresses = nil
	}
	for _, name := range []string{"web2", "web3", "web6", "bare2"} {
		s.must(s.fakes[name].hello())
	}
	// The answer does not matter: web1 has spoken then.
	_ = s.nsGuests["web1"].Ping(t.Context(), netip.MustParseAddr("10.0.20.12"))
	before := s.heard()
	report := s.verify()
	if got := s.heard()["web6"] - before["web6"]; got > 100 {
		t.Errorf("web6, whose address is known, heard %d frames: not only those to it", got)
	}
	want := map[string]string{
		"web1": "pass 10.0.20.11 ARP", "web2": "pass 10.0.20.12 ARP", "web3": "fail invalid IP ", "web4": "pass 10.0.20.14 ARP", "web5": "fail invalid IP ",
		"web6":  "pass 10.0.20.16 spec",
		"bare1": "pass 10.0.60.11 spec", "bare2": "inconclusive invalid IP ",
	}
	for _, n := range report.NICs {
		if got := fmt.Sprintf("%s %s %s", n.Status, n.Address, n.AddressSource); got != want[n.Guest] {
			t.Errorf("%s: %s, want %s\n%s", n.Guest, got, want[n.Guest], brief(report))
		}
	}
}

// A port that learns nothing makes no guest one that cannot be found.
func TestRunFindsUnlearnedAddress(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.20.0/24")
	s.net("lan").Policy.Learning = vnet.ToggleOff
	for i, name := range []string{"web1", "web2"} {
		s.tapGuest(name, "lan", fmt.Sprintf("10.0.20.%d/24", 11+i))
		s.run("ip", "link", "set", s.guest(name).NICs[0].Want.Device, "type", "bridge_slave", "learning", "off")
	}
	s.guest("web1").NICs[0].Addresses = nil
	before := s.heard()
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	if got := s.heard()["web2"] - before["web2"]; got > 100 {
		t.Errorf("web2 heard %d frames: not only those to it", got)
	}
}

// A guest that a busy host does not let run for a while answers late, and has an
// address all the same.
func TestRunFindsLateAddress(t *testing.T) {
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/28")
	s.tapGuest("web1", "red", "10.0.20.11/28")
	s.guest("web1").NICs[0].Addresses = nil
	guest := s.fakes["web1"]
	s.must(guest.hello())
	guest.stalled.Lock()
	time.AfterFunc(600*time.Millisecond, guest.stalled.Unlock)
	if report := s.verify(); report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Runs at once, and one that begins while others are busy with something else,
// ask from addresses of their own.
func TestSourcesDiffer(t *testing.T) {
	s := newSite(t)
	var probers []*prober
	for i := range 3 {
		device, err := s.OpenVantage(t.Context(), br0, vnet.VLANID(i+1))
		s.must(err)
		l, err := netlink.LinkByName(device)
		s.must(err)
		p := &prober{
			device: l.Attrs().Index, timing: Timing{WindowMin: 200 * time.Millisecond},
			nics: map[vnet.MAC]*nic{}, owners: map[netip.Addr]*nic{}, heard: map[vnet.MAC]netip.Addr{},
		}
		p.mac, err = randomMAC()
		s.must(err)
		p.socket, err = openSocket(p.device, true)
		s.must(err)
		probers = append(probers, p)
	}
	choose := func(p *prober) error {
		return p.chooseSource(t.Context(), netip.MustParsePrefix("10.0.40.0/24"), func(netip.Addr) bool { return false })
	}
	errs := make([]error, 2)
	var both sync.WaitGroup
	for i, p := range probers[:2] {
		both.Go(func() { errs[i] = choose(p) })
	}
	both.Wait()
	s.must(errors.Join(append(errs, choose(probers[2]))...))
	count := map[netip.Addr]int{}
	for _, p := range probers {
		count[p.source]++
		p.defence.stop()
		s.must(errors.Join(p.defence.end(), p.socket.close()))
	}
	if len(count) != len(probers) {
		t.Errorf("addresses %v, want %d different ones", count, len(probers))
	}
}

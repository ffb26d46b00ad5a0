// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux/hostside"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// drivenSite is a site whose Linux bridge is looked at from the real driver's
// vantage.
type drivenSite struct {
	*site
	*linux.Driver
}

func (s drivenSite) Learned(ctx context.Context, sw string) ([]Learned, error) {
	return s.site.Learned(ctx, sw)
}

func (s drivenSite) OpenVantage(ctx context.Context, _ string, vlan vnet.VLANID) (string, error) {
	return s.Driver.OpenVantage(ctx, vlan)
}

func (s drivenSite) CloseVantage(ctx context.Context, _, device string) error {
	return s.Driver.CloseVantage(ctx, device)
}

// spanningSite is two guests and more on a bridge with spanning tree and the
// longest forward delay, which is healthy at once. The option has it looked at
// from the real driver's vantage.
func spanningSite(t *testing.T, more func(*site)) (s *site, driven func(*Options)) {
	t.Helper()
	s = newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.net("lan").Gateway = netip.MustParseAddr("10.0.40.1")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	more(s)
	s.run("ip", "link", "set", br0, "type", "bridge", "stp_state", "1", "forward_delay", "3000")
	driver, err := linux.Open(t.Context(), s.switches[1].Switch, linux.WithHostJoiner(hostside.Join))
	s.must(err)
	t.Cleanup(func() { _ = driver.Close() })
	driven = func(o *Options) { o.Switches = drivenSite{s, driver} }
	s.expects("pc1 reach pc2", "pc1 reach gateway")
	begun := time.Now()
	report := s.verify(driven)
	if took := time.Since(begun); report.Verdict() != VerdictPass || took > 10*time.Second {
		t.Errorf("after %v:\n%s", took, brief(report))
	}
	s.expects()
	return s, driven
}

// What is wrong on a bridge with spanning tree is found.
func TestRunSpanningTree(t *testing.T) {
	s, driven := spanningSite(t, func(s *site) {
		s.tapGuest("pc3", "lan", "10.0.40.13/24")
		s.must(s.lab.AddStation(t.Context(), &lab.Station{
			Name: "rt", Bridge: br0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.40.1/24")},
		}))
	})
	s.fakes["pc3"].deaf.Store(true)
	s.run("ip", "-n", "rt", "address", "flush", "dev", "eth0")
	report := s.verify(driven)
	if got := brief(report); report.Verdict() != VerdictFail || !strings.Contains(got, CodeGatewayUnreachable) || !strings.Contains(got, "guest pc3") {
		t.Errorf("want the gateway and pc3 to be silent:\n%s", got)
	}
}

// The host's own address on such a bridge is the gateway: it is seen, and when
// it is gone too.
func TestRunSpanningTreeOnHost(t *testing.T) {
	s, driven := spanningSite(t, func(s *site) { s.run("ip", "address", "add", "10.0.40.1/24", "dev", br0) })
	s.run("ip", "address", "flush", "dev", br0)
	report := s.verify(driven)
	if got := brief(report); report.Verdict() != VerdictFail || !strings.Contains(got, CodeGatewayUnreachable) {
		t.Errorf("want the gateway to be silent:\n%s", got)
	}
}

// meeting is of two switches, whose vantages come when both are asked for.
type meeting struct {
	Switches
	both sync.WaitGroup
}

func (m *meeting) OpenVantage(ctx context.Context, sw string, _ vnet.VLANID) (string, error) {
	m.both.Done()
	met := make(chan struct{})
	go func() {
		m.both.Wait()
		close(met)
	}()
	select {
	case <-met:
		return "", errors.New(sw + " has met the other")
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// One slow switch does not hold up another.
func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m := &meeting{}
	m.both.Add(2)
	wanted := []*nic{{selected: true}}
	r := &run{opts: Options{Switches: m}, segments: []*segment{
		{segmentKey: segmentKey{sw: "br0"}, nics: wanted}, {segmentKey: segmentKey{sw: "br1"}, nics: wanted},
	}}
	r.opts.defaults()
	r.openSegments(ctx)
	if len(r.limits) != 2 || !strings.Contains(r.limits[0], "br0 has met") || !strings.Contains(r.limits[1], "br1 has met") {
		t.Errorf("limits %q", r.limits)
	}
}

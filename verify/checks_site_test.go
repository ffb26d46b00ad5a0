// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// party is an end as the spec writes it.
func (s *site) party(text string) vnet.Party {
	t := vnet.Topology{Networks: s.networks}
	for _, g := range s.guests {
		t.Guests = append(t.Guests, vnet.Guest{Name: g.Ref.Name})
	}
	return t.Party(text)
}

// expects replaces what is expected, each as "FROM KIND TARGET".
func (s *site) expects(list ...string) {
	s.t.Helper()
	s.expect = nil
	for _, text := range list {
		from, rest, _ := strings.Cut(strings.Replace(text, "network ", "network_", 2), " ")
		kind, target, _ := strings.Cut(rest, " ")
		spaced := func(p string) vnet.Party { return s.party(strings.Replace(p, "network_", "network ", 1)) }
		e := vnet.Expectation{From: spaced(from), Where: "spec.yaml:1"}
		switch kind {
		case "reach":
			e.Reach = spaced(target)
		case "deny":
			e.Deny = spaced(target)
		case "tcp":
			host, port, err := net.SplitHostPort(target)
			s.must(err)
			number, err := net.LookupPort("tcp", port)
			s.must(err)
			e.TCP = vnet.Service{Party: spaced(host), Port: uint16(number)}
		case "dns":
			name, server, _ := strings.Cut(target, " ")
			e.DNS, e.Server = name, s.party(server)
		case "fast":
			to, limit, _ := strings.Cut(target, " <")
			d, err := time.ParseDuration(limit)
			s.must(err)
			e.To, e.Latency = spaced(to), d
		case "sure":
			e.To, e.Loss = spaced(target), 0.05
		default:
			s.t.Fatalf("no such expectation: %s", text)
		}
		s.expect = append(s.expect, e)
	}
}

// routed makes the host the router of the networks, as it is of libvirt's own:
// each has an internal port of Open vSwitch with its first address.
func (s *site) routed(networks ...string) {
	s.t.Helper()
	for _, name := range networks {
		n := s.net(name)
		n.Gateway = n.Subnet.Masked().Addr().Next()
		device := "rt-" + name
		s.vsctl("add-port", ovs0, device, fmt.Sprintf("tag=%d", n.Policy.VLAN.Access), "--", "set", "interface", device, "type=internal")
		address := []string{"ip", "address", "add", netip.PrefixFrom(n.Gateway, n.Subnet.Bits()).String(), "dev", device}
		if n.Gateway.Is6() {
			address = append(address, "nodad")
		}
		s.run(address...)
		s.run("ip", "link", "set", device, "up")
		for _, st := range s.nsGuests {
			if strings.HasPrefix(st.Device, "to-") && n.Subnet.Contains(st.Addresses[0].Addr()) {
				_, err := st.Run(s.t.Context(), "ip", "route", "replace", "default", "via", n.Gateway.String())
				s.must(err)
			}
		}
	}
	s.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
}

// serve accepts TCP connections in a guest, and counts those that were not taken
// back at once.
func (s *site) serve(guest, port string) {
	s.t.Helper()
	var listener net.Listener
	s.must(s.nsGuests[guest].Do(func() (err error) {
		listener, err = net.Listen("tcp", ":"+port)
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	s.t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
}

// in runs a command in a guest.
func (s *site) in(guest string, argv ...string) {
	s.t.Helper()
	_, err := s.nsGuests[guest].Run(s.t.Context(), argv...)
	s.must(err)
}

// results are the checks as "STATUS CODE", where CODE is of what explains it.
func results(report Report) []string {
	var list []string
	for _, c := range report.Checks {
		code, _, _ := strings.Cut(c.Cause, ":")
		list = append(list, strings.TrimSpace(string(c.Status)+" "+code))
	}
	return list
}

func (s *site) wantChecks(report Report, want ...string) {
	s.t.Helper()
	if got := results(report); !slices.Equal(got, want) {
		s.t.Errorf("checks %q, want %q:\n%s", got, want, brief(report))
		for _, c := range report.Checks {
			s.t.Logf("%s: %s %s %s %q %q", c.Name, c.Status, c.Reason, c.Value, c.Evidence, c.Cause)
		}
	}
}

func newTalkSite(t *testing.T) *site {
	t.Helper()
	s := newThreeNetworks(t)
	s.kernelGuest("web2", "red", "10.0.20.12/24")
	s.kernelGuest("pc2", "lan", "10.0.40.12/24")
	return s
}

// dnsmasq answers in a guest.
func (s *site) dnsmasq(guest string, args ...string) {
	s.t.Helper()
	argv := append([]string{
		"netns", "exec", guest, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--pid-file=", "--conf-file=/dev/null",
		"--user=root", "--group=root",
	}, args...)
	cmd := exec.Command("ip", argv...) //nolint:noctx // ended below
	var out strings.Builder
	cmd.Stderr = &out
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("dnsmasq in %s: %s", guest, out.String())
		}
	})
	for range 100 {
		if list, err := s.nsGuests[guest].Run(s.t.Context(), "ss", "-Hlun", "sport", "=", ":53"); err == nil && list != "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatalf("dnsmasq in %s never listened: %s", guest, out.String())
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Guests reach each other on a link, through a router, and what is beyond; and
// each way of not doing so is told apart.
func TestRunReachAndTCP(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.serve("db1", "5432")
	s.serve("web2", "80")
	s.serve("pc2", "80")
	// Nothing in this guest takes a connection back that it never asked for.
	s.tapGuest("web3", "red", "10.0.20.13/24")
	s.expects("web3 tcp db1:5432", "web1 reach web2", "web1 reach db1", "web1 reach gateway", "network lan reach network lan", "web1 reach 10.0.30.11",
		"web1 tcp web2:80", "web1 tcp db1:5432", "network red tcp db1/blue:5432", "pc1 tcp pc2:80")
	report := s.verify()
	pass := "pass"
	s.wantChecks(report, pass, pass, pass, pass, pass, pass, pass, pass, pass, pass)
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}
	// Nothing half open is left, neither at the service nor in its backlog.
	if out, err := s.nsGuests["db1"].Run(t.Context(), "ss", "-Htn", "state", "syn-recv"); err != nil || out != "" {
		t.Errorf("half-open connections: %q, %v", out, err)
	}

	s.in("db1", "nft", "add table inet f; add chain inet f in { type filter hook input priority 0; }; "+
		"add rule inet f in tcp dport 5432 drop")
	s.expects("web1 tcp web2:81", "web1 tcp db1:5432", "web1 reach 10.0.20.99", "web1 reach 10.0.30.99", "network red tcp db1:5432")
	report = s.verify()
	s.wantChecks(report, "fail TCP_REFUSED", "fail TCP_FILTERED", "fail UNREACHABLE", "fail UNREACHABLE", "fail TCP_FILTERED")
	if len(report.Problems) != 5 || report.Verdict() != VerdictFail {
		t.Errorf("want one problem for each, and %s:\n%s", VerdictFail, brief(report))
	}
	for i, want := range []string{"refused", "delivered, and not answered", "ARP request for 10.0.20.99", "silence", "delivered, and not answered"} {
		if evidence := strings.Join(report.Checks[i].Evidence, "\n"); !strings.Contains(evidence, want) {
			t.Errorf("%s: evidence %q, want %q", report.Checks[i].Name, evidence, want)
		}
	}
}

// A guest that is broken already fails once.
func TestRunExpectationsOfBroken(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.vsctl("set", "port", "to-web2", "tag=99")
	s.guest("pc2").Running, s.guest("pc2").Down = false, true
	s.expects("web1 reach web2", "web2 tcp db1:5432", "pc1 reach pc2", "pc1 reach 10.9.9.9", "network red reach db1", "web1 deny web2")
	report := s.verify()
	s.wantChecks(report, "not-reached WRONG_VLAN", "not-reached WRONG_VLAN", "skip", "inconclusive", "pass", "not-reached WRONG_VLAN")
	s.wantOnly(report, VerdictFail, CodeWrongVLAN+" guest web2, NIC to-web2")
}

// Whoever goes away, before the expectations are tried or meanwhile, keeps none
// and breaks none.
func TestRunExpectationsOfVanished(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	for i := range 5 {
		s.tapGuest(fmt.Sprintf("pc%d", i+1), "lan", fmt.Sprintf("10.0.40.1%d/24", i+1))
	}
	s.expects("pc1 tcp pc2:80", "pc1 reach pc3", "pc1 deny pc4", "pc1 reach pc5")
	goes := map[string][]string{"asking the guests": {"pc2"}, "trying what the spec expects": {"pc3", "pc4"}}
	report := s.verify(func(o *Options) {
		o.Progress = func(stage string) {
			for _, name := range goes[stage] {
				s.run("ip", "link", "set", "tap-"+name, "down")
			}
		}
	})
	s.wantChecks(report, "inconclusive", "inconclusive", "inconclusive", "pass")
	if report.Verdict() != VerdictInconclusive || len(report.Problems) > 0 {
		t.Errorf("want inconclusive, and no problem:\n%s", brief(report))
	}
	for i, name := range []string{"pc2", "pc3", "pc4"} {
		if want := fmt.Sprintf("%s: its device tap-%[1]s went down during the run", name); report.Checks[i].Reason != want {
			t.Errorf("%s: %q, want %q", report.Checks[i].Name, report.Checks[i].Reason, want)
		}
	}
}

// A guest that drops echoes, as Windows does by itself, is asked for the rest.
func TestRunExpectationsOfWhoDropsEcho(t *testing.T) {
	s := newTalkSite(t)
	s.in("web2", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
	s.serve("web2", "80")
	s.serve("web1", "80")
	s.expects("web1 reach web2", "web1 tcp web2:80", "web1 tcp web2:81", "web2 tcp web1:80", "web2 reach web1")
	filtered := CodeICMPFiltered + " guest web2, NIC to-web2"
	want := []string{"not-reached ICMP_FILTERED", "pass", "fail TCP_REFUSED", "pass", "pass"}
	report := s.verify()
	s.wantChecks(report, want...)
	if len(report.Problems) != 2 || report.Verdict() != VerdictFail {
		t.Errorf("want two problems:\n%s", brief(report))
	}
	for _, p := range report.Pairs {
		if p.Status != StatusPass {
			t.Errorf("%s -> %s: %s %s", p.From, p.To, p.Status, p.Reason)
		}
	}

	s.waivers = []vnet.Waiver{{Code: CodeICMPFiltered, Guest: "web2", Owner: "alice", Until: time.Now()}}
	report = s.verify()
	s.wantChecks(report, want...)
	if len(report.Problems) != 2 || report.Verdict() != VerdictFail {
		t.Errorf("a dead port is not waived:\n%s", brief(report))
	}

	s.waivers = nil
	s.in("web2", "nft", "add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in meta l4proto tcp drop")
	s.expects("web1 tcp web2:80", "web1 tcp web2:81")
	s.wantOnly(s.verify(), VerdictFail, filtered)
}

func TestRunDeny(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.expects("network red deny network blue", "pc1 deny pc2")
	report := s.verify()
	s.wantChecks(report, "leak REACHABLE", "leak REACHABLE")
	if report.Verdict() != VerdictLeak || len(report.Problems) != 2 || len(report.Problems[0].Leaks) == 0 {
		t.Errorf("want two leaks:\n%s", brief(report))
	}
	for _, p := range report.Pairs {
		if p.From.Network == "lan" && p.To.Network == "lan" {
			t.Errorf("the user's word does not go before: %+v", p)
		}
	}

	s.expects("pc1 deny pc2")
	s.wantOnly(s.verify(), VerdictLeak, CodeReachable+" pc1 deny pc2")

	s.expects("network red deny network blue", "pc1 deny pc2")
	s.run("nft", "add table inet f; add chain inet f through { type filter hook forward priority 0; }; "+
		"add rule inet f through iifname rt-red oifname rt-blue drop")
	s.run("nft", "add table bridge f; add chain bridge f through { type filter hook forward priority 0; }; "+
		"add rule bridge f through ether type ip iifname to-pc1 oifname to-pc2 drop")
	report = s.verify()
	s.wantChecks(report, "pass", "pass")
	if report.Verdict() != VerdictPass {
		t.Errorf("want a pass:\n%s", brief(report))
	}

	// Silence of an address that no guest has proves nothing by itself.
	s.nsGuests["printer"] = &lab.Station{
		Name: "printer", Bridge: ovs0, VLAN: 30, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.30.77/24")},
	}
	s.must(s.lab.AddStation(t.Context(), s.nsGuests["printer"]))
	s.expects("web1 deny 10.0.30.77")
	s.wantChecks(s.verify(), "inconclusive")
	s.expects("web1 deny 10.0.30.77", "db1 reach 10.0.30.77")
	s.wantChecks(s.verify(), "pass", "pass")
	s.run("nft", "flush chain inet f through")
	s.run("nft", "add rule inet f through iifname rt-red oifname rt-blue reject with icmp type admin-prohibited")
	s.expects("web1 deny 10.0.30.77", "network red deny network blue")
	s.wantChecks(s.verify(), "pass", "pass")
	// A reset says who was asked, and may come from the firewall.
	s.run("nft", "flush chain inet f through")
	s.run("nft", "add rule inet f through iifname rt-red oifname rt-blue meta l4proto tcp reject with tcp reset")
	s.run("nft", "add rule inet f through iifname rt-red oifname rt-blue drop")
	s.expects("web1 deny 10.0.30.77", "db1 reach 10.0.30.77")
	s.wantChecks(s.verify(), "inconclusive", "pass")
	// What is open may be the service alone that others use.
	s.run("nft", "flush chain inet f through")
	s.run("nft", "add rule inet f through iifname rt-red oifname rt-blue tcp dport != 9100 drop")
	s.run("nft", "add rule inet f through iifname rt-red oifname rt-blue meta l4proto icmp drop")
	s.in("printer", "ip", "route", "replace", "default", "via", "10.0.30.1")
	s.serve("printer", "9100")
	s.expects("web1 deny 10.0.30.77", "db1 tcp 10.0.30.77:9100")
	s.wantChecks(s.verify(), "leak REACHABLE", "pass")
	s.expects("web1 deny 10.0.20.1", "web1 deny gateway")
	s.wantChecks(s.verify(), "leak REACHABLE", "leak REACHABLE")
}

// A rule of the host that drops what goes on between two guests is one problem,
// and a gateway that is dead is not found again behind it.
func TestRunOneCause(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.run("nft", "add table bridge f; add chain bridge f through { type filter hook forward priority 0; }; "+
		"add rule bridge f through iifname to-pc1 oifname to-pc2 drop")
	s.expects("pc1 reach pc2", "pc1 tcp pc2:80")
	report := s.verify()
	s.wantChecks(report, "not-reached FILTERED", "not-reached FILTERED")
	s.run("nft", "flush ruleset")

	s.run("ip", "address", "flush", "dev", "rt-red")
	s.expects("web1 reach db1", "web1 tcp db1:80", "web1 deny db1", "web1 deny gateway")
	report = s.verify()
	dead := "not-reached " + CodeGatewayUnreachable
	s.wantChecks(report, dead, dead, dead, dead)
	s.wantOnly(report, VerdictFail, CodeGatewayUnreachable+" network red")
}

func TestRunDNS(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.dnsmasq("db1", "--address=/www.example.org/192.0.2.7", "--address=/six.example.org/2001:db8::7", "--local=/example.org/",
		"--txt-record=text.example.com,hello", "--local=/example.com/")
	s.expects("web1 dns www.example.org 10.0.30.11", "network red dns six.example.org db1",
		"web1 dns nowhere.example.org 10.0.30.11", "web1 dns text.example.com 10.0.30.11", "web1 dns www.example.net 10.0.30.11",
		"web1 dns www.example.org web2", "web1 dns www.example.org gateway")
	report := s.verify()
	failed := "fail " + CodeDNSFailed
	s.wantChecks(report, "pass", "pass", failed, failed, failed, failed, failed)
	for i, want := range []string{"192.0.2.7", "2001:db8::7", "NXDOMAIN", "no address", "REFUSED", "Port", "Port"} {
		if evidence := strings.Join(report.Checks[i].Evidence, "\n"); !strings.Contains(evidence, want) {
			t.Errorf("%s: evidence %q, want %q", report.Checks[i].Name, evidence, want)
		}
	}
	if got := report.Checks[0].Value; got != "192.0.2.7" {
		t.Errorf("value %q, want the address", got)
	}
}

func TestRunLatencyAndLoss(t *testing.T) {
	s := newSite(t)
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	for name, addr := range map[string]string{"good": "10.0.40.12/24", "slow": "10.0.40.13/24", "lossy": "10.0.40.14/24"} {
		s.tapGuest(name, "lan", addr)
	}
	s.fakes["slow"].delay.Store(int64(4 * time.Millisecond))
	s.fakes["lossy"].drop.Store(5)
	s.expects("pc1 fast good <500ms", "pc1 sure good", "pc1 fast slow <4ms", "pc1 sure lossy", "pc1 fast lossy <500ms")
	report := s.verify()
	s.wantChecks(report, "pass", "pass", "fail SLOW", "fail LOSSY", "pass")
	for _, c := range report.Checks {
		if !strings.HasPrefix(c.Value, "median ") {
			t.Errorf("%s: value %q", c.Name, c.Value)
		}
	}
	if !strings.Contains(report.Checks[3].Value, "20% of 60 lost") {
		t.Errorf("measured %q, want every fifth lost", report.Checks[3].Value)
	}
}

// Macvtap guests reach each other and the wire, and never their own host.
func TestRunExpectationsOfMacvtap(t *testing.T) {
	s := newSite(t)
	fabric := &lab.Station{Name: "fabric", Device: up0, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.50.1/24")}}
	s.must(s.lab.AddStation(t.Context(), fabric))
	s.networks = append(s.networks, vnet.Network{
		Name: "edge", Mode: vnet.ModeMacvtap, Device: up0,
		Subnet: netip.MustParsePrefix("10.0.50.0/24"), Gateway: netip.MustParseAddr("10.0.50.1"),
	})
	s.run("ip", "address", "add", "10.0.50.200/24", "dev", up0)
	s.macvtapGuest("kiosk1", "10.0.50.11/24")
	s.macvtapGuest("kiosk2", "10.0.50.12/24")
	s.expects("kiosk1 reach kiosk2", "kiosk1 reach gateway", "kiosk1 tcp gateway:80", "kiosk1 deny kiosk2", "kiosk1 reach 10.0.50.200")
	report := s.verify()
	s.wantChecks(report, "pass", "pass", "fail TCP_REFUSED", "leak REACHABLE", "fail MACVTAP_HOST")
	fix := report.Problems[len(report.Problems)-1].Fix
	command, _, _ := strings.Cut(fix, "   #")
	s.run("sh", "-c", command)
	s.run("ip", "address", "del", "10.0.50.200/24", "dev", up0)
	s.run("ip", "link", "set", up0+"-host", "up")
	s.run("ip", "address", "add", "10.0.50.200/24", "dev", up0+"-host")
	s.expects("kiosk1 reach 10.0.50.200")
	s.wantChecks(s.verify(), "pass")
	// A vantage does not answer for the host's address there.
	host, err := dumpLinks()
	s.must(err)
	vantage, err := openSibling(host[up0], 99)
	s.must(err)
	device, err := netlink.LinkByName(vantage)
	s.must(err)
	answers, err := fabric.Run(t.Context(), "busybox", "arping", "-b", "-c", "1", "-w", "1", "-I", "eth0", "10.0.50.200")
	s.must(err)
	if !strings.Contains(answers, "reply from") || strings.Contains(strings.ToLower(answers), device.Attrs().HardwareAddr.String()) {
		t.Errorf("want answers, and none from %s:\n%s", device.Attrs().HardwareAddr, answers)
	}
	s.must(closeSibling(vantage))
	s.run("ip", "link", "del", up0+"-host")
}

func TestRunExpectationsOfIPv6(t *testing.T) {
	s := newTalkSite(t)
	for guest, addr := range map[string]string{"web1": "2001:db8::11", "web2": "2001:db8::12"} {
		s.in(guest, "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
		s.in(guest, "ip", "address", "add", addr+"/64", "dev", "eth0", "nodad")
		g := s.guest(guest)
		g.NICs[0].Addresses = append(g.NICs[0].Addresses, Address{netip.MustParseAddr(addr), AddressSpec})
	}
	s.serve("web2", "80")
	s.expects("web1 reach 2001:db8::12", "web1 tcp [2001:db8::12]:80", "web1 tcp [2001:db8::12]:81", "web1 deny 2001:db8::12")
	s.wantChecks(s.verify(), "pass", "pass", "fail TCP_REFUSED", "leak REACHABLE")
	s.in("web2", "nft", "add table inet f; add chain inet f in { type filter hook input priority 0; }; "+
		"add rule inet f in tcp dport 80 reject with icmpx type admin-prohibited")
	s.expects("web1 tcp [2001:db8::12]:80")
	report := s.verify()
	s.wantChecks(report, "fail TCP_FILTERED")
	if evidence := strings.Join(report.Checks[0].Evidence, ""); !strings.Contains(evidence, "AdminProhibited") {
		t.Errorf("evidence %q", evidence)
	}
}

func TestRunExpectationsOfNames(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	resolve := func(o *Options) {
		o.Resolve = func(_ context.Context, name string) ([]netip.Addr, error) {
			if name == "db.example.org" {
				return []netip.Addr{netip.MustParseAddr("2001:db8::30"), netip.MustParseAddr("10.0.30.11")}, nil
			}
			return nil, errors.New("no such host")
		}
	}
	s.expects("web1 reach db.example.org", "web1 tcp db.example.org:80", "web1 reach nowhere.example.org")
	report := s.verify(resolve)
	s.wantChecks(report, "pass", "fail TCP_REFUSED", "inconclusive")
	if reason := report.Checks[2].Reason; !strings.Contains(reason, "no such host") {
		t.Errorf("reason %q", reason)
	}
	report = s.verify(resolve, func(o *Options) { o.Guests = []string{"db1"} })
	s.wantChecks(report, "pass", "fail TCP_REFUSED")
	report = s.verify(resolve, func(o *Options) { o.Guests = []string{"pc1"} })
	s.wantChecks(report)
}

// A healthy network never fails, also on a host that has no time.
func TestRunHealthyExpectations(t *testing.T) {
	s := newTalkSite(t)
	s.routed("red", "blue")
	s.serve("db1", "5432")
	s.dnsmasq("db1", "--address=/www.example.org/192.0.2.7")
	s.run("nft", "add table inet f; add chain inet f through { type filter hook forward priority 0; }; "+
		"add rule inet f through iifname rt-blue oifname rt-red ct state new drop")
	s.expects("network red reach network blue", "network red deny network lan", "network blue deny network red", "network red tcp db1:5432",
		"web1 dns www.example.org db1", "web1 fast gateway <2s", "web2 sure gateway", "network lan reach network lan")
	var over atomic.Bool
	defer over.Store(true)
	for range 2 * runtime.NumCPU() {
		go func() {
			for !over.Load() {
			}
		}()
	}
	for range 5 {
		report := s.verify()
		s.wantChecks(report, "pass", "pass", "pass", "pass", "pass", "pass", "pass", "pass")
		if report.Verdict() != VerdictPass {
			t.Errorf("want a pass:\n%s", brief(report))
		}
	}
}

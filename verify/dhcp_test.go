// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// serve runs a DHCP server on a station until the test ends.
func (s *site) serveDHCP(st *lab.Station, from, to string) {
	s.t.Helper()
	dir := s.t.TempDir()
	cmd := exec.CommandContext(s.t.Context(), "ip", "netns", "exec", st.Name, "dnsmasq", "--keep-in-foreground", "--port=0",
		"--conf-file=/dev/null", "--interface=eth0", "--bind-interfaces", "--no-ping", "--leasefile-ro", "--user=root",
		"--pid-file="+dir+"/pid", "--dhcp-range="+from+","+to+",1h")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Log(out.String())
		}
	})
}

// leaveChecksums makes eth0 leave checksums to its hardware, which is what
// ethtool -K eth0 tx on does.
func leaveChecksums() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a socket for ioctl
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 1}
	request := struct { // struct ifreq of linux/if.h
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], "eth0")
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// discovers lets a fake guest ask for DHCP, and take no offer, until stopped.
func (s *site) discovers(name string) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	g := s.fakes[name]
	m, err := dhcpv4.NewDiscovery(g.mac.HardwareAddr(), dhcpv4.WithBroadcast(true))
	s.must(err)
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			_, _ = g.file.Write(encodeDHCP(g.mac, m))
			time.Sleep(300 * time.Millisecond)
		}
	})
	return func() { cancel(); done.Wait() }
}

func TestRunDHCP(t *testing.T) {
	s := newSite(t)
	lab.Need(t, lab.Libvirt) // dnsmasq comes with it
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.tapGuest("pc1", "lan", "169.254.7.1/16")
	s.tapGuest("pc2", "lan", "169.254.7.2/16")
	s.tapGuest("web1", "red", "10.0.20.11/24")
	for _, name := range []string{"pc1", "pc2"} {
		s.must(s.fakes[name].hello())
	}
	ask := func(limit time.Duration) func(*Options) {
		return func(o *Options) { o.DHCP, o.Timing.DHCP = true, limit }
	}
	says := func(r Report, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if all := brief(r); !strings.Contains(all, text) {
				t.Errorf("nothing says %q:\n%s", text, all)
			}
		}
	}

	// There is no server: one finding for both guests, and none for the network
	// where nobody needs one.
	report := s.verify(ask(600 * time.Millisecond))
	s.wantOnly(report, VerdictFail, CodeNoDHCPOffer+" network lan")
	says(report, "affects pc1 (lan)", "affects pc2 (lan)", "asked 3 times from vt0", "pc1 gave itself 169.254.7.1")

	// Nor is one when a guest itself asks and nobody but it is heard.
	stop := s.discovers("pc1")
	report = s.verify(ask(5 * time.Second))
	stop()
	says(report, "DHCPDISCOVER at tap-pc1")
	s.wantOnly(report, VerdictFail, CodeNoDHCPOffer+" network lan")

	// The server offers, and pc1 does not take it: the checksum is left to
	// hardware that a veth does not have.
	server := s.stranger("server", br0, 0, "10.0.40.2/24")
	s.serveDHCP(server, "10.0.40.100", "10.0.40.150")
	s.must(server.Do(leaveChecksums))
	// And the tap, as QEMU sets it up, hands them on so.
	tap, err := s.fakes["pc1"].file.SyscallConn()
	s.must(err)
	s.must(tap.Control(func(fd uintptr) { err = unix.IoctlSetInt(int(fd), unix.TUNSETOFFLOAD, 1) }))
	s.must(err)
	stop = s.discovers("pc1")
	report = s.verify(ask(5 * time.Second))
	stop()
	var codes []string
	for _, p := range report.Problems {
		codes = append(codes, p.Code+" "+p.Subject)
	}
	if got := strings.Join(codes, ", "); got != "NO_ADDRESS guest pc2, NIC tap-pc2, DHCP_NOT_TAKEN guest pc1, NIC tap-pc1" {
		t.Errorf("problems %s:\n%s", got, brief(report))
	}
	says(report, "its UDP checksum was left to hardware", "offers were delivered to tap-pc1: 10.0.40.1", "by 10.0.40.2",
		"fix ethtool -K DEVICE tx off", "vt0 was offered 10.0.40.1")

	// Without being told to, nobody asks.
	if report := s.verify(); strings.Contains(brief(report), "was offered") {
		t.Errorf("it asked for DHCP, and nobody wanted that:\n%s", brief(report))
	}
}

func TestDHCPFrames(t *testing.T) {
	m, err := dhcpv4.NewDiscovery(macA.HardwareAddr(), dhcpv4.WithBroadcast(true))
	if err != nil {
		t.Fatal(err)
	}
	b := encodeDHCP(macA, m)
	got, sum, ok := decodeDHCP(b)
	if !ok || sum != "" || got.TransactionID != m.TransactionID {
		t.Errorf("it comes back as %v, %q, %v", got, sum, ok)
	}
	b[len(b)-1]++
	if _, sum, ok := decodeDHCP(b); !ok || !strings.Contains(sum, "is wrong") {
		t.Errorf("spoilt: %q, %v", sum, ok)
	}
	for length := range etherHeader + ipHeader + udpHeader {
		if _, _, ok := decodeDHCP(b[:length]); ok {
			t.Errorf("%d bytes are read as DHCP", length)
		}
	}
}

// A guest that has not waited long, or that may yet take its offer, is not
// blamed.
func TestDHCPPatience(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		seen dhcpSeen
		own  dhcpProbe
		code string
	}{
		"nothing seen":          {},
		"asked just now":        {seen: dhcpSeen{asked: 1, firstAsk: now, until: now}},
		"asked a minute ago":    {seen: dhcpSeen{asked: 1, firstAsk: now.Add(-time.Minute), until: now}, code: CodeNoDHCPOffer},
		"asks since a second":   {seen: dhcpSeen{asked: 2, firstAsk: now.Add(-time.Second), until: now}},
		"asks since a minute":   {seen: dhcpSeen{asked: 2, firstAsk: now.Add(-time.Minute), until: now}, code: CodeNoDHCPOffer},
		"offered":               {seen: dhcpSeen{asked: 2, firstAsk: now.Add(-time.Minute), offers: 1, until: now}},
		"goes on asking":        {seen: dhcpSeen{asked: 2, offers: 1, again: true}, code: CodeDHCPNotTaken},
		"took it in the end":    {seen: dhcpSeen{asked: 2, offers: 1, again: true, taken: true}},
		"does not ask, nor we":  {own: dhcpProbe{}},
		"does not ask, we did":  {own: dhcpProbe{asked: 3}},
		"asks as much as we":    {seen: dhcpSeen{asked: 1}, own: dhcpProbe{asked: 3}, code: CodeNoDHCPOffer},
		"we get an offer alone": {seen: dhcpSeen{asked: 2, firstAsk: now.Add(-time.Minute), until: now}, own: dhcpProbe{asked: 1, offer: "x"}, code: CodeNoDHCPOffer},
	} {
		n := healthy()
		n.dhcp, n.segment.dhcp = &test.seen, test.own
		f, ok := n.judgeDHCP()
		if f.code != test.code || ok != (test.code != "") {
			t.Errorf("%s: %q, want %q", name, f.code, test.code)
		}
	}
}

// A guest without an address is waited for until it asks, and then until it must
// have been offered one; nobody else is waited for.
func TestDHCPEnough(t *testing.T) {
	const discover = 7 * time.Second
	start := time.Now()
	later := start.Add(2 * time.Second)
	for name, test := range map[string]struct {
		seen   dhcpSeen
		broken RungName
		want   time.Time
	}{
		"has an address":      {},
		"is silent":           {broken: RungMAC},
		"has not asked":       {broken: RungAddress, want: start.Add(discover)},
		"has asked":           {broken: RungAddress, seen: dhcpSeen{asked: 1, firstAsk: later}, want: later.Add(patience + grace)},
		"takes what it gets":  {broken: RungAddress, seen: dhcpSeen{asked: 1, firstAsk: later, offers: 1, taken: true}},
		"does not take it":    {broken: RungAddress, seen: dhcpSeen{asked: 2, firstAsk: later, offers: 1, again: true}},
		"may yet take it":     {broken: RungAddress, seen: dhcpSeen{asked: 1, firstAsk: later, offers: 1}, want: later.Add(patience + grace)},
		"asks for another":    {seen: dhcpSeen{asked: 1, firstAsk: later}, want: later.Add(patience + grace)},
		"asks, yet no answer": {broken: RungAddress, seen: dhcpSeen{asked: 3, firstAsk: later}, want: later.Add(patience + grace)},
	} {
		n := healthy()
		n.selected = true
		if test.broken != "" {
			n.problem = &Problem{Rung: test.broken}
		}
		test.seen.from = start
		if got := (&dhcpPort{nic: n, seen: &test.seen}).enough(discover); !got.Equal(test.want) {
			t.Errorf("%s: until %v, want %v", name, got.Sub(start), test.want.Sub(start))
		}
	}
}

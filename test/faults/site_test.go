// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// commandLimit bounds one command, and patience what is healed but takes its
// time.
const (
	commandLimit = 2 * time.Minute
	patience     = 20 * time.Second
)

// site is a host with guests, our programs, and a world beyond its uplinks.
type site struct {
	*lab.Lab
	topology vnet.Topology
	// honest is the gateway of that network, late what answers for it when it is
	// slow.
	honest *lab.Station
	late   net.PacketConn
	// sick is whether a fault is there.
	sick bool
}

// newSite builds the site of testdata and boots its guests.
func newSite(t *testing.T) *site {
	t.Helper()
	lab.Need(t, lab.Guests, lab.OVS)
	bin := t.TempDir()
	if err := stage.Programs(t.Context(), bin); err != nil {
		t.Fatal(err)
	}
	// The fixes that findings name are for a shell that finds virt-vnet.
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	spec, err := config.Load("testdata/site.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Lab: labtest.Start(t, lab.Options{Libvirt: true, OVS: true}), topology: spec.Topology}
	if err := s.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.must(t, "cp testdata/site.yaml "+config.Dir)
	s.must(t, "virt-vnet apply && virt-vnet hooks install --reload")
	guests := stage.Guests(s.topology)
	for _, g := range guests {
		for i, nic := range g.NICs {
			g.NICs[i].DHCP = nic.Network == "pool"
		}
	}
	if err := s.Boot(t.Context(), guests...); err != nil {
		t.Fatal(err)
	}
	in("db1", startHTTP)(t, s)
	return s
}

// build makes the switches and what is beyond them: a gateway for every
// network, two of them behind uplinks, a DHCP server, and somebody who means no
// good.
func (s *site) build(ctx context.Context) error {
	var errs []error
	for _, name := range []string{"br0", "br1", "br2", "br3", "br4"} {
		errs = append(errs, s.AddLinuxBridge(ctx, name))
	}
	errs = append(errs, s.AddOVSBridge(ctx, "ovs0"), s.AddOVSBridge(ctx, "tor0"), s.AddVeth(ctx, "up1", "far1"))
	stations := []*lab.Station{
		{Name: "gw-lan", Bridge: "br0", Device: "up0"},
		{Name: "gw-apart", Bridge: "br1"},
		{Name: "gw-honest", Bridge: "br2"},
		{Name: "gw-pool", Bridge: "br3"},
		{Name: "gw-red", Bridge: "tor0", VLAN: 20},
		{Name: "gw-blue", Bridge: "tor0", VLAN: 30},
		{Name: "gw-both", Bridge: "tor0", VLAN: 40},
		{Name: "gw-six", Bridge: "br4"},
		{Name: "gw-edge", Device: "eth1"},
	}
	for _, gw := range stations {
		n, _ := s.topology.Network(strings.TrimPrefix(gw.Name, "gw-"))
		gw.Addresses = []netip.Prefix{netip.PrefixFrom(n.Gateway, n.Subnet.Bits())}
	}
	s.honest = stations[2]
	for _, station := range append(stations, &lab.Station{Name: "rogue", Bridge: "br0"}) {
		errs = append(errs, s.AddStation(ctx, station))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := s.Vsctl(ctx, "add-port", "ovs0", "up1", "--", "add-port", "tor0", "far1"); err != nil {
		return err
	}
	for _, line := range []string{
		startDHCP, startDNS, "ip -n gw-lan addr add 10.0.10.2/24 dev eth0",
		"ip link add link eth1 name eth1-host type macvlan mode bridge", besideMacvtap,
	} {
		if _, err := shell(ctx, line); err != nil {
			return err
		}
	}
	return nil
}

// These are the servers of the networks pool and red.
const (
	startDNS = "ip netns exec gw-red dnsmasq --conf-file=/dev/null --pid-file=/run/faults-dns.pid --no-resolv --no-hosts" +
		" --bind-interfaces --interface=eth0 --address=/www.example.org/10.0.20.80"
	stopDNS   = "kill $(cat /run/faults-dns.pid)"
	startDHCP = "ip netns exec gw-pool dnsmasq --conf-file=/dev/null --pid-file=/run/faults-dhcp.pid --dhcp-leasefile=/run/faults-dhcp.leases" +
		" --port=0 --interface=eth0 --bind-interfaces --dhcp-range=10.0.13.10,10.0.13.20,1h" +
		" --dhcp-host=52:54:00:00:13:11,10.0.13.11 --dhcp-host=52:54:00:00:13:12,10.0.13.12"
	stopDHCP = "kill $(cat /run/faults-dhcp.pid)"
	// besideMacvtap gives the host its address among the guests of the network
	// edge, on a macvlan that is there.
	besideMacvtap = "ip addr add 10.0.50.9/24 dev eth1-host; ip link set eth1-host up"
	startHTTP     = "httpd -p 80 -h /proc"
	// askDHCP takes the address of app1 in the network pool away. The guest asks
	// for it every other second until hasDHCP.
	hasDHCP = "until ip addr show dev eth2 | grep -q 'inet '; do sleep 1; done"
	askDHCP = "ip addr flush dev eth2; udhcpc -q -n -t 100 -T 2 -i eth2 -s /dhcp.sh >/dev/null 2>&1 &"
)

// shell runs a line of shell on the host and returns what it printed.
func shell(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", line).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return string(out), nil
}

func (s *site) must(t *testing.T, line string) {
	t.Helper()
	if out, err := shell(t.Context(), s.expand(t, line)); err != nil {
		t.Fatal(err)
	} else if out != "" {
		t.Logf("%s\n%s", line, out)
	}
}

// placeholder is the device of a NIC in a text, such as {web1/lan}.
var placeholder = regexp.MustCompile(`\{(\w+)/(\w+)\}`)

// expand puts the devices of NICs in the place of their placeholders.
func (s *site) expand(t *testing.T, text string) string {
	t.Helper()
	return placeholder.ReplaceAllStringFunc(text, func(found string) string {
		part := placeholder.FindStringSubmatch(found)
		xml, err := s.Virsh(t.Context(), "dumpxml", part[1])
		if err != nil {
			t.Fatal(err)
		}
		domain, err := libvirtnet.ParseDomain([]byte(xml))
		if err != nil {
			t.Fatal(err)
		}
		guest, _ := s.topology.Guest(part[1])
		// By MAC, as libvirt forgets the network when it sets a link down.
		i := slices.IndexFunc(guest.NICs, func(nic vnet.NIC) bool { return nic.Network == part[2] })
		if i < 0 {
			t.Fatalf("there is no %s", found)
		}
		nic, ok := domain.NIC(guest.NICs[i].MAC)
		if !ok {
			t.Fatalf("%s is not plugged in", found)
		}
		return nic.Device
	})
}

// verify runs the program and returns its report.
func (s *site) verify(t *testing.T) verify.Report {
	t.Helper()
	r, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs the program and returns its report. That its exit code does not fit
// the report is an error.
func (s *site) run(ctx context.Context) (verify.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "virt-vnet", "verify", "-o", "json")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var r verify.Report
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return r, fmt.Errorf("virt-vnet verify: %w", err)
	}
	code := cmd.ProcessState.ExitCode()
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("virt-vnet verify: exit code %d: %w: %s%s", code, err, out, stderr.String())
	}
	want := map[verify.Verdict]int{verify.VerdictPass: 0, verify.VerdictFail: 4, verify.VerdictLeak: 5, verify.VerdictInconclusive: 6}
	if code != want[r.Verdict()] {
		return r, fmt.Errorf("virt-vnet verify: exit code %d for the verdict %s", code, r.Verdict())
	}
	return r, nil
}

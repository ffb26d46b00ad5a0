// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/switchcfg/firewall"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMain(m *testing.M) { lab.Main(m) }

// site is a small host with guests on real switches: red and blue on an Open
// vSwitch bridge, lan on a Linux bridge, edge as macvtaps.
type site struct {
	t        *testing.T
	lab      *lab.Lab
	networks []vnet.Network
	switches []Switch
	guests   []Guest
	expect   []vnet.Expectation
	waivers  []vnet.Waiver
	fakes    map[string]*fakeGuest
	nsGuests map[string]*lab.Station
}

const (
	ovs0 = "ovs0"
	br0  = "br0"
	up0  = "up0"
)

func newSite(t *testing.T) *site {
	t.Helper()
	lab.Need(t, lab.OVS)
	return newSiteWith(t, lab.Options{OVS: true})
}

func newSiteWith(t *testing.T, opts lab.Options) *site {
	t.Helper()
	l := labtest.Start(t, opts)
	s := &site{t: t, lab: l, fakes: map[string]*fakeGuest{}, nsGuests: map[string]*lab.Station{}}
	s.must(l.AddOVSBridge(t.Context(), ovs0))
	s.must(l.AddLinuxBridge(t.Context(), br0))
	s.switches = []Switch{
		{Switch: vnet.Switch{Name: ovs0, Driver: vnet.DriverOVS}},
		{Switch: vnet.Switch{Name: br0, Driver: vnet.DriverLinux}},
	}
	return s
}

// newThreeNetworks is a site with two VLANs and a plain bridge, and a guest with
// a real IP stack in each.
func newThreeNetworks(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.network("red", ovs0, 20, "10.0.20.0/24")
	s.network("blue", ovs0, 30, "10.0.30.0/24")
	s.network("lan", br0, 0, "10.0.40.0/24")
	s.kernelGuest("web1", "red", "10.0.20.11/24")
	s.kernelGuest("db1", "blue", "10.0.30.11/24")
	s.kernelGuest("pc1", "lan", "10.0.40.11/24")
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) network(name, sw string, vlan vnet.VLANID, subnet string) {
	n := vnet.Network{
		Name: name, Mode: vnet.ModeBridge, Switch: sw,
		Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: vlan}},
	}
	if subnet != "" {
		n.Subnet = netip.MustParsePrefix(subnet)
	}
	s.networks = append(s.networks, n)
}

func (s *site) net(name string) *vnet.Network {
	i := slices.IndexFunc(s.networks, func(n vnet.Network) bool { return n.Name == name })
	return &s.networks[i]
}

// kernelGuest adds a guest with a real IP stack: a network namespace behind a
// veth pair, whose near end is like a guest's tap.
func (s *site) kernelGuest(name, network, addr string) {
	s.t.Helper()
	n := s.net(network)
	p := netip.MustParsePrefix(addr)
	st := &lab.Station{
		Name: name, Bridge: n.Switch, MAC: lab.MACFor(name, 0), VLAN: uint16(n.Policy.VLAN.Access),
		Addresses: []netip.Prefix{p},
	}
	s.must(s.lab.AddStation(s.t.Context(), st))
	s.nsGuests[name] = st
	s.addGuest(name, network, st.Device, p.Addr())
}

// tapGuest adds a guest behind a real tap, as QEMU has it, whose other end is
// the test.
func (s *site) tapGuest(name, network, addr string) {
	s.t.Helper()
	file, device, err := openTap("tap-" + name)
	s.must(err)
	l, err := netlink.LinkByName(device)
	s.must(err)
	s.must(netlink.LinkSetUp(l))
	s.plug(device, *s.net(network))
	a := netip.MustParsePrefix(addr).Addr()
	s.fake(name, file, a)
	s.addGuest(name, network, device, a)
}

func (s *site) plug(device string, n vnet.Network) {
	s.t.Helper()
	if n.Switch == br0 {
		s.run("ip", "link", "set", device, "master", br0)
		return
	}
	_, err := s.lab.Vsctl(s.t.Context(), "add-port", n.Switch, device, fmt.Sprintf("tag=%d", n.Policy.VLAN.Access))
	s.must(err)
}

// macvtapGuest adds a guest on a macvtap over the network's device.
func (s *site) macvtapGuest(name, addr string) {
	const network = "edge"
	s.t.Helper()
	n := s.net(network)
	lower, err := netlink.LinkByName(n.Device)
	s.must(err)
	mode := map[vnet.MacvtapMode]netlink.MacvlanMode{
		vnet.MacvtapBridge: netlink.MACVLAN_MODE_BRIDGE, vnet.MacvtapVEPA: netlink.MACVLAN_MODE_VEPA,
		vnet.MacvtapPrivate: netlink.MACVLAN_MODE_PRIVATE, vnet.MacvtapPassthrough: netlink.MACVLAN_MODE_PASSTHRU,
	}[n.Macvtap]
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = "mv-"+name, lower.Attrs().Index, lab.MACFor(name, 0)
	s.must(netlink.LinkAdd(&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs, Mode: mode}}))
	l, err := netlink.LinkByName(attrs.Name)
	s.must(err)
	s.must(netlink.LinkSetUp(l))
	a := netip.MustParsePrefix(addr).Addr()
	s.fake(name, s.openMacvtap(l.Attrs().Index), a)
	s.addGuest(name, network, attrs.Name, a)
}

func (s *site) openMacvtap(index int) *os.File {
	s.t.Helper()
	path := "/dev/tap" + strconv.Itoa(index)
	var fd int
	err := errors.New("never tried")
	for range 100 { // the lab makes the node a moment later, as udev does
		if fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.must(err)
	request, err := unix.NewIfreq("")
	s.must(err)
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	s.must(unix.IoctlIfreq(fd, unix.TUNSETIFF, request))
	return os.NewFile(uintptr(fd), path)
}

func (s *site) addGuest(name, network, device string, addr netip.Addr) {
	n := s.net(network)
	policy, _ := n.PolicyFor("")
	ref := vnet.GuestRef{Name: name, UUID: "uuid-" + name}
	s.guests = append(s.guests, Guest{
		Ref: ref, Running: true, State: "running",
		NICs: []NIC{{
			Want: vnet.Port{
				Device: device, Switch: n.Switch, Guest: ref, MAC: vnet.MAC(lab.MACFor(name, 0)),
				Network: network, Policy: policy,
			},
			Addresses: []Address{{addr, AddressSpec}},
		}},
	})
}

// guest returns a guest to be changed.
func (s *site) guest(name string) *Guest {
	i := slices.IndexFunc(s.guests, func(g Guest) bool { return g.Ref.Name == name })
	return &s.guests[i]
}

// inventory looks at the switches anew.
func (s *site) inventory() Inventory {
	s.t.Helper()
	guests := slices.Clone(s.guests)
	for i := range guests {
		guests[i].NICs = slices.Clone(guests[i].NICs)
		for j := range guests[i].NICs {
			nic := &guests[i].NICs[j]
			if nic.Want.Switch != "" {
				nic.Port = s.port(nic.Want.Device)
			}
		}
	}
	switches := slices.Clone(s.switches)
	for i := range switches {
		if sw := &switches[i]; sw.Uplink != "" {
			sw.UplinkPort = &UplinkPort{}
			if port := s.port(sw.Uplink); port != nil && port.Switch == sw.Name {
				sw.UplinkPort = &UplinkPort{Device: sw.Uplink, VLAN: port.VLAN, Forwarding: port.Forwarding}
			}
		}
	}
	return Inventory{
		Guests: guests, Networks: s.networks, Switches: switches, Expect: s.expect, Waivers: s.waivers,
	}
}

func (s *site) port(device string) *Port {
	s.t.Helper()
	if sw, err := s.lab.Vsctl(s.t.Context(), "port-to-br", device); err == nil {
		tag, err := s.lab.Vsctl(s.t.Context(), "get", "port", device, "tag")
		s.must(err)
		protected, err := s.lab.Vsctl(s.t.Context(), "get", "port", device, "protected")
		s.must(err)
		id, _ := strconv.Atoi(tag)
		return &Port{
			Switch: sw, VLAN: &vnet.VLANSet{Access: vnet.VLANID(id)},
			Isolated: vnet.ToggleOf(protected == "true"),
		}
	}
	l, err := netlink.LinkByName(device)
	if err != nil {
		return nil
	}
	p := &Port{}
	if l.Attrs().MasterIndex != 0 {
		master, err := netlink.LinkByIndex(l.Attrs().MasterIndex)
		s.must(err)
		info, err := netlink.LinkGetProtinfo(l)
		s.must(err)
		p.Switch, p.Isolated = master.Attrs().Name, vnet.ToggleOf(info.Isolated)
		text, err := os.ReadFile("/sys/class/net/" + device + "/brport/state")
		s.must(err)
		p.Forwarding.State = map[string]string{
			"0": "disabled", "1": "listening", "2": "learning", "3": stateForwarding, "4": "blocking",
		}[strings.TrimSpace(string(text))]
	}
	return p
}

func (s *site) verify(change ...func(*Options)) Report {
	s.t.Helper()
	opts := Options{Switches: s, Timing: Timing{Confirm: []time.Duration{500 * time.Millisecond}, Discover: 500 * time.Millisecond}}
	for _, f := range change {
		f(&opts)
	}
	before := s.devices()
	report, err := Run(s.t.Context(), s.inventory(), opts)
	s.must(err)
	if after := s.devices(); !slices.Equal(before, after) {
		s.t.Errorf("devices left behind: had %v, have %v", before, after)
	}
	return report
}

func (s *site) devices() []string {
	s.t.Helper()
	host, err := dumpLinks()
	s.must(err)
	var names []string
	for name := range host {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (s *site) run(argv ...string) {
	s.t.Helper()
	s.must(command(s.t.Context(), argv...))
}

func command(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Learned implements [Switches].
func (s *site) Learned(ctx context.Context, sw string) ([]Learned, error) {
	if sw == br0 {
		return s.learnedByBridge()
	}
	out, err := exec.CommandContext(ctx, "ovs-appctl", "fdb/show", sw).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("fdb/show %s: %w: %s", sw, err, out)
	}
	numbers := map[string]string{}
	ports, err := s.lab.Vsctl(ctx, "--columns=name,ofport", "--format=csv", "--no-headings", "list", "interface")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(ports) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), ",")
		numbers[number] = name
	}
	var rows []Learned
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if mac, err := vnet.ParseMAC(f[min(2, len(f)-1)]); err == nil {
			id, _ := strconv.Atoi(f[1])
			rows = append(rows, Learned{MAC: mac, VLAN: vnet.VLANID(id), Device: numbers[f[0]]})
		}
	}
	return rows, nil
}

func (s *site) learnedByBridge() ([]Learned, error) {
	list, err := netlink.NeighList(0, unix.AF_BRIDGE) //nolint:forbidigo // a quiet lab
	if err != nil {
		return nil, err
	}
	var rows []Learned
	for _, n := range list {
		l, err := netlink.LinkByIndex(n.LinkIndex)
		if err != nil || n.State&netlink.NUD_PERMANENT != 0 || n.MasterIndex == 0 {
			continue
		}
		rows = append(rows, Learned{MAC: vnet.MAC(n.HardwareAddr), Device: l.Attrs().Name})
	}
	return rows, nil
}

// OpenVantage implements [Switches]: an internal port of Open vSwitch, or a veth
// pair into the Linux bridge.
func (s *site) OpenVantage(ctx context.Context, sw string, vlan vnet.VLANID) (string, error) {
	name := fmt.Sprintf("vt%d", vlan)
	steps := [][]string{
		{"ovs-vsctl", "--timeout=10", "add-port", sw, name, "--", "set", "interface", name, "type=internal"},
		{"ip", "link", "set", name, "up"},
	}
	if vlan != 0 {
		steps[0] = append(steps[0], "--", "set", "port", name, fmt.Sprintf("tag=%d", vlan))
	}
	if sw == br0 {
		steps[0] = []string{"ip", "link", "add", name, "type", "veth", "peer", "name", name + "p"}
		steps = append(steps, []string{"ip", "link", "set", name + "p", "up", "master", br0})
	}
	for _, argv := range steps {
		if err := command(ctx, argv...); err != nil {
			return "", err
		}
		quiet(name)
	}
	return name, nil
}

// CloseVantage implements [Switches].
func (s *site) CloseVantage(ctx context.Context, sw, device string) error {
	if sw != br0 {
		_, err := s.lab.Vsctl(ctx, "del-port", sw, device)
		return err
	}
	l, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	return netlink.LinkDel(l)
}

// WatchDrops implements [Switches].
func (s *site) WatchDrops(ctx context.Context, ports []int, macs []vnet.MAC) (func(context.Context) ([]Drop, error), error) {
	trace, err := firewall.Start(ctx, ports, macs)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]Drop, error) {
		found, err := trace.Stop(ctx)
		var drops []Drop
		for _, d := range found {
			by := DropByBridge
			if d.IsGuard() {
				by = DropByGuard
			} else if d.IsHost() {
				by = DropByHost
			}
			drops = append(drops, Drop{
				Source: d.Source, Target: d.Target, In: d.In, Sender: d.Sender, IP: d.IsIP(), By: by,
				Place: d.Place(), Rule: d.Rule, Fix: d.Fix(), Frames: d.Frames,
			})
		}
		return drops, err
	}, nil
}

// fakeGuest answers ARP and ICMP echo at the guest's end of a tap.
type fakeGuest struct {
	mac  vnet.MAC
	addr netip.Addr
	file *os.File
	// deaf and noICMP make it a broken one.
	deaf, noICMP atomic.Bool
	heard        atomic.Int64
	// delay is how long an answer to an echo takes, in nanoseconds, and drop
	// that every so many-th has none.
	delay, drop, echoes atomic.Int64
	// stalled is held while it does not run.
	stalled sync.Mutex
}

func (s *site) fake(name string, file *os.File, addr netip.Addr) {
	g := &fakeGuest{mac: vnet.MAC(lab.MACFor(name, 0)), addr: addr, file: file}
	s.fakes[name] = g
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2000)
		for {
			n, err := file.Read(buf)
			if err != nil {
				return
			}
			g.stalled.Lock()
			g.stalled.Unlock() //nolint:staticcheck // it was waited for
			f, ok := decode(buf[:n])
			if !ok {
				continue
			}
			if f.kind != frameSolicitation && f.kind != frameAdvertisement { // the lab's own kernel says such things
				g.heard.Add(1)
			}
			if answer, ok := g.answer(f); ok {
				_, _ = file.Write(answer.encode())
			}
		}
	}()
	s.t.Cleanup(func() {
		_ = file.Close()
		<-done
	})
}

// hello lets the switch learn the guest.
func (g *fakeGuest) hello() error {
	f := frame{kind: frameARPRequest, dst: broadcast, src: g.mac, senderMAC: g.mac}
	_, err := g.file.Write(f.encode())
	return err
}

func (g *fakeGuest) answer(f frame) (frame, bool) {
	if g.deaf.Load() || f.target != g.addr || f.dst != g.mac && f.dst != broadcast {
		return frame{}, false
	}
	out := frame{dst: f.src, src: g.mac, sender: g.addr, target: f.sender}
	switch f.kind {
	case frameARPRequest:
		out.kind, out.senderMAC, out.targetMAC = frameARPReply, g.mac, f.senderMAC
	case frameEchoRequest:
		out.kind, out.token = frameEchoReply, f.token
		time.Sleep(time.Duration(g.delay.Load()))
		if n := g.echoes.Add(1); g.drop.Load() > 0 && n%g.drop.Load() == 0 {
			return frame{}, false
		}
		return out, !g.noICMP.Load()
	default:
		return frame{}, false
	}
	return out, true
}

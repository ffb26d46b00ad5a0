// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The bridge whose guests are verified: each a network namespace with a program
// in it that answers.
const (
	segmentBridge = "br5"
	segmentSize   = 500
	// mostFrames is how many frames asking may put into a guest.
	mostFrames = 3
)

// segment is that bridge, with an address of the host on it for the peers,
// which ask from there.
type segment struct {
	b         *bench
	sw        vnet.Switch
	driver    switchcfg.Driver
	inventory verify.Inventory
	// ports are the host's ends of the guests' cables, and stations the others.
	ports    map[string]bool
	stations []*lab.Station
	// list is a file with the guests' addresses.
	list string
}

func newSegment(ctx context.Context, b *bench) (s *segment, err error) {
	s = &segment{b: b, sw: vnet.Switch{Name: segmentBridge, Driver: vnet.DriverLinux}, ports: map[string]bool{}}
	s.list = filepath.Join(b.scriptDir, "addresses")
	if err := b.lab.AddLinuxBridge(ctx, segmentBridge); err != nil {
		return nil, err
	}
	if err := noIPv6(segmentBridge); err != nil {
		return nil, err
	}
	if _, err := tool(ctx, nil, "ip", "address", "add", "10.5.255.254/16", "dev", segmentBridge); err != nil {
		return nil, err
	}
	network := vnet.Network{
		Name: "segment", Mode: vnet.ModeBridge, Switch: segmentBridge, Subnet: netip.MustParsePrefix("10.5.0.0/16"),
	}
	s.inventory.Networks = []vnet.Network{network}
	s.inventory.Switches = []verify.Switch{{Switch: s.sw}}
	var list strings.Builder
	for i := range segmentSize {
		addr := netip.AddrFrom4([4]byte{10, 5, 1 + byte(i>>8), byte(i)})
		if err := s.addGuest(ctx, fmt.Sprintf("seg%03d", i), addr); err != nil {
			return nil, err
		}
		fmt.Fprintln(&list, addr)
	}
	if err := errors.Join(os.WriteFile(s.list, []byte(list.String()), 0o600), s.greet()); err != nil {
		return nil, err
	}
	s.driver, err = drivers.Open(ctx, s.sw)
	return s, err
}

func (s *segment) addGuest(ctx context.Context, name string, addr netip.Addr) error {
	st := &lab.Station{
		Name: name, Bridge: segmentBridge, MAC: lab.MACFor(name, 0), Addresses: []netip.Prefix{netip.PrefixFrom(addr, 16)},
	}
	if err := s.b.lab.AddStation(ctx, st); err != nil {
		return err
	}
	// Five hundred kernels that greet each other take minutes to be quiet, and
	// the host's ends of their cables would count as frames into the guests.
	if err := errors.Join(noIPv6(st.Device), st.Do(func() error {
		return errors.Join(noIPv6("all"), answering("eth0", st.MAC, addr))
	})); err != nil {
		return err
	}
	s.ports[st.Device], s.stations = true, append(s.stations, st)
	ref := vnet.GuestRef{Name: name, UUID: name}
	s.inventory.Guests = append(s.inventory.Guests, verify.Guest{
		Ref: ref, Running: true, State: "running",
		NICs: []verify.NIC{{
			Want: vnet.Port{
				Device: st.Device, Switch: segmentBridge, Guest: ref, MAC: vnet.MAC(st.MAC), Network: "segment",
			},
			Port:      &verify.Port{Switch: segmentBridge, Forwarding: verify.Forwarding{State: "forwarding"}},
			Addresses: []verify.Address{{Addr: addr, Source: verify.AddressSpec}},
		}},
	})
	return nil
}

// noIPv6 keeps a device, or all, from sending anything by itself.
func noIPv6(device string) error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("1"), 0)
}

// greet makes every guest send one frame, to the bridge itself. A guest that has
// booted has spoken, and the bridge floods what is for a MAC that it has not
// learned.
func (s *segment) greet() error {
	bridge, err := netlink.LinkByName(segmentBridge)
	if err != nil {
		return err
	}
	for _, st := range s.stations {
		frame := slices.Concat(bridge.Attrs().HardwareAddr, st.MAC, []byte{0x88, 0xb5}, make([]byte, 46)) // IEEE 802, for experiments
		if err := st.Inject(frame); err != nil {
			return err
		}
	}
	return nil
}

func (s *segment) close() error { return s.driver.Close() }

// frames is how many went into the guests so far.
func (s *segment) frames() (count uint64, err error) {
	links, err := netlink.LinkList() //nolint:forbidigo // nothing changes meanwhile
	for _, l := range links {
		if s.ports[l.Attrs().Name] {
			count += l.Attrs().Statistics.TxPackets
		}
	}
	return count, err
}

// stages is when a run began which of its parts, and what had gone into the
// guests by then.
type stages struct {
	s     *segment
	names []string
	// begun are when they began, and ended when what was before them had ended.
	begun []time.Time
	ended []time.Time
	sent  []uint64
	err   error
}

func (st *stages) begin(name string) {
	st.ended = append(st.ended, time.Now())
	sent, err := st.s.frames() // which takes longer than asking
	st.err = errors.Join(st.err, err)
	st.names, st.begun, st.sent = append(st.names, name), append(st.begun, time.Now()), append(st.sent, sent)
}

// The part of a run that the peers do, too.
const asking = "asking the guests"

// of returns what a part took, and how many frames it put into each guest.
func (st *stages) of(name string) (time.Duration, float64, error) {
	for i, n := range st.names[:len(st.names)-1] {
		if n == name {
			return st.ended[i+1].Sub(st.begun[i]), float64(st.sent[i+1]-st.sent[i]) / segmentSize, nil
		}
	}
	return 0, 0, fmt.Errorf("no part of the run is %q: %q", name, st.names)
}

// verify does a run, which must pass, and returns its parts.
func (s *segment) verify(ctx context.Context, full bool) (*stages, verify.Report, error) {
	st := &stages{s: s}
	report, err := verify.Run(ctx, s.inventory, verify.Options{Switches: s, Full: full, Progress: st.begin})
	st.begin("end")
	if err == nil && report.Verdict() != verify.VerdictPass {
		err = fmt.Errorf("verdict %s: %v %v", report.Verdict(), report.Limits, report.Problems)
	}
	return st, report, errors.Join(err, st.err)
}

// ask is how long asking the guests takes, which may not be heard by others.
func (s *segment) ask(ctx context.Context) (time.Duration, error) {
	st, _, err := s.verify(ctx, false)
	if err != nil {
		return 0, err
	}
	took, frames, err := st.of(asking)
	if err == nil && frames > mostFrames {
		err = fmt.Errorf("%.1f frames into each guest, want %d at most", frames, mostFrames)
	}
	return took, err
}

// whole is how long a run takes, with every pair of guests.
func (s *segment) whole(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	_, report, err := s.verify(ctx, true)
	took := time.Since(begun)
	if want := segmentSize * (segmentSize - 1); err == nil && len(report.Pairs) != want {
		err = fmt.Errorf("%d pairs, want %d", len(report.Pairs), want)
	}
	return took, err
}

// peer returns a run of a tool that prints a line for each guest which answers.
// What it asks everybody floods the bridge, so that on a busy machine it misses
// some, and may say so with exit code 1: its time counts all the same, as long as
// it did most of the work.
func (s *segment) peer(argv ...string) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		took := time.Since(begun)
		if found := strings.Count(string(out), "10.5."); found <= segmentSize/2 {
			return took, errors.Join(fmt.Errorf("%s found %d guests of %d", argv[0], found, segmentSize), err)
		}
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
			err = nil
		}
		return took, err
	}
}

// neighbours is how many entries the host's neighbour table has.
func neighbours() (int, error) {
	list, err := netlink.NeighList(0, netlink.FAMILY_V4) //nolint:forbidigo // nothing changes meanwhile
	return len(list), err
}

// The peers of asking, as they are and tuned for speed.
const (
	fpingTuned   = "fping -i 0.01 -r 0"
	fpingKnown   = "fping, guests in the host's neighbour table"
	arpScan      = "arp-scan"
	arpScanTuned = "arp-scan -i 10u -r 1"
	nmapPlain    = "nmap -sn -PR"
	nmapTuned    = "nmap -sn -PR, tuned"
)

// askGuests measures asking five hundred guests of a bridge.
func askGuests(ctx context.Context, b *bench) (m medians, err error) {
	s, err := b.needSegment(ctx)
	if err != nil {
		return m, err
	}
	before, err := neighbours()
	if err != nil {
		return m, err
	}
	for range 2 {
		if _, err := s.ask(ctx); err != nil {
			return m, err
		}
	}
	after, err := neighbours()
	if err == nil && before != after {
		err = fmt.Errorf("the host's neighbour table had %d entries before a run and %d after", before, after)
	}
	if err != nil {
		return m, err
	}
	// A host that has not spoken to its guests for a while does not know them.
	forget := func(ctx context.Context) error {
		_, err := tool(ctx, nil, "ip", "neigh", "flush", "dev", segmentBridge)
		return err
	}
	fping := []string{"fping", "-a", "-q", "-i", "0.01", "-r", "0", "-t", "1000", "-f", s.list}
	know := func(ctx context.Context) error {
		_, err := s.peer(fping...)(ctx)
		return err
	}
	nmap := []string{"nmap", "-sn", "-PR", "-n", "-oG", "-", "-iL", s.list}
	scan := []string{"arp-scan", "-q", "-x", "-I", segmentBridge, "-f", s.list}
	return interleave(
		ctx, effort{least: 5, most: 15, limit: 30 * time.Second},
		contender{name: "ours", run: s.ask},
		contender{name: fpingTuned, reset: forget, run: s.peer(fping...)},
		contender{name: fpingKnown, reset: know, run: s.peer(fping...)},
		contender{name: arpScan, reset: forget, run: s.peer(scan...)},
		contender{name: arpScanTuned, reset: forget, run: s.peer(append(scan, "-i", "10u", "-r", "1", "-t", "1000")...)},
		contender{name: nmapPlain, reset: forget, run: s.peer(nmap...)},
		contender{name: nmapTuned, reset: forget, run: s.peer(append(nmap, "-T5", "--max-retries", "1", "--min-rate", "20000")...)},
	)
}

// everyPair measures a whole run with every pair of the five hundred guests.
func everyPair(ctx context.Context, b *bench) (medians, error) {
	s, err := b.needSegment(ctx)
	if err != nil {
		return medians{}, err
	}
	return interleave(
		ctx, effort{least: 2, most: 5, limit: 20 * time.Second},
		contender{name: "every pair", run: s.whole},
		contender{name: "sampled", run: func(ctx context.Context) (time.Duration, error) {
			begun := time.Now()
			_, _, err := s.verify(ctx, false)
			return time.Since(begun), err
		}},
	)
}

// needSegment makes the bridge with all its guests.
func (b *bench) needSegment(ctx context.Context) (*segment, error) {
	if b.segment != nil {
		return b.segment, nil
	}
	s, err := newSegment(ctx, b)
	b.segment = s
	return s, err
}

// Learned implements [verify.Switches].
func (s *segment) Learned(ctx context.Context, _ string) ([]verify.Learned, error) {
	rows, err := s.driver.(switchcfg.Learner).Learned(ctx)
	out := make([]verify.Learned, len(rows))
	for i, r := range rows {
		out[i] = verify.Learned(r)
	}
	return out, err
}

// OpenVantage implements [verify.Switches].
func (s *segment) OpenVantage(ctx context.Context, _ string, vlan vnet.VLANID) (string, error) {
	return s.driver.(switchcfg.Vantager).OpenVantage(ctx, vlan)
}

// CloseVantage implements [verify.Switches].
func (s *segment) CloseVantage(ctx context.Context, _, device string) error {
	return s.driver.(switchcfg.Vantager).CloseVantage(ctx, device)
}

// WatchDrops implements [verify.Switches].
func (s *segment) WatchDrops(context.Context, []int, []vnet.MAC) (func(context.Context) ([]verify.Drop, error), error) {
	return nil, errors.New("a guest stays silent")
}

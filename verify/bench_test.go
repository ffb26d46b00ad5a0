// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// many is a thousand addresses, all alive, at one station, and a prober there.
func many(b *testing.B) (*prober, *lab.Station) {
	b.Helper()
	lab.Need(b)
	l := labtest.Start(b, lab.Options{})
	st := &lab.Station{Name: "many", MAC: lab.MACFor("many", 0)}
	for a := netip.MustParseAddr("10.9.0.1"); len(st.Addresses) < 1000; a = a.Next() {
		st.Addresses = append(st.Addresses, netip.PrefixFrom(a, 16))
	}
	if err := l.AddStation(b.Context(), st); err != nil {
		b.Fatal(err)
	}
	near, err := netlink.LinkByName(st.Device)
	if err != nil {
		b.Fatal(err)
	}
	p := &prober{
		device: near.Attrs().Index, mtu: near.Attrs().MTU, mac: macA, source: netip.MustParseAddr("10.9.255.254"),
		heard: map[vnet.MAC]netip.Addr{}, timing: Timing{WindowMax: time.Second},
	}
	if p.socket, err = openSocket(p.device); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.socket.close() })
	return p, st
}

func targetsAt(st *lab.Station) []*target {
	targets := make([]*target, len(st.Addresses))
	for i, a := range st.Addresses {
		targets[i] = &target{index: i, mac: vnet.MAC(st.MAC), addr: a.Addr(), wantICMP: true}
	}
	return targets
}

// BenchmarkFullLength1000 sends an echo of full length to each of a thousand.
func BenchmarkFullLength1000(b *testing.B) {
	p, st := many(b)
	targets := targetsAt(st)
	if err := p.ask(b.Context(), targets, time.Second); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s := &segment{prober: p}
		for _, t := range targets {
			s.lengths = append(s.lengths, &lengthProbe{target: t, want: p.mtu})
		}
		if err := s.tryLengths(b.Context(), time.Second); err != nil {
			b.Fatal(err)
		}
		for _, l := range s.lengths {
			if !l.passed {
				b.Fatalf("no answer of %s", l.target.addr)
			}
		}
	}
}

// BenchmarkAsk measures how long asking many guests takes, for ARP and ICMP
// each: make bench reads it. "wire" is how long as many frames take, two out and
// two back for every guest, when nobody looks at them, and "oneway" when all of
// them only go out.
func BenchmarkAsk(b *testing.B) {
	for _, bb := range []struct {
		size     int
		withDead bool
	}{{1000, false}, {10000, false}, {1000, true}, {10000, true}} {
		name := fmt.Sprint(bb.size)
		if bb.withDead {
			name += ",dead"
		}
		b.Run(name, func(b *testing.B) {
			c := newThrong(b, bb.size, bb.withDead)
			bouncing, silent := c.newWire(b, "wall"), c.newWire(b, "nobody")
			var asked, carried, oneWay []time.Duration
			for b.Loop() {
				r, took, err := c.examine(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				asked = append(asked, took)
				c.check(b, r, bb.withDead)
				carried = append(carried, bouncing.carry(b, 2*bb.size))
				oneWay = append(oneWay, silent.blast(b, 4*bb.size))
			}
			b.ReportMetric(middle(asked).Seconds()*1e3, "ms/asked")
			b.ReportMetric(middle(carried).Seconds()*1e3, "ms/wire")
			b.ReportMetric(middle(oneWay).Seconds()*1e3, "ms/oneway")
			b.ReportMetric(windows().Seconds()*1e3, "ms/windows")
		})
	}
}

// BenchmarkMemory measures the most memory of a process that examines ten
// thousand guests and makes the report: make bench reads it, from a process that
// does nothing else. The guests' inventory and what emulates them are in it.
func BenchmarkMemory(b *testing.B) {
	c := newThrong(b, 10000, false)
	for b.Loop() {
		r, _, err := c.examine(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		c.check(b, r, false)
		if report := r.report(); len(report.NICs) != 10000 || report.Verdict() != VerdictPass {
			b.Fatalf("%d NICs, %s: %v", len(report.NICs), report.Verdict(), report.Problems)
		}
	}
	b.ReportMetric(peakMemory(b), "MB/peak")
}

// check makes sure that all answered that live, and no other.
func (c *throng) check(b *testing.B, r *run, withDead bool) {
	b.Helper()
	for _, n := range r.nics {
		dead := withDead && n.address.Addr.As4()[3]%10 == 0
		if n.probe.target.done() == dead {
			b.Fatalf("%s: answered %v, dead %v: %+v", n.address.Addr, n.probe.target.done(), dead, n.rungs)
		}
	}
}

// wire is a cable beside that of the throng, at whose far end everything is
// sent back, or nobody answers.
type wire struct {
	device int
	frame  frame
}

func (c *throng) newWire(b *testing.B, end string) wire {
	b.Helper()
	st := &lab.Station{Name: end, MAC: lab.MACFor(end, 0)}
	if err := c.lab.AddStation(b.Context(), st); err != nil {
		b.Fatal(err)
	}
	if end == "wall" {
		if err := st.Do(func() error { return putProgram("eth0", bounceProgram()) }); err != nil {
			b.Fatal(err)
		}
	}
	near, err := netlink.LinkByName(st.Device)
	if err != nil {
		b.Fatal(err)
	}
	return wire{near.Attrs().Index, frame{kind: frameARPReply, dst: vnet.MAC(st.MAC), src: macB, senderMAC: macB}}
}

// blast returns how long it takes one core to send that many frames, which the
// kernel at the far end takes and throws away.
func (w wire) blast(b *testing.B, count int) time.Duration {
	b.Helper()
	s, err := openSender()
	if err != nil {
		b.Fatal(err)
	}
	defer s.close() //nolint:errcheck // nothing is in it
	packets := slices.Repeat([]packet{{device: w.device, data: w.frame.encode()}}, batch)
	start := time.Now()
	for sent := 0; sent < count; sent += batch {
		if err := s.send(packets[:min(batch, count-sent)]); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start)
}

// carry returns how long it takes one core to send that many frames and read
// them when they are back, a batch at a time, without a look at them.
func (w wire) carry(b *testing.B, count int) time.Duration {
	b.Helper()
	s, err := listen(listening{device: w.device, inOnly: true, filter: receiveFilter(), snap: snapLength})
	if err != nil {
		b.Fatal(err)
	}
	defer s.close() //nolint:errcheck // nothing is in it
	packets := slices.Repeat([]packet{{device: w.device, data: w.frame.encode()}}, batch)
	start := time.Now()
	sent, read := 0, 0
	for read < count {
		if n := min(batch, count-sent); n > 0 {
			if err := s.send(packets[:n]); err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		n, err := s.fill(false)
		if err != nil {
			b.Fatal(err)
		}
		if read += n; time.Since(start) > time.Minute {
			b.Fatalf("%d of %d frames came back", read, count)
		}
	}
	return time.Since(start)
}

// windows is how long a guest that stays silent is waited for.
func windows() time.Duration {
	opts := Options{}
	opts.defaults()
	sum := opts.Timing.WindowMin
	for _, w := range opts.Timing.Confirm {
		sum += w
	}
	return sum
}

func middle(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}

// peakMemory is the most memory that the process ever had, in megabytes
// (proc_pid_status(5), VmHWM).
func peakMemory(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kib float64
		if _, err := fmt.Sscanf(line, "VmHWM: %f kB", &kib); err == nil {
			return kib / 1024
		}
	}
	b.Fatal("no VmHWM in /proc/self/status")
	return 0
}

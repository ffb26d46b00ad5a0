// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// The bridge of the crowd, and a second network on it, so that a port which
// gets what another one should have is found out.
const (
	crowdSize    = 100
	crowdBridge  = "br1"
	crowdPrefix  = "vnet1-"
	otherNetwork = "dmz"
)

// otherPort is what ports in that network are to be like.
func otherPort() portState {
	return portState{"mtu": "1400", "brport/isolated": "0", "brport/bpdu_guard": "1", "brport/unicast_flood": "0"}
}

// crowd measures a hundred guests that start at once: how long until the last
// is wired, against the CPU time of the hooks one after the other, shared
// fairly among the cores. That is as fast as they could be if they never waited
// for each other. What other programs of the machine took meanwhile is left
// out of the first, as it is of the second.
func crowd(ctx context.Context, b *bench) (medians, error) {
	guests, err := b.newCrowd(ctx)
	if err != nil {
		return medians{}, err
	}
	reset := func(context.Context) error { return b.resetCrowd(guests) }
	check := func(context.Context) error { return b.checkCrowd(guests) }
	return interleave(
		ctx, effort{least: 7, most: 21, limit: 20 * time.Second},
		contender{name: "at once", reset: reset, check: check, run: func(ctx context.Context) (time.Duration, error) {
			return b.atOnce(ctx, guests)
		}},
		contender{name: "alone", reset: reset, check: check, run: func(ctx context.Context) (time.Duration, error) {
			return b.alone(ctx, guests)
		}},
	)
}

func (b *bench) newCrowd(ctx context.Context) ([]guest, error) {
	if err := b.lab.AddLinuxBridge(ctx, crowdBridge); err != nil {
		return nil, err
	}
	first := lan(crowdBridge)
	first.Network.Name = "crowd"
	second := first
	second.Network.Name, second.Network.MTU = otherNetwork, 1400
	second.Network.Policy = vnet.Policy{Flood: vnet.ToggleOff}
	if err := errors.Join(b.store.PutNetwork(first), b.store.PutNetwork(second)); err != nil {
		return nil, err
	}
	nics := newNICs(first.Network.Name, crowdBridge, crowdPrefix, crowdSize)
	guests := make([]guest, crowdSize)
	for i := range guests {
		if i%2 == 1 {
			nics[i].Network = otherNetwork
		}
		var err error
		if guests[i], err = newGuest(1000+i, nics[i:i+1]); err != nil {
			return nil, err
		}
	}
	return guests, addTaps(ctx, nics)
}

func (b *bench) resetCrowd(guests []guest) error {
	fresh := freshPort()
	fresh["brport/unicast_flood"] = "1"
	for _, g := range guests {
		if err := errors.Join(fresh.set(g.nics[0].Device), b.store.RemoveGuest(g.uuid)); err != nil {
			return err
		}
	}
	return nil
}

// checkCrowd finds out whether every port is as its own network wants it and
// marked for its own guest, and whether every record is there.
func (b *bench) checkCrowd(guests []guest) error {
	var errs []error
	for _, g := range guests {
		n := g.nics[0]
		want := lanPort()
		if n.Network == otherNetwork {
			want = otherPort()
		}
		want["ifalias"] = fmt.Sprintf("virt-vnet guest=%s mac=%s network=%s", g.uuid, n.MAC, n.Network)
		errs = append(errs, want.check(n.Device, n.Bridge), b.checkRecord(g))
	}
	all, err := b.store.Guests()
	crowd := 0
	for _, g := range all {
		if strings.HasPrefix(g.Ports[0].Device, crowdPrefix) {
			crowd++
		}
	}
	if crowd != len(guests) {
		err = errors.Join(err, fmt.Errorf("%d guest records, want %d", crowd, len(guests)))
	}
	return errors.Join(append(errs, err)...)
}

// atOnce starts all hooks and returns the time until the last has ended.
func (b *bench) atOnce(ctx context.Context, guests []guest) (time.Duration, error) {
	hooks := make([]*process, len(guests))
	for i, g := range guests {
		var err error
		if hooks[i], err = newProcess(ctx, b.hook, g); err != nil {
			return 0, err
		}
	}
	var errs []error
	before, errBefore := readUsage()
	begun := time.Now()
	for _, p := range hooks {
		errs = append(errs, p.cmd.Start())
	}
	for _, p := range hooks {
		if p.cmd.Process != nil {
			errs = append(errs, p.wait())
		}
	}
	took := time.Since(begun)
	after, errAfter := readUsage()
	others := (after.all - after.own) - (before.all - before.own)
	took -= max(others, 0) / time.Duration(runtime.NumCPU())
	return took, errors.Join(append(errs, errBefore, errAfter)...)
}

// alone runs the hooks one after the other and returns the CPU time that they
// took, divided by the cores.
func (b *bench) alone(ctx context.Context, guests []guest) (time.Duration, error) {
	var total time.Duration
	for _, g := range guests {
		p, err := newProcess(ctx, b.hook, g)
		if err != nil {
			return 0, err
		}
		if err := p.cmd.Start(); err != nil {
			return 0, err
		}
		if err := p.wait(); err != nil {
			return 0, err
		}
		total += p.cpu()
	}
	return total / time.Duration(runtime.NumCPU()), nil
}

// usage is CPU time since a time in the past: of everything on the machine, and
// of this process with the children that it has waited for.
type usage struct{ all, own time.Duration }

// readUsage reads proc_stat(5), whose figures but for idle and iowait are CPU
// time in use, and getrusage(2).
func readUsage() (usage, error) {
	const tick = 10 * time.Millisecond // USER_HZ, the same on every Linux
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return usage{}, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var u usage
	for _, i := range []int{1, 2, 3, 6, 7, 8} { // user, nice, system, irq, softirq, steal
		ticks, err := strconv.Atoi(fields[i])
		if err != nil {
			return usage{}, err
		}
		u.all += time.Duration(ticks) * tick
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return usage{}, err
		}
		u.own += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return u, nil
}

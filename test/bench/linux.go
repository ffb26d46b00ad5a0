// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The Linux bridge of the hook rows and its network.
const (
	linuxBridge  = "br0"
	linuxNetwork = "lan"
	linuxPrefix  = "vnet"
	mostNICs     = 64
)

// lan is the network that the scripts in peers know, too.
func lan(bridge string) state.Network {
	return state.Network{
		Network: vnet.Network{
			Name: linuxNetwork, Mode: vnet.ModeBridge, Switch: bridge, MTU: 9000, Policy: vnet.Policy{Isolated: true},
		},
		Switch: vnet.Switch{Name: bridge, Driver: vnet.DriverLinux},
	}
}

// lanPort is what its ports are to be like.
func lanPort() portState {
	return portState{"mtu": "9000", "brport/isolated": "1", "brport/bpdu_guard": "1"}
}

// freshPort is how libvirt leaves a port to the hook.
func freshPort() portState {
	return portState{"mtu": "1500", "brport/isolated": "0", "brport/bpdu_guard": "0", "ifalias": ""}
}

// portState is files below /sys/class/net/DEVICE and what is in them: a way to
// look and to reset that is neither ours nor the peers'.
type portState map[string]string

func sysfs(device, file string) string { return filepath.Join("/sys/class/net", device, file) }

func (p portState) set(device string) error {
	for file, value := range p {
		if err := os.WriteFile(sysfs(device, file), []byte(value+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// check compares a port on a bridge.
func (p portState) check(device, bridge string) error {
	master, err := os.Readlink(sysfs(device, "master"))
	if err != nil || filepath.Base(master) != bridge {
		return fmt.Errorf("%s is not on %s", device, bridge)
	}
	for file, want := range p {
		got, err := os.ReadFile(sysfs(device, file))
		if err != nil {
			return err
		}
		if got := strings.TrimSpace(string(got)); got != want {
			return fmt.Errorf("%s: %s is %q, want %q", device, file, got, want)
		}
	}
	return nil
}

// addTaps makes taps that are up and on a Linux bridge, as libvirt does before
// it calls the hook.
func addTaps(ctx context.Context, nics []nic) error {
	var lines []string
	for _, n := range nics {
		lines = append(lines, "tuntap add dev "+n.Device+" mode tap")
		if n.OVS {
			lines = append(lines, "link set dev "+n.Device+" up")
		} else {
			lines = append(lines, "link set dev "+n.Device+" master "+n.Bridge+" up")
		}
	}
	_, err := tool(ctx, lines, "ip", "-batch", "-")
	return err
}

// needLinux makes the bridge with all its ports.
func (b *bench) needLinux(ctx context.Context) error {
	if b.linuxReady {
		return nil
	}
	if err := b.lab.AddLinuxBridge(ctx, linuxBridge); err != nil {
		return err
	}
	if err := addTaps(ctx, linuxNICs(mostNICs)); err != nil {
		return err
	}
	b.linuxReady = true
	return b.store.PutNetwork(lan(linuxBridge))
}

func linuxNICs(count int) []nic {
	return newNICs(linuxNetwork, linuxBridge, linuxPrefix, count)
}

// linuxJob is a program that wires the NICs of g on a Linux bridge.
func (b *bench) linuxJob(name, program string, g guest) contender {
	return contender{
		name: name,
		reset: func(context.Context) error {
			for _, n := range g.nics {
				if err := freshPort().set(n.Device); err != nil {
					return err
				}
			}
			return b.store.RemoveGuest(g.uuid)
		},
		run: func(ctx context.Context) (time.Duration, error) { return runHook(ctx, program, g) },
		check: func(context.Context) error {
			var errs []error
			for _, n := range g.nics {
				errs = append(errs, lanPort().check(n.Device, n.Bridge))
			}
			if program == b.hook {
				errs = append(errs, b.checkRecord(g))
			}
			return errors.Join(errs...)
		},
	}
}

// checkRecord finds out whether the hook has kept a record of all NICs.
func (b *bench) checkRecord(g guest) error {
	record, err := b.store.Guest(g.uuid)
	if err != nil {
		return err
	}
	if !record.Complete || len(record.Ports) != len(g.nics) {
		return fmt.Errorf("record of %s: complete: %v, %d ports, want all %d", g.name, record.Complete, len(record.Ports), len(g.nics))
	}
	for i, n := range g.nics {
		p := record.Ports[i]
		if p.Device != n.Device || p.MAC.String() != n.MAC || p.Network != n.Network {
			return fmt.Errorf("record of %s: port %s is of %s in %s, want %s of %s in %s",
				g.name, p.Device, p.MAC, p.Network, n.Device, n.MAC, n.Network)
		}
	}
	return nil
}

// linux measures the start of a guest with so many NICs on a Linux bridge.
func (b *bench) linux(ctx context.Context, nics int) (medians, error) {
	g, err := newGuest(1, linuxNICs(nics))
	if err := errors.Join(err, b.needLinux(ctx)); err != nil {
		return medians{}, err
	}
	noop := contender{
		name: noopName,
		run:  func(ctx context.Context) (time.Duration, error) { return runHook(ctx, b.noop, g) },
	}
	return interleave(
		ctx, effort{least: 15, most: 151, limit: 15 * time.Second},
		b.linuxJob(hookName, b.hook, g),
		noop,
		b.linuxJob(loopName, b.script("linux-loop.sh"), g),
		b.linuxJob(batchName, b.script("linux-batch.sh"), g),
	)
}

// furtherNICs measures what each NIC beyond the first, and beyond the eighth,
// adds.
func furtherNICs(ctx context.Context, b *bench) (medians, error) {
	if err := b.needLinux(ctx); err != nil {
		return medians{}, err
	}
	var jobs []contender
	for _, count := range []int{1, 8, mostNICs} {
		g, err := newGuest(1, linuxNICs(count))
		if err != nil {
			return medians{}, err
		}
		jobs = append(
			jobs,
			b.linuxJob(fmt.Sprint(hookName, count), b.hook, g),
			b.linuxJob(fmt.Sprint(loopName, count), b.script("linux-loop.sh"), g),
		)
	}
	m, err := interleave(ctx, effort{least: 15, most: 101, limit: 15 * time.Second}, jobs...)
	if err != nil {
		return m, err
	}
	each := func(who string, from, to int) time.Duration {
		return (m.of[fmt.Sprint(who, to)] - m.of[fmt.Sprint(who, from)]) / time.Duration(to-from)
	}
	return medians{rounds: m.rounds, of: map[string]time.Duration{
		"few": each(hookName, 1, 8), "few, loop": each(loopName, 1, 8),
		"many": each(hookName, 8, mostNICs), "many, loop": each(loopName, 8, mostNICs),
	}}, nil
}

// manyNetworks measures the start of a guest when one network is defined, and
// when 5,000 are. The records of both are there; the one directory or the other
// is put in place before each start.
func manyNetworks(ctx context.Context, b *bench) (medians, error) {
	const most = 5000
	g, err := newGuest(1, linuxNICs(1))
	if err := errors.Join(err, b.needLinux(ctx)); err != nil {
		return medians{}, err
	}
	dir := filepath.Join(b.store.StateDir, "networks")
	one, many := dir+".one", dir+".many"
	if err := os.CopyFS(one, os.DirFS(dir)); err != nil {
		return medians{}, err
	}
	for i := range most - 1 {
		n := lan(linuxBridge)
		n.Network.Name = fmt.Sprintf("tenant-%04d", i)
		if err := b.store.PutNetwork(n); err != nil {
			return medians{}, err
		}
	}
	// From here on dir is a link to the one or the other.
	if err := os.Rename(dir, many); err != nil {
		return medians{}, err
	}
	with := func(name, records string) contender {
		job := b.linuxJob(name, b.hook, g)
		reset := job.reset
		job.reset = func(ctx context.Context) error {
			_ = os.Remove(dir) // there is none at first
			return errors.Join(os.Symlink(records, dir), reset(ctx))
		}
		return job
	}
	m, err := interleave(ctx, effort{least: 51, most: 401, limit: 12 * time.Second}, with("1", one), with("5000", many))
	return m, errors.Join(err, os.Remove(dir), os.Rename(one, dir), os.RemoveAll(many))
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The Open vSwitch bridge of the hook rows and its network.
const (
	ovsBridge  = "ovs0"
	ovsNetwork = "red"
	ovsPrefix  = "vnet2-"
)

func ovsNICs(count int) []nic {
	nics := newNICs(ovsNetwork, ovsBridge, ovsPrefix, count)
	for i := range nics {
		nics[i].OVS = true
	}
	return nics
}

// needOVS starts Open vSwitch and makes the bridge with all its ports, as
// libvirt does: with the external_ids of the interfaces.
func (b *bench) needOVS(ctx context.Context) error {
	if b.ovsReady {
		return nil
	}
	if err := b.lab.StartOVS(ctx); err != nil {
		return err
	}
	if err := b.lab.AddOVSBridge(ctx, ovsBridge); err != nil {
		return err
	}
	nics := ovsNICs(mostNICs)
	if err := addTaps(ctx, nics); err != nil {
		return err
	}
	var commands []string
	for i, n := range nics {
		commands = append(commands, "--", "add-port", ovsBridge, n.Device, "--", "set", "interface", n.Device,
			fmt.Sprintf(`external_ids:attached-mac="%s"`, n.MAC), "external_ids:iface-status=active",
			fmt.Sprintf("external_ids:iface-id=0c5d1a3e-2f6b-4c1e-9d77-%012x", i))
	}
	if _, err := b.lab.Vsctl(ctx, commands...); err != nil {
		return err
	}
	b.ovsReady = true
	return b.store.PutNetwork(state.Network{
		Network: vnet.Network{
			Name: ovsNetwork, Mode: vnet.ModeBridge, Switch: ovsBridge,
			Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}, Isolated: true},
		},
		Switch: vnet.Switch{Name: ovsBridge, Driver: vnet.DriverOVS},
	})
}

// ovsJob is a program that wires the NICs of g on Open vSwitch.
func (b *bench) ovsJob(name, program string, g guest) contender {
	transactions := 0 // before the job
	return contender{
		name: name,
		reset: func(ctx context.Context) error {
			var commands []string
			for _, n := range g.nics {
				commands = append(commands, "--", "set", "port", n.Device,
					"tag=[]", "trunks=[]", "vlan_mode=[]", "protected=false", "external_ids={}", "other_config={}")
			}
			_, err := b.lab.Vsctl(ctx, commands...)
			if err == nil {
				transactions, err = b.ovsTransactions(ctx)
			}
			return errors.Join(err, b.store.RemoveGuest(g.uuid))
		},
		run: func(ctx context.Context) (time.Duration, error) { return runHook(ctx, program, g) },
		check: func(ctx context.Context) error {
			err := b.checkOVS(ctx, g)
			if program != b.hook {
				return err
			}
			now, errNow := b.ovsTransactions(ctx)
			if n := now - transactions; errNow == nil && n != 1 {
				errNow = fmt.Errorf("the hook made %d transactions, want one", n)
			}
			return errors.Join(err, errNow, b.checkRecord(g))
		},
	}
}

// ovsTransactions is how many transactions there were that ovs-vswitchd had to
// follow.
func (b *bench) ovsTransactions(ctx context.Context) (n int, err error) {
	text, err := b.lab.Vsctl(ctx, "--no-wait", "get", "Open_vSwitch", ".", "next_cfg")
	if err == nil {
		n, err = strconv.Atoi(text)
	}
	return n, err
}

// checkOVS compares the guest's ports with what their network wants.
func (b *bench) checkOVS(ctx context.Context, g guest) error {
	rows, err := b.lab.Vsctl(ctx, "--format=csv", "--data=bare", "--no-headings", "--columns=name,tag,protected", "list", "port")
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range g.nics {
		if want := n.Device + ",20,true"; !strings.Contains("\n"+rows+"\n", "\n"+want+"\n") {
			errs = append(errs, fmt.Errorf("port %s is not %q", n.Device, want))
		}
	}
	return errors.Join(errs...)
}

// ovs measures the start of a guest with so many NICs on Open vSwitch.
func (b *bench) ovs(ctx context.Context, nics int) (medians, error) {
	g, err := newGuest(2, ovsNICs(nics))
	if err := errors.Join(err, b.needOVS(ctx)); err != nil {
		return medians{}, err
	}
	return interleave(
		ctx, effort{least: 7, most: 101, limit: 12 * time.Second},
		b.ovsJob(hookName, b.hook, g),
		b.ovsJob(loopName, b.script("ovs-loop.sh"), g),
		b.ovsJob(batchName, b.script("ovs-once.sh"), g),
	)
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The Open vSwitch bridge of the hook rows and its network.
const (
	ovsBridge  = "ovs0"
	ovsNetwork = "red"
	ovsPrefix  = "vnet2-"
	ovsMost    = 100 // NICs
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
	if err := b.addOVSPorts(ctx, ovsNICs(ovsMost)); err != nil {
		return err
	}
	b.ovsReady = true
	return b.store.PutNetwork(red(ovsBridge))
}

// red is the network that the scripts in peers know, too.
func red(bridge string) state.Network {
	return state.Network{
		Network: vnet.Network{
			Name: ovsNetwork, Mode: vnet.ModeBridge, Switch: bridge,
			Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}, Isolated: true},
		},
		Switch: vnet.Switch{Name: bridge, Driver: vnet.DriverOVS},
	}
}

// addOVSPorts makes taps and plugs them in, as libvirt does.
func (b *bench) addOVSPorts(ctx context.Context, nics []nic) error {
	if err := addTaps(ctx, nics); err != nil {
		return err
	}
	var commands []string
	for i, n := range nics {
		commands = append(commands, "--", "add-port", n.Bridge, n.Device, "--", "set", "interface", n.Device,
			fmt.Sprintf(`external_ids:attached-mac="%s"`, n.MAC), "external_ids:iface-status=active",
			fmt.Sprintf("external_ids:iface-id=0c5d1a3e-2f6b-4c1e-9d77-%012x", i))
	}
	_, err := b.lab.Vsctl(ctx, commands...)
	return err
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

// ovsWays measures the whole start of a guest with one NIC on Open vSwitch whose
// database is asked over its socket, and over TLS.
func (b *bench) ovsWays(ctx context.Context) (m medians, err error) {
	if err := b.needOVS(ctx); err != nil {
		return m, err
	}
	certs := lab.CertificatesIn(b.scriptDir)
	if err := certs.Write("lab", netip.MustParseAddr("127.0.0.1")); err != nil {
		return m, err
	}
	for _, command := range [][]string{{"set-ssl", certs.ServerKey, certs.Server, certs.CA}, {"set-manager", "pssl:6641:127.0.0.1"}} {
		if _, err := b.lab.Vsctl(ctx, command...); err != nil {
			return m, err
		}
	}
	remote := red(ovsBridge)
	remote.Network.Name = "tls"
	remote.Switch.Database = vnet.Endpoints{{Transport: vnet.TransportSSL, Address: "127.0.0.1:6641"}}
	remote.Switch.TLS = vnet.TLS{Key: certs.ClientKey, Certificate: certs.Client, CA: certs.CA}
	if err := b.store.PutNetwork(remote); err != nil {
		return m, err
	}
	here, err := newGuest(2, ovsNICs(1))
	if err != nil {
		return m, err
	}
	nics := ovsNICs(1)
	nics[0].Network = remote.Network.Name
	there, err := newGuest(3, nics)
	if err != nil {
		return m, err
	}
	noop := contender{name: noopName, run: func(ctx context.Context) (time.Duration, error) { return runHook(ctx, b.noop, here) }}
	return interleave(
		ctx, effort{least: 11, most: 201, limit: 12 * time.Second},
		noop, b.ovsJob("unix", b.hook, here), b.ovsJob("tls", b.hook, there),
	)
}

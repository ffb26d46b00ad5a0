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

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

// definePrefix begins the names of the networks that are defined.
const definePrefix = "defined-"

// definer defines networks in libvirt, in our way and in others'.
type definer struct {
	ours *virtapi.Conn
	raw  *libvirt.Connect
	xmls []string
}

// newDefiner starts libvirtd, connects twice, and prepares so many definitions.
func newDefiner(ctx context.Context, b *bench, count int) (*definer, error) {
	if err := b.lab.Libvirtd().Start(ctx); err != nil {
		return nil, err
	}
	ours, err := virtapi.Open(ctx, lab.URI)
	if err != nil {
		return nil, err
	}
	raw, err := libvirt.NewConnect(lab.URI)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	d := &definer{ours: ours, raw: raw}
	for i := range count {
		n := lan(linuxBridge)
		n.Network.Name = fmt.Sprintf("%s%03d", definePrefix, i)
		xml, err := libvirtnet.NetworkXML(n.Network, n.Switch, ours.Version())
		if err != nil {
			return nil, errors.Join(err, d.close())
		}
		d.xmls = append(d.xmls, xml)
	}
	return d, nil
}

func (d *definer) close() error {
	_, err := d.raw.Close()
	return errors.Join(err, d.ours.Close())
}

// reset undefines what was defined.
func (d *definer) reset(context.Context) error {
	return d.each(func(n *libvirt.Network) error { return n.Undefine() })
}

// check finds out whether libvirt has all networks, on the bridge they want.
func (d *definer) check(context.Context) error {
	found := 0
	err := d.each(func(n *libvirt.Network) error {
		bridge, err := n.GetBridgeName()
		if err == nil && bridge != linuxBridge {
			err = fmt.Errorf("it is on bridge %q", bridge)
		}
		found++
		return err
	})
	if err == nil && found != len(d.xmls) {
		err = fmt.Errorf("libvirt has %d of the networks, want %d", found, len(d.xmls))
	}
	return err
}

func (d *definer) each(f func(*libvirt.Network) error) error {
	all, err := d.raw.ListAllNetworks(0)
	if err != nil {
		return err
	}
	var errs []error
	for i := range all {
		name, err := all[i].GetName()
		if err == nil && strings.HasPrefix(name, definePrefix) {
			err = f(&all[i])
		}
		errs = append(errs, err, all[i].Free())
	}
	return errors.Join(errs...)
}

// contender is one way to define them all.
func (d *definer) contender(name string, f func(context.Context) error) contender {
	return contender{name: name, reset: d.reset, check: d.check, run: func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		err := f(ctx)
		return time.Since(begun), err
	}}
}

// withOurs ensures the networks as virt-vnet apply does.
func (d *definer) withOurs(ctx context.Context) error {
	done, err := d.ours.EnsureNetworks(ctx, d.xmls, virtapi.EnsureOptions{})
	for _, e := range done {
		if e.Outcome != virtapi.Created {
			err = errors.Join(err, fmt.Errorf("network %s: %s, want it created", e.Name, e.Outcome))
		}
	}
	return err
}

// withAPI defines the networks with nothing around it.
func (d *definer) withAPI(context.Context) error {
	for _, xml := range d.xmls {
		n, err := d.raw.NetworkDefineXML(xml)
		if err != nil {
			return err
		}
		if err := n.Free(); err != nil {
			return err
		}
	}
	return nil
}

// define measures 200 networks.
func define(ctx context.Context, b *bench) (m medians, err error) {
	d, err := newDefiner(ctx, b, 200)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.reset(ctx), d.close(), b.lab.Libvirtd().Stop(ctx)) }()
	return interleave(ctx, effort{least: 7, most: 15, limit: 15 * time.Second},
		d.contender("ours", d.withOurs), d.contender("raw", d.withAPI))
}

// defineFew measures 20 networks, against one virsh for each.
func defineFew(ctx context.Context, b *bench) (m medians, err error) {
	d, err := newDefiner(ctx, b, 20)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.reset(ctx), d.close(), b.lab.Libvirtd().Stop(ctx)) }()
	files := make([]string, len(d.xmls))
	for i, xml := range d.xmls {
		files[i] = filepath.Join(b.scriptDir, fmt.Sprintf("network-%d.xml", i))
		if err := os.WriteFile(files[i], []byte(xml), 0o600); err != nil {
			return m, err
		}
	}
	virsh := func(ctx context.Context) error {
		for _, file := range files {
			if _, err := b.lab.Virsh(ctx, "net-define", file); err != nil {
				return err
			}
		}
		return nil
	}
	return interleave(ctx, effort{least: 7, most: 15, limit: 10 * time.Second},
		d.contender("ours", d.withOurs), d.contender("virsh", virsh))
}

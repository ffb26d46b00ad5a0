// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Target is where a change of a guest goes. At least one must be set.
type Target struct {
	Live   bool // the running guest
	Config bool // its definition, from the next start on
}

// flags returns libvirt's word for the target.
func (t Target) flags(guest string) (libvirt.DomainDeviceModifyFlags, error) {
	var flags libvirt.DomainDeviceModifyFlags
	if t.Live {
		flags |= libvirt.DOMAIN_DEVICE_MODIFY_LIVE
	}
	if t.Config {
		flags |= libvirt.DOMAIN_DEVICE_MODIFY_CONFIG
	}
	if flags == 0 {
		return 0, fmt.Errorf("guest %s: want the running guest, its definition, or both to be changed", guest)
	}
	return flags, nil
}

// AttachInterface gives a guest, found by its name or UUID, the interface of
// [libvirtnet.InterfaceXML]. No hook of libvirt's runs for a NIC that is plugged
// into a running guest: the caller wires it. The error is [ErrNoGuest] when
// there is no such guest.
func (c *Conn) AttachInterface(ctx context.Context, guest, interfaceXML string, target Target) error {
	flags, err := target.flags(guest)
	if err != nil {
		return err
	}
	_, err = withGuest(ctx, c, guest, func(handle *libvirt.Domain) (struct{}, error) {
		err := handle.AttachDeviceFlags(interfaceXML, flags)
		if err != nil {
			err = callError("guest "+guest+": attach interface", err)
		}
		return struct{}{}, err
	})
	return err
}

// DetachInterface takes the interface with that MAC address from a guest, found
// by its name or UUID. A running guest must let go of it, which libvirt waits
// for some seconds at most: it can still be there on return. The error is
// [ErrNoGuest], or [ErrNoInterface] when none of the targets has it.
func (c *Conn) DetachInterface(ctx context.Context, guest string, mac vnet.MAC, target Target) error {
	if _, err := target.flags(guest); err != nil {
		return err
	}
	_, err := withGuest(ctx, c, guest, func(handle *libvirt.Domain) (struct{}, error) {
		return struct{}{}, detach(handle, guest, mac, target)
	})
	return err
}

// detach goes target by target: the element that libvirt wants to see differs
// between a running guest and its definition, and one of them may lack it.
func detach(handle *libvirt.Domain, guest string, mac vnet.MAC, target Target) error {
	found := false
	for _, one := range []Target{{Live: target.Live}, {Config: target.Config}} {
		flags, err := one.flags(guest)
		if err != nil {
			continue // not asked for
		}
		text, err := domainXML(handle, guest, one.Config)
		if err != nil {
			return err
		}
		element, err := libvirtnet.InterfaceElement([]byte(text), mac)
		if err != nil {
			return fmt.Errorf("guest %s: %w", guest, err)
		}
		if element == "" {
			continue
		}
		found = true
		if err := handle.DetachDeviceFlags(element, flags); err != nil {
			return callError("guest "+guest+": detach interface "+mac.String(), err)
		}
	}
	if !found {
		return fmt.Errorf("guest %s: detach interface %s: %w: want the MAC address of one of its NICs", guest, mac, ErrNoInterface)
	}
	return nil
}

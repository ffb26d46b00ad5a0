// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// Network is one network that libvirt has.
type Network struct {
	libvirtnet.DefinedNetwork
	Active    bool `json:"active"`
	Autostart bool `json:"autostart"`
	// XML is the persistent definition: what holds from the next start on.
	XML string `json:"-"`
}

// Networks returns all networks, in libvirt's order. A network whose definition
// cannot be read is left out and reported by the error, which does not make
// the others wrong.
func (c *Conn) Networks(ctx context.Context) ([]Network, error) {
	return ask(ctx, c, func() ([]Network, error) {
		known, err := c.inventory()
		if err != nil {
			return nil, err
		}
		defer known.free()
		var list []Network
		var errs []error
		for i := range known.all {
			n, err := known.network(&known.all[i])
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case errors.Is(err, ErrNoNetwork): // gone since the list was made
			case err != nil:
				errs = append(errs, err)
			default:
				list = append(list, n)
			}
		}
		return list, errors.Join(errs...)
	})
}

// inventory is the networks of a libvirt at one time, in four calls however
// many there are.
type inventory struct {
	all                           []libvirt.Network
	byName                        map[string]*libvirt.Network
	active, autostart, persistent map[string]bool
}

func (c *Conn) inventory() (*inventory, error) {
	const what = "networks: list"
	all, err := c.conn.ListAllNetworks(0)
	if err != nil {
		return nil, callError(what, err)
	}
	known := &inventory{all: all, byName: make(map[string]*libvirt.Network, len(all))}
	for i := range all {
		name, err := all[i].GetName()
		if err != nil {
			known.free()
			return nil, callError(what, err)
		}
		known.byName[name] = &all[i]
	}
	for flags, set := range map[libvirt.ConnectListAllNetworksFlags]*map[string]bool{
		libvirt.CONNECT_LIST_NETWORKS_ACTIVE:     &known.active,
		libvirt.CONNECT_LIST_NETWORKS_AUTOSTART:  &known.autostart,
		libvirt.CONNECT_LIST_NETWORKS_PERSISTENT: &known.persistent,
	} {
		if *set, err = c.names(flags); err != nil {
			known.free()
			return nil, callError(what, err)
		}
	}
	return known, nil
}

// names lists the networks that flags select.
func (c *Conn) names(flags libvirt.ConnectListAllNetworksFlags) (map[string]bool, error) {
	list, err := c.conn.ListAllNetworks(flags)
	if err != nil {
		return nil, err
	}
	defer freeNetworks(list)
	set := make(map[string]bool, len(list))
	for i := range list {
		name, err := list[i].GetName()
		if err != nil {
			return nil, err
		}
		set[name] = true
	}
	return set, nil
}

func (k *inventory) free() { freeNetworks(k.all) }

func freeNetworks(list []libvirt.Network) {
	for i := range list {
		_ = list[i].Free() // fails only for what is no network
	}
}

// network reads one network of the inventory.
func (k *inventory) network(handle *libvirt.Network) (Network, error) {
	name, err := handle.GetName()
	if err != nil {
		return Network{}, callError("network: read its name", err)
	}
	text, err := handle.GetXMLDesc(libvirt.NETWORK_XML_INACTIVE)
	if errors.Is(err, libvirt.ERR_INVALID_ARG) { // the test driver has one definition only
		text, err = handle.GetXMLDesc(0)
	}
	if err != nil {
		return Network{}, callError("network "+name+": read its definition", err)
	}
	defined, err := libvirtnet.ParseNetwork(text)
	if err != nil {
		return Network{}, fmt.Errorf("network %s: read its definition: %w", name, err)
	}
	return Network{DefinedNetwork: defined, Active: k.active[name], Autostart: k.autostart[name], XML: text}, nil
}

// RemoveNetwork stops and undefines a network of ours. The error is
// [ErrNoNetwork], [ErrForeign], or [ErrInUse] with the running guests that are
// on it. Guests that are off keep their NICs on it: they do not start until it
// is back.
func (c *Conn) RemoveNetwork(ctx context.Context, name string) error {
	_, err := call(ctx, c, func() (struct{}, error) { return struct{}{}, c.remove(ctx, name) })
	return err
}

func (c *Conn) remove(ctx context.Context, name string) error {
	handle, err := c.conn.LookupNetworkByName(name)
	if err != nil {
		return callError("network "+name, err)
	}
	defer handle.Free() //nolint:errcheck // fails only for what is no network
	text, err := handle.GetXMLDesc(0)
	if err != nil {
		return callError("network "+name+": read its definition", err)
	}
	live, err := libvirtnet.ParseNetwork(text)
	if err != nil {
		return err
	}
	if !live.Owned {
		return foreign(name)
	}
	active, err := handle.IsActive()
	if err != nil {
		return callError("network "+name+": remove", err)
	}
	persistent, err := handle.IsPersistent()
	if err != nil {
		return callError("network "+name+": remove", err)
	}
	if active {
		if err := errors.Join(c.inUse(ctx, name, live.Guests), ctx.Err()); err != nil {
			return err
		}
		if err := handle.Destroy(); err != nil {
			return callError("network "+name+": stop", err)
		}
	}
	if !persistent { // it was gone with the stop
		return nil
	}
	if err := handle.Undefine(); err != nil {
		return callError("network "+name+": undefine", err)
	}
	return nil
}

// inUse returns [ErrInUse], with the names of the guests, when running guests
// are on a network.
func (c *Conn) inUse(ctx context.Context, name string, nics int) error {
	if nics == 0 {
		return nil
	}
	who := fmt.Sprintf("%d guest NICs are on it", nics)
	if guests, _ := c.Guests(ctx); len(guests) > 0 {
		var names []string
		for _, g := range guests {
			if g.Active && g.on(name) {
				names = append(names, g.Name)
			}
		}
		if len(names) > 0 {
			who = "guests on it: " + strings.Join(names, ", ")
		}
	}
	return fmt.Errorf("network %s: remove: %w (%s): shut them down or detach their interfaces first", name, ErrInUse, who)
}

func foreign(name string) error {
	return fmt.Errorf("network %s: %w: choose another name, or remove it yourself: virsh net-destroy %s; virsh net-undefine %s",
		name, ErrForeign, name, name)
}

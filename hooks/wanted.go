// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Wants tells what [Wirer.Wire] would make of the ports of many guests. It reads
// the record of each network once.
type Wants struct {
	wirer *Wirer
	known map[string]lookup
}

// Wants starts without having read anything.
func (w *Wirer) Wants() *Wants { return &Wants{w, map[string]lookup{}} }

// Want is what one NIC's port should be.
type Want struct {
	// Note says why there is nothing to wire, or is empty.
	Note string
	// Err is why it is not known what the port should be.
	Err error

	port vnet.Port
	sw   vnet.Switch
}

// Of returns what the ports of the guest's NICs should be, in their order.
func (w *Wants) Of(dom libvirtnet.Domain) []Want {
	legs := w.wirer.legsKnowing(dom, w.known)
	wants := make([]Want, len(legs))
	for i, l := range legs {
		wants[i] = Want{Note: l.note, Err: l.err, port: l.port, sw: l.sw}
	}
	return wants
}

// Differs lists the settings of the port, as it was found, that Wire would
// change, whoever it belongs to and whatever switch it is on by now. have is
// the switch that it was found on.
func (w Want) Differs(have switchcfg.State, found switchcfg.Port) ([]switchcfg.SettingChange, error) {
	sw := w.sw
	sw.Name, sw.Uplink = w.port.Switch, ""
	want, err := switchcfg.Desired([]vnet.Port{w.port}, sw)
	if err != nil {
		return nil, err
	}
	delete(want.Ports, sw.Name) // it is about the port alone
	found.Switch, found.Foreign, found.Owner = sw.Name, "", want.Ports[found.Device].Owner
	alone := switchcfg.State{Switch: sw.Name, Untagged: have.Untagged, Ports: map[string]switchcfg.Port{found.Device: found}}
	plan, err := switchcfg.Diff(want, alone, "")
	if err != nil {
		return nil, err
	}
	var all []switchcfg.SettingChange
	for _, c := range plan.Changes {
		all = append(all, c.Settings()...)
	}
	return all, nil
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// mirrorRow is a row of the table Mirror.
type mirrorRow struct {
	UUID                        ovsdb.UUID
	Name                        string
	All                         bool
	Source, Destination, Output ovsdb.Set[ovsdb.UUID]
	VLANs, OutputVLAN, Snaplen  ovsdb.Set[int]
	ExternalIDs                 ovsdb.Dict
}

var mirrorColumns = []string{
	"_uuid", "name", "select_all", "select_src_port", "select_dst_port", "select_vlan", "output_port", "output_vlan", "snaplen", "external_ids",
}

// Column implements [ovsdb.Record].
func (r *mirrorRow) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "name":
		return &r.Name
	case "select_all":
		return &r.All
	case "select_src_port":
		return &r.Source
	case "select_dst_port":
		return &r.Destination
	case "select_vlan":
		return &r.VLANs
	case "output_port":
		return &r.Output
	case "output_vlan":
		return &r.OutputVLAN
	case "snaplen":
		return &r.Snaplen
	case "external_ids":
		return &r.ExternalIDs
	}
	return nil
}

// interfaceRow is the interface of a port of ours.
type interfaceRow struct {
	UUID    ovsdb.UUID
	Name    string
	Type    string
	Options ovsdb.Dict
}

var interfaceColumns = []string{"_uuid", "name", "type", "options"}

// Column implements [ovsdb.Record].
func (r *interfaceRow) Column(name string) any {
	switch name {
	case "_uuid":
		return &r.UUID
	case "name":
		return &r.Name
	case "type":
		return &r.Type
	case "options":
		return &r.Options
	}
	return nil
}

// guests reports whether the port is in the mirror as a guest's, and not because
// the spec names its device.
func (r mirrorRow) guests(p record) bool {
	named := strings.Fields(r.ExternalIDs[keyPorts])
	return !p.ExternalIDs.Owner().IsZero() && !slices.Contains(named, p.Name)
}

// mirror is what the row says, but for the ports of guests.
func (o own) mirror(r mirrorRow) switchcfg.Mirror {
	m := switchcfg.Mirror{Name: r.Name, All: r.All, Snaplen: r.Snaplen.First(), VLANs: ranges(r.VLANs)}
	m.In, m.Out = o.named(r, r.Destination), o.named(r, r.Source)
	if vlan := r.OutputVLAN.First(); slices.Contains(o.bridge.Flood, vlan) {
		m.VLAN = vnet.VLANID(vlan)
	}
	for _, device := range o.named(r, r.Output) {
		tunnel, is := o.interfaces[device]
		if !is {
			m.To = device
			continue
		}
		m.Remote, _ = netip.ParseAddr(tunnel.Options["remote_ip"])
		m.Session, _ = strconv.Atoi(tunnel.Options["key"])
		m.Version, _ = strconv.Atoi(tunnel.Options["erspan_ver"])
		if tunnel.Type != tunnelType(m.Remote) {
			m.Remote = netip.Addr{} // of another kind than we made
		}
	}
	return m
}

// named are the ports that are in the mirror by their name, sorted.
func (o own) named(r mirrorRow, ports []ovsdb.UUID) []string {
	var list []string
	for _, id := range ports {
		if p, known := o.ports[id]; known && !r.guests(p) {
			list = append(list, p.Name)
		}
	}
	slices.Sort(list)
	return list
}

// mirrored is which mirrors a port is in as a guest's.
func (o own) mirrored(device string) *switchcfg.Mirrored {
	m := &switchcfg.Mirrored{}
	for _, r := range o.mirrors {
		has := func(ports []ovsdb.UUID) bool {
			return slices.ContainsFunc(ports, func(id ovsdb.UUID) bool { return o.ports[id].Name == device && r.guests(o.ports[id]) })
		}
		if has(r.Destination) {
			m.In = append(m.In, r.Name)
		}
		if has(r.Source) {
			m.Out = append(m.Out, r.Name)
		}
		if has(r.Output) {
			m.To = append(m.To, r.Name)
		}
	}
	slices.Sort(m.In)
	slices.Sort(m.Out)
	slices.Sort(m.To)
	return m
}

// mirrors adds what makes our mirrors of the bridge those.
func (tx *transaction) mirrors(want []switchcfg.Mirror, bridge string) error {
	o := tx.own
	for _, r := range o.mirrors {
		kept := slices.ContainsFunc(want, func(m switchcfg.Mirror) bool { return m.Name == r.Name })
		if !kept {
			tx.remirrors = true
			tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"mirrors", "delete", r.UUID})
			tx.learnAgain(r)
			tx.removeTunnel(tunnelName(bridge, r.Name))
		}
	}
	for _, m := range want {
		i := slices.IndexFunc(o.mirrors, func(r mirrorRow) bool { return r.Name == m.Name })
		if i >= 0 && o.mirror(o.mirrors[i]).String() == m.String() {
			continue
		}
		old := mirrorRow{}
		if i >= 0 {
			old = o.mirrors[i]
		}
		if err := tx.setMirror(m, old, bridge); err != nil {
			return fmt.Errorf("mirror %s: %w", m.Name, err)
		}
	}
	return nil
}

// setMirror adds what makes the mirror of the row, or of a new one. The ports of
// guests stay in it.
func (tx *transaction) setMirror(m switchcfg.Mirror, old mirrorRow, bridge string) error {
	tx.remirrors = true
	in, err := tx.own.selected(m.In, old, old.Destination)
	if err != nil {
		return err
	}
	out, err := tx.own.selected(m.Out, old, old.Source)
	if err != nil {
		return err
	}
	marks := ovsdb.Dict{keySwitch: bridge, keyPorts: strings.Join(m.Devices(), " ")}
	columns := ovsdb.Row{
		"select_all": m.All, "select_dst_port": in, "select_src_port": out, "select_vlan": slices.Concat(ovsdb.Set[int]{}, ids(m.VLANs)),
		"snaplen": some(m.Snaplen), "output_vlan": some(int(m.VLAN)), "external_ids": marks,
	}
	switch {
	case m.To != "":
		port, ok := tx.own.devices[m.To]
		if !ok {
			return fmt.Errorf("port %s: %w of this bridge", m.To, switchcfg.ErrNoPort)
		}
		columns["output_port"] = port.UUID
	case m.Remote.IsValid():
		columns["output_port"] = tx.setTunnel(m, tunnelName(bridge, m.Name), bridge)
	case m.VLAN == 0 && old.UUID != "":
		columns["output_port"] = tx.own.guestsOf(old, old.Output)
	default:
		columns["output_port"] = ovsdb.Set[ovsdb.UUID]{}
	}
	if !m.Remote.IsValid() {
		tx.removeTunnel(tunnelName(bridge, m.Name))
	}
	if had := old.ExternalIDs[keyFlood]; m.VLAN != 0 && old.OutputVLAN.First() == int(m.VLAN) && had != "" {
		marks[keyFlood] = had
		tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"flood_vlans", "insert", int(m.VLAN)})
	} else {
		tx.learnAgain(old)
		tx.flood(m.VLAN, marks)
	}
	if old.UUID != "" {
		tx.update("Mirror", old.UUID, columns)
		return nil
	}
	columns["name"] = m.Name
	row := ovsdb.NamedUUID(fmt.Sprintf("mirror%d", len(tx.ops)))
	tx.ops = append(tx.ops, ovsdb.Operation{Op: "insert", Table: "Mirror", Name: string(row), Row: columns})
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"mirrors", "insert", row})
	return nil
}

// flood has the bridge learn no addresses in a VLAN that mirrored frames go to,
// or it would send the frames of others to where it saw copies of theirs. The
// mirror's marks say if that was our doing.
func (tx *transaction) flood(vlan vnet.VLANID, marks ovsdb.Dict) {
	if vlan == 0 || slices.Contains(tx.own.bridge.Flood, int(vlan)) {
		return
	}
	marks[keyFlood] = strconv.Itoa(int(vlan))
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"flood_vlans", "insert", int(vlan)})
}

// learnAgain takes back what flood did for the mirror.
func (tx *transaction) learnAgain(old mirrorRow) {
	if vlan, err := strconv.Atoi(old.ExternalIDs[keyFlood]); err == nil {
		tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"flood_vlans", "delete", vlan})
	}
}

// selected are the ports of these devices, with those of guests that are among
// the old ones.
func (o own) selected(devices []string, old mirrorRow, ports []ovsdb.UUID) (ovsdb.Set[ovsdb.UUID], error) {
	all := o.guestsOf(old, ports)
	for _, device := range devices {
		port, ok := o.devices[device]
		if !ok {
			return nil, fmt.Errorf("port %s: %w of this bridge", device, switchcfg.ErrNoPort)
		}
		if !slices.Contains(all, port.UUID) {
			all = append(all, port.UUID)
		}
	}
	return all, nil
}

// guestsOf are those of the mirror's ports that are in it as guests'.
func (o own) guestsOf(r mirrorRow, ports []ovsdb.UUID) ovsdb.Set[ovsdb.UUID] {
	list := ovsdb.Set[ovsdb.UUID]{}
	for _, id := range ports {
		if p, known := o.ports[id]; known && r.guests(p) {
			list = append(list, id)
		}
	}
	return list
}

// tunnelName is what the port is called that a mirror's ERSPAN leaves by.
func tunnelName(bridge, mirror string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(bridge + "/" + mirror)) // it cannot fail
	return fmt.Sprintf("erspan-%08x", hash.Sum32())
}

func tunnelType(remote netip.Addr) string {
	if remote.Is4() {
		return "erspan"
	}
	return "ip6erspan"
}

// setTunnel makes the port of a mirror's ERSPAN, or changes it, and returns what
// it is called in the transaction.
func (tx *transaction) setTunnel(m switchcfg.Mirror, device, bridge string) any {
	columns := ovsdb.Row{
		"type": tunnelType(m.Remote),
		"options": ovsdb.Dict{
			"remote_ip": m.Remote.String(), "key": strconv.Itoa(m.Session), "erspan_ver": strconv.Itoa(m.Version),
		},
	}
	tx.wired = append(tx.wired, device)
	port, there := tx.own.devices[device]
	if tunnel, is := tx.own.interfaces[device]; there && is {
		tx.update("Interface", tunnel.UUID, columns)
		return port.UUID
	}
	n := len(tx.ops)
	row, i := ovsdb.NamedUUID(fmt.Sprintf("port%d", n)), ovsdb.NamedUUID(fmt.Sprintf("interface%d", n))
	marks := ovsdb.Dict{keySwitch: bridge, keyMirror: m.Name}
	columns["name"], columns["external_ids"] = device, marks
	tx.ops = append(tx.ops,
		ovsdb.Operation{Op: "insert", Table: "Interface", Name: string(i), Row: columns},
		ovsdb.Operation{Op: "insert", Table: "Port", Name: string(row), Row: ovsdb.Row{"name": device, "interfaces": i, "external_ids": marks}})
	tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "insert", row})
	return row
}

// removeTunnel removes that port, if it is there and ours.
func (tx *transaction) removeTunnel(device string) {
	if port, there := tx.own.devices[device]; there && port.ExternalIDs[keyMirror] != "" {
		tx.mutate(ovsdb.Where("_uuid", tx.bridge), ovsdb.Condition{"ports", "delete", port.UUID})
	}
}

// setMirrored adds what puts a guest's port, a UUID or a new row's name, into its
// mirrors and takes it out of others. One that is deleted leaves them by itself:
// they refer to it weakly. It reports whether there was anything to do.
func (tx *transaction) setMirrored(c switchcfg.Change, port any, bridge string) bool {
	was, is := mirroredOf(c.Before), mirroredOf(c.After)
	if was.String() == is.String() {
		return false
	}
	for _, column := range []struct {
		name    string
		was, is []string
	}{{"select_dst_port", was.In, is.In}, {"select_src_port", was.Out, is.Out}, {"output_port", was.To, is.To}} {
		for _, mirror := range column.was {
			tx.mutateMirror(mirror, bridge, ovsdb.Condition{column.name, "delete", port})
		}
		for _, mirror := range column.is {
			tx.mutateMirror(mirror, bridge, ovsdb.Condition{column.name, "insert", port})
		}
	}
	return true
}

// mirroredOf is the mirrors that a port is in.
func mirroredOf(p switchcfg.Port) switchcfg.Mirrored {
	if p.Settings.Mirrored == nil {
		return switchcfg.Mirrored{}
	}
	return *p.Settings.Mirrored
}

// mirrorAnew has ovs-vswitchd forget the flows that it cached: a change to a
// mirror is no reason for it to look at them again, and what flows already would
// go on being mirrored as before.
func (d *Driver) mirrorAnew(ctx context.Context) error {
	if _, err := d.control(ctx, "revalidator/purge"); err != nil {
		return fmt.Errorf("mirrors are set, but not for what flows already: %w", err)
	}
	return nil
}

func (tx *transaction) mutateMirror(mirror, bridge string, mutation ovsdb.Condition) {
	op := ovsdb.Operation{
		Op: "mutate", Table: "Mirror", Mutations: []ovsdb.Condition{mutation},
		Where: []ovsdb.Condition{{"name", "==", mirror}, {"external_ids", "includes", ovsdb.Dict{keySwitch: bridge}}},
	}
	if mutation[0] == "output_port" && mutation[1] == "insert" { // there is room for one
		op.Op, op.Mutations, op.Row = "update", nil, ovsdb.Row{"output_port": mutation[2]}
	}
	tx.ops = append(tx.ops, op)
}

// some is a column of at most one number, that zero leaves empty.
func some(n int) ovsdb.Set[int] {
	if n == 0 {
		return ovsdb.Set[int]{}
	}
	return ovsdb.Set[int]{n}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// A limit towards the guest is a linux-htb QoS of the port with one queue, from
// the guest an OpenFlow meter: what Open vSwitch calls ingress policing it says
// yes to also where the kernel has no classifier for it. A limited port has its
// limits in its external_ids; they are in force only where they can be seen at
// work, too: the kernel's discipline of the device, the flow and its meter.

// limits are the rates of a port.
type limits struct{ vnet.QoS }

// qosOf is what limits the settings ask for.
func qosOf(s switchcfg.Settings) limits {
	if s.QoS == nil {
		return limits{}
	}
	return limits{*s.QoS}
}

func (l limits) limits() bool { return l.Inbound.Bits != 0 || l.Outbound.Bits != 0 }

// String is the limits in bits per second and bytes, as external_ids have them.
func (l limits) String() string {
	return fmt.Sprintf("%d/%d %d/%d", l.Inbound.Bits, l.Inbound.Burst, l.Outbound.Bits, l.Outbound.Burst)
}

// rates are the limits that the port is said to have. What cannot be read is
// none.
func (s seen) rates() (q vnet.QoS) {
	if s.port == nil {
		return q
	}
	_, err := fmt.Sscanf(s.port.ExternalIDs[keyRates], "%d/%d %d/%d",
		&q.Inbound.Bits, &q.Inbound.Burst, &q.Outbound.Bits, &q.Outbound.Burst)
	if err != nil {
		return vnet.QoS{}
	}
	return q
}

// shape adds the operations that lead from one limit towards the guest to
// another. The error is [switchcfg.ErrNotOwned] when somebody else limits the
// port already.
func (tx *transaction) shape(c switchcfg.Change, s seen, port ovsdb.UUID) error {
	had, to := s.rates().Inbound, qosOf(c.After.Settings).Inbound
	if to == qosOf(c.Before.Settings).Inbound && had == to {
		return nil
	}
	foreign := s.port != nil && tx.theirs[s.port.QoS.First()]
	if foreign && to.Bits != 0 {
		return &switchcfg.PortError{Device: c.Device, Err: fmt.Errorf("%w: somebody else limits it already: ovs-vsctl list qos %s",
			switchcfg.ErrNotOwned, s.port.QoS.First())}
	}
	tx.removeQueues(c.Device)
	if foreign {
		return nil
	}
	if to.Bits == 0 {
		tx.update("Port", port, ovsdb.Row{"qos": ovsdb.Set[ovsdb.UUID]{}})
		return nil
	}
	if had.Bits != 0 && qosOf(c.Before.Settings).Inbound.Bits == 0 {
		none := transaction{}
		none.update("Port", port, ovsdb.Row{"qos": ovsdb.Set[ovsdb.UUID]{}})
		tx.first = append(tx.first, none.ops...)
	}
	qos := tx.addQueue(c.Device, to)
	tx.update("Port", port, ovsdb.Row{"qos": qos})
	return nil
}

// theirQoS are the QoS of the ports that are not of ours.
func (d *Driver) theirQoS(ctx context.Context, v view, devices []string) (map[ovsdb.UUID]bool, error) {
	theirs := map[ovsdb.UUID]bool{}
	var ops []ovsdb.Operation
	for _, device := range devices {
		if s := v.ports[device]; s.port != nil && len(s.port.QoS) > 0 {
			others := ovsdb.Condition{"external_ids", "excludes", ovsdb.Dict{keyPort: device}}
			ops = append(ops, ovsdb.Select("QoS", append(ovsdb.Where("_uuid", s.port.QoS.First()), others), "_uuid"))
		}
	}
	if len(ops) == 0 {
		return theirs, nil
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return nil, fmt.Errorf("read the QoS of ports: %w", err)
	}
	for i := range ops {
		rows, err := ovsdb.Rows[record](results, i)
		if err != nil {
			return nil, fmt.Errorf("read the QoS of ports: %w", err)
		}
		for _, r := range rows {
			theirs[r.UUID] = true
		}
	}
	return theirs, nil
}

// ownRows is the condition of the QoS and the Queue of a device.
func ownRows(device string) []ovsdb.Condition {
	return []ovsdb.Condition{{"external_ids", "includes", ovsdb.Dict{keyPort: device}}}
}

func (tx *transaction) removeQueues(device string) {
	for _, table := range []string{"QoS", "Queue"} {
		tx.ops = append(tx.ops, ovsdb.Operation{Op: "delete", Table: table, Where: ownRows(device)})
	}
}

// addQueue makes a QoS with one queue, which all frames are in.
func (tx *transaction) addQueue(device string, r vnet.Rate) ovsdb.NamedUUID {
	n := len(tx.ops)
	qos, queue := ovsdb.NamedUUID(fmt.Sprintf("qos%d", n)), ovsdb.NamedUUID(fmt.Sprintf("queue%d", n))
	rate, ids := strconv.FormatInt(int64(r.Bits), 10), ovsdb.Dict{keyPort: device}
	tx.ops = append(tx.ops,
		ovsdb.Operation{Op: "insert", Table: "Queue", Name: string(queue), Row: ovsdb.Row{
			"external_ids": ids, "other_config": ovsdb.Dict{"max-rate": rate, "burst": strconv.FormatInt(8*int64(r.Burst), 10)},
		}},
		ovsdb.Operation{Op: "insert", Table: "QoS", Name: string(qos), Row: ovsdb.Row{
			"type": "linux-htb", "external_ids": ids, "other_config": ovsdb.Dict{"max-rate": rate}, "queues": ovsdb.Numbered{0: queue},
		}})
	return qos
}

// addInbound completes the ports that are said to have a limit towards the
// guest. disciplines has what the kernel sends the frames to each device with.
func (d *Driver) addInbound(ctx context.Context, v view, ports map[string]switchcfg.Port, disciplines map[string]string) error {
	var devices []string
	var ops []ovsdb.Operation
	for device, port := range ports {
		if s := v.ports[device]; s.rates().Inbound.Bits != 0 && port.Switch == d.name {
			devices = append(devices, device)
			ops = append(ops, ovsdb.Select("QoS", ownRows(device), "_uuid", "other_config"),
				ovsdb.Select("Queue", ownRows(device), "_uuid", "other_config"))
		}
	}
	if len(devices) == 0 {
		return nil
	}
	results, err := d.transact(ctx, ops...)
	if err != nil {
		return fmt.Errorf("read queues: %w", err)
	}
	for i, device := range devices {
		qos, err := ovsdb.Rows[record](results, 2*i)
		if err != nil {
			return fmt.Errorf("read the QoS of %s: %w", device, err)
		}
		queues, err := ovsdb.Rows[record](results, 2*i+1)
		if err != nil {
			return fmt.Errorf("read the queue of %s: %w", device, err)
		}
		s, want := v.ports[device], v.ports[device].rates().Inbound
		tx := transaction{}
		tx.addQueue(device, want)
		if len(qos) == 1 && len(queues) == 1 && disciplines[device] == htb && slices.Contains(s.port.QoS, qos[0].UUID) &&
			sameConfig(queues[0], tx.ops[0]) && sameConfig(qos[0], tx.ops[1]) {
			ports[device].Settings.QoS.Inbound = want
		}
	}
	return nil
}

// checkInbound reports a limit towards a guest that Open vSwitch has taken and
// the kernel has not.
func (d *Driver) checkInbound(ctx context.Context, plan switchcfg.Plan) error {
	var devices []string
	for _, c := range plan.Changes {
		if qosOf(c.After.Settings).Inbound.Bits != 0 {
			devices = append(devices, c.Device)
		}
	}
	links, err := d.links.LinksByName(ctx, devices...)
	if err != nil {
		return fmt.Errorf("look devices up: %w", rtnl.Translate(err))
	}
	for i, l := range links {
		if l.Qdisc != htb {
			return fmt.Errorf("port %s: %w: inbound rate: this kernel has no htb (CONFIG_NET_SCH_HTB), or the port no device of the kernel's",
				devices[i], switchcfg.ErrUnsupported)
		}
	}
	return nil
}

// htb is the kernel's discipline behind linux-htb.
const htb = "htb"

func sameConfig(r record, as ovsdb.Operation) bool {
	want, _ := as.Row["other_config"].(ovsdb.Dict)
	return fmt.Sprint(r.OtherConfig) == fmt.Sprint(want)
}

// sweepQueues removes QoS and Queue rows of ours that no port has any more:
// they do not go with their port.
func (d *Driver) sweepQueues(ctx context.Context) error {
	results, err := d.transact(ctx,
		ovsdb.Select("QoS", []ovsdb.Condition{}, "_uuid", "external_ids"),
		ovsdb.Select("Port", []ovsdb.Condition{{"qos", "!=", ovsdb.Set[ovsdb.UUID]{}}}, "qos"))
	if err != nil {
		return fmt.Errorf("read queues: %w", err)
	}
	all, err := ovsdb.Rows[record](results, 0)
	if err != nil {
		return fmt.Errorf("read queues: %w", err)
	}
	ports, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return fmt.Errorf("read the queues of ports: %w", err)
	}
	used := map[ovsdb.UUID]bool{}
	for _, p := range ports {
		used[p.QoS.First()] = true
	}
	tx := transaction{}
	for _, q := range all {
		if device := q.ExternalIDs[keyPort]; device != "" && !used[q.UUID] {
			tx.removeQueues(device)
		}
	}
	if len(tx.ops) == 0 {
		return nil
	}
	if _, err := d.transact(ctx, tx.ops...); err != nil {
		return fmt.Errorf("remove queues: %w", err)
	}
	return nil
}

// meterOf is the number of a port's meter. Meters have no mark, so these
// numbers, high and apart, are ours.
func meterOf(port int) int {
	const firstMeter = 20000
	return firstMeter + port
}

// bands is what a meter does: it drops what is too fast. Meters count thousands
// of bits.
func bands(r vnet.Rate) string {
	rate, burst := thousands(r)
	return fmt.Sprintf("type=drop rate=%d burst_size=%d", rate, burst)
}

func thousands(r vnet.Rate) (rate, burst int64) {
	return max(1, int64(r.Bits)/1000), max(1, 8*int64(r.Burst)/1000)
}

// The commands and the flags of a change of a meter, and the type of a band that
// drops what is too much.
const (
	meterAdd, meterModify, meterDelete = 0, 1, 2

	meterFlags = 1<<0 | 1<<2 | 1<<3 // thousands of bits, a burst, counters
	bandDrop   = 1
	bandLength = 16
)

// meterMessage is the body of a message that changes the meter of a port.
func meterMessage(command uint16, port int, r vnet.Rate) []byte {
	body := binary.BigEndian.AppendUint16(nil, command)
	body = binary.BigEndian.AppendUint16(body, meterFlags)
	body = binary.BigEndian.AppendUint32(body, uint32(meterOf(port)))
	if command == meterDelete {
		return body
	}
	rate, burst := thousands(r)
	body = binary.BigEndian.AppendUint16(body, bandDrop)
	body = binary.BigEndian.AppendUint16(body, bandLength)
	body = binary.BigEndian.AppendUint32(body, uint32(rate))
	body = binary.BigEndian.AppendUint32(body, uint32(burst))
	return append(body, 0, 0, 0, 0)
}

// setMeters changes the meters of ports, or makes them: without a moment in which
// one is gone, and with it all flows that use it.
func (d *Driver) setMeters(ctx context.Context, rates map[int]vnet.Rate) error {
	if len(rates) == 0 {
		return nil
	}
	return d.converse(ctx, func(c *ofConn) error {
		for port, r := range rates {
			err := c.change(ofMeterMod, meterMessage(meterModify, port, r))
			if errors.Is(err, unknownMeter) {
				err = c.change(ofMeterMod, meterMessage(meterAdd, port, r))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// removeMeters removes the meters of ports, which need not have any.
func (d *Driver) removeMeters(ctx context.Context, ports []int) error {
	if len(ports) == 0 {
		return nil
	}
	var messages [][]byte
	for _, port := range ports {
		messages = append(messages, meterMessage(meterDelete, port, vnet.Rate{}))
	}
	return d.converse(ctx, func(c *ofConn) error { return c.change(ofMeterMod, messages...) })
}

// meters are the bands of all meters, by number.
func (d *Driver) meters(ctx context.Context) (map[int]string, error) {
	text, err := d.openflow(ctx, "", "dump-meters")
	if err != nil {
		return nil, err
	}
	found := map[int]string{}
	number := 0
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if rest, is := strings.CutPrefix(line, "meter="); is {
			word, _, _ := strings.Cut(rest, " ")
			number, _ = strconv.Atoi(word)
		} else if strings.HasPrefix(line, "type=") {
			found[number] = line
		}
	}
	return found, nil
}

// addOutbound completes the ports that are said to have a limit from the guest.
func (d *Driver) addOutbound(ctx context.Context, v view, ports map[string]switchcfg.Port, flows map[int][]dumped) error {
	found, err := d.meters(ctx)
	if err != nil {
		return err
	}
	for device := range ports {
		s := v.ports[device]
		want := s.rates().Outbound
		if want.Bits == 0 || !s.guarded(d.name) || found[meterOf(s.number)] != bands(want) {
			continue
		}
		for _, f := range flows[s.number] {
			if f.table == tableFirst && f.meter == meterOf(s.number) {
				ports[device].Settings.QoS.Outbound = want
			}
		}
	}
	return nil
}

// try finds out whether the bridge has meters.
func (d *Driver) try(ctx context.Context, f switchcfg.Feature) (reason string) {
	if f != switchcfg.FeatureOutbound {
		return ""
	}
	text, err := d.openflow(ctx, "", "meter-features")
	switch {
	case err != nil:
		return fmt.Sprintf("whether Open vSwitch has meters could not be found out: %v", err)
	case strings.Contains(text, "max_meter:0 ") || !strings.Contains(text, "drop"):
		return "the datapath of this Open vSwitch has no meters"
	}
	return ""
}

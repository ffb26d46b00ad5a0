// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// defaultMTU is what a new device has.
const defaultMTU = 1500

// Host is a host in memory: devices, and switches that some of them are ports
// of. It keeps what is applied to it and prints it. It is safe for concurrent
// use.
type Host struct {
	mu       sync.Mutex
	switches map[string]*Switch
	devices  map[string]switchcfg.Port
	learned  map[string][]switchcfg.Learned
	failAt   int
	failWith error
	vantages int
	made     int // devices so far
}

// Switch is one switch of a [Host].
type Switch struct {
	vnet.Switch
	// Missing is what it cannot do, with the reasons.
	Missing map[switchcfg.Feature]string
	// Untagged is the VLAN of untagged ports.
	Untagged vnet.VLANID
	// Own is the settings of the switch itself. The embedded Switch.Bridge is
	// what the spec wants of them, and Switch.Uplink a device of the host.
	Own vnet.Bridge
	// Swept counts the calls of Sweep.
	Swept int
}

// NewHost returns a host with switches and no devices.
func NewHost(switches ...Switch) *Host {
	h := &Host{
		switches: map[string]*Switch{},
		devices:  map[string]switchcfg.Port{},
		learned:  map[string][]switchcfg.Learned{},
	}
	for _, sw := range switches {
		h.switches[sw.Name] = &sw
	}
	return h
}

// Open opens the driver of sw, as drivers.Open does on a real host.
func (h *Host) Open(ctx context.Context, sw vnet.Switch) (switchcfg.Driver, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	found, ok := h.switches[sw.Name]
	if !ok || (sw.Driver != 0 && sw.Driver != found.Driver) {
		return nil, fmt.Errorf("switch %s: %w", sw.Name, switchcfg.ErrNoSwitch)
	}
	return &driver{host: h, sw: found, as: sw}, nil
}

// AddDevice makes a device that is on no switch.
func (h *Host) AddDevice(device string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made++
	h.devices[device] = switchcfg.Port{Device: device, Index: h.made, Settings: switchcfg.Settings{MTU: defaultMTU}}
}

// Plug makes device a port of a switch, as libvirt does before a guest starts.
func (h *Host) Plug(device, sw string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.devices[device] = h.plugged(h.devices[device], sw)
}

// plugged is port with what the switch gives to new ports.
func (h *Host) plugged(port switchcfg.Port, name string) switchcfg.Port {
	port.Switch = name
	port.Settings = switchcfg.Settings{MTU: port.Settings.MTU}
	sw, ok := h.switches[name]
	if !ok {
		return port
	}
	s := &port.Settings
	give := func(feature switchcfg.Feature, set func()) {
		if _, missing := sw.Missing[feature]; !missing {
			set()
		}
	}
	give(switchcfg.FeatureVLAN, func() { s.VLAN = &vnet.VLANSet{Access: sw.Untagged} })
	for f := range switchcfg.AllFlags() {
		give(f.Feature(), func() { s.Flags[f] = f.Normal() })
	}
	give(switchcfg.FeatureAntiSpoof, func() { s.Guard = &switchcfg.Guard{} })
	give(switchcfg.FeatureInbound, func() { s.QoS = &vnet.QoS{} })
	return port
}

// Own returns the settings of a switch itself, and how often it was swept.
func (h *Host) Own(name string) (own vnet.Bridge, swept int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sw := h.switches[name]
	return sw.Own, sw.Swept
}

// Port returns a device as it is.
func (h *Host) Port(device string) switchcfg.Port {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.devices[device]
}

// Change lets change alter a device behind the driver's back.
func (h *Host) Change(device string, change func(*switchcfg.Port)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	port := h.devices[device]
	change(&port)
	h.devices[device] = port
}

// Remove takes a device away, as the end of a guest does.
func (h *Host) Remove(device string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.devices, device)
}

// Learn makes a switch know an address.
func (h *Host) Learn(sw string, row switchcfg.Learned) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.learned[sw] = append(h.learned[sw], row)
}

// FailAt makes the n-th change from now on fail with err, once; 1 is the next.
func (h *Host) FailAt(n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failAt, h.failWith = n, err
}

// String returns the devices, a line each, sorted by name.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, device := range slices.Sorted(maps.Keys(h.devices)) {
		b.WriteString(describe(h.devices[device]) + "\n")
	}
	return b.String()
}

// describe is one line about a port: the device, its switch, and every setting
// that the switch has; of flags those that are not normal.
func describe(p switchcfg.Port) string {
	words := []string{p.Device + ":"}
	add := func(name, value string) { words = append(words, name+" "+value) }
	if p.Switch == "" {
		add("switch", "none")
	} else {
		add("switch", p.Switch)
	}
	s := p.Settings
	if s.VLAN != nil {
		add("vlan", s.VLAN.String())
	}
	add("mtu", fmt.Sprint(s.MTU))
	for f := range switchcfg.AllFlags() {
		if s.Flags[f] != vnet.ToggleLeave && s.Flags[f] != f.Normal() {
			add(strings.ReplaceAll(f.String(), " ", "-"), s.Flags[f].String())
		}
	}
	if g := s.Guard; g != nil && !g.IsZero() {
		add("guard", fmt.Sprint(*g))
	}
	if q := s.QoS; q != nil && *q != (vnet.QoS{}) {
		add("qos", fmt.Sprint(*q))
	}
	add("owner", p.Owner.String())
	if p.Foreign != "" {
		add("foreign", fmt.Sprintf("%q", p.Foreign))
	}
	return words[0] + " " + strings.Join(words[1:], ", ")
}

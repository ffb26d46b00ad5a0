// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Change brings one port from Before to After. Fields that stay are equal in
// both.
type Change struct {
	Device string `json:"device"`
	Before Port   `json:"before"`
	After  Port   `json:"after"`
}

// Plan is the changes that lead from one state of a switch to another, in the
// order in which they are to be made. An empty plan means that all is well.
type Plan struct {
	Switch  string   `json:"switch"`
	Changes []Change `json:"changes,omitempty"`
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.Changes) == 0 }

// Reverse returns the plan that takes p back, last change first.
func (p Plan) Reverse() Plan {
	back := Plan{Switch: p.Switch, Changes: make([]Change, 0, len(p.Changes))}
	for _, c := range slices.Backward(p.Changes) {
		back.Changes = append(back.Changes, Change{Device: c.Device, Before: c.After, After: c.Before})
	}
	return back
}

// String returns the plan as people read it, a line for each setting.
func (p Plan) String() string {
	var b strings.Builder
	for _, c := range p.Changes {
		for _, line := range c.Lines() {
			fmt.Fprintf(&b, "%s: %s: %s\n", p.Switch, c.Device, line)
		}
	}
	return b.String()
}

// Diff returns what must change so that have becomes want. New wiring comes
// before removals.
//
// Every port of want must exist in have, else the error is [ErrNoPort]. A port
// that is on another switch and does not carry our mark, or that carries
// somebody else's, is not ours to wire: [ErrNotOwned]. Ports of have that are not in want are released when they
// carry the mark of owner, a guest's UUID, and left alone when not; with no
// owner nothing is released.
func Diff(want, have State, owner string) (Plan, error) {
	plan := Plan{Switch: want.Switch}
	for _, device := range want.Devices() {
		port := want.Ports[device]
		found, ok := have.Ports[device]
		if !ok {
			return Plan{}, fmt.Errorf("switch %s: port %s: %w", want.Switch, device, ErrNoPort)
		}
		if err := mayWire(port, found); err != nil {
			return Plan{}, err
		}
		after := merge(port, found, have.Untagged)
		if !equal(found, after) {
			plan.Changes = append(plan.Changes, Change{Device: device, Before: found, After: after})
		}
	}
	for _, device := range have.Devices() {
		found := have.Ports[device]
		if _, wanted := want.Ports[device]; wanted || owner == "" || found.Owner.Guest != owner {
			continue
		}
		released := found
		released.Owner = Owner{}
		plan.Changes = append(plan.Changes, Change{Device: device, Before: found, After: released})
	}
	return plan, nil
}

// mayWire reports why found cannot become want.
func mayWire(want, found Port) error {
	if found.Foreign != "" {
		return fmt.Errorf("switch %s: port %s: %w: it is marked %q: remove the mark if network %s may have the port",
			want.Switch, want.Device, ErrNotOwned, found.Foreign, want.Owner.Network)
	}
	if found.Switch != "" && found.Switch != want.Switch && found.Owner.IsZero() {
		return fmt.Errorf("port %s is on switch %s, network %s wants it on %s: %w",
			want.Device, found.Switch, want.Owner.Network, want.Switch, ErrNotOwned)
	}
	return nil
}

// Admit reports whether the change may still be made to its port, which is
// found to be like this now. A driver asks just before. The error is
// [ErrNotOwned] when somebody else has taken the port since it was observed:
// then it carries a mark, or is on a switch, that the change knows nothing of.
func (c Change) Admit(found Port) error {
	switch {
	case found.Foreign != "":
		return fmt.Errorf("%w: it is marked %q", ErrNotOwned, found.Foreign)
	case found.Owner != c.Before.Owner && found.Owner != c.After.Owner:
		return fmt.Errorf("%w: it is now of %s: plan again", ErrNotOwned, found.Owner)
	case found.Switch != c.Before.Switch && found.Switch != c.After.Switch:
		return fmt.Errorf("%w: it is now on switch %s: plan again", ErrNotOwned, orNone(found.Switch))
	}
	return nil
}

// merge returns found with every setting of want that is not "leave alone".
// Asking for the default of a feature that the switch does not have (observed
// as zero) is fulfilled already.
func merge(want, found Port, untagged vnet.VLANID) Port {
	after := found
	after.Switch = want.Switch
	after.Owner = want.Owner
	s, w := &after.Settings, want.Settings
	s.VLAN = membership(w.VLAN, s.VLAN, untagged)
	if w.MTU != 0 {
		s.MTU = w.MTU
	}
	s.Isolated = toggle(w.Isolated, s.Isolated, vnet.ToggleOff)
	s.Learning = toggle(w.Learning, s.Learning, vnet.ToggleOn)
	s.Flood = toggle(w.Flood, s.Flood, vnet.ToggleOn)
	s.BPDUGuard = toggle(w.BPDUGuard, s.BPDUGuard, vnet.ToggleOff)
	return after
}

// membership is what a port's VLANs become. A wanted untagged port is an access
// port of the VLAN its switch puts such ports in.
func membership(want, found *vnet.VLANSet, untagged vnet.VLANID) *vnet.VLANSet {
	switch {
	case want == nil, want.IsZero() && found == nil:
		return found
	case want.IsZero():
		return &vnet.VLANSet{Access: untagged}
	}
	return want
}

// toggle is what a setting becomes. A switch without the setting behaves as
// normal says, so wanting that changes nothing.
func toggle(want, found, normal vnet.Toggle) vnet.Toggle {
	if want == vnet.ToggleLeave || (found == vnet.ToggleLeave && want == normal) {
		return found
	}
	return want
}

func equal(a, b Port) bool { return (Change{Before: a, After: b}).Empty() }

// Empty reports whether the change does nothing: whether [Change.Lines] has no
// line, which takes longer to find out.
func (c Change) Empty() bool {
	before, after := c.Before, c.After
	same := sameVLAN(before.Settings.VLAN, after.Settings.VLAN)
	// What cannot be compared with == has been, and nobody changes the others.
	before.Settings.VLAN, after.Settings.VLAN = nil, nil
	before.Device, after.Device = "", ""
	before.Foreign, after.Foreign = "", ""
	return same && before == after
}

// Lines says what the change does, one setting a line, such as
// "vlan: untagged -> access 20".
func (c Change) Lines() []string {
	before, after := c.Before.Settings, c.After.Settings
	var lines []string
	add := func(name, from, to string) {
		if from != to {
			lines = append(lines, fmt.Sprintf("%s: %s -> %s", name, from, to))
		}
	}
	add("switch", orNone(c.Before.Switch), orNone(c.After.Switch))
	if !sameVLAN(before.VLAN, after.VLAN) {
		add("vlan", vlanText(before.VLAN), vlanText(after.VLAN))
	}
	add("mtu", strconv.Itoa(before.MTU), strconv.Itoa(after.MTU))
	add("isolated", before.Isolated.String(), after.Isolated.String())
	add("learning", before.Learning.String(), after.Learning.String())
	add("flood", before.Flood.String(), after.Flood.String())
	add("bpdu guard", before.BPDUGuard.String(), after.BPDUGuard.String())
	was, is := c.Before.Owner, c.After.Owner
	if was.Guest == is.Guest && was.Network == is.Network {
		add("owner's MAC", was.MAC.String(), is.MAC.String())
	}
	add("owner", was.String(), is.String())
	return lines
}

func sameVLAN(a, b *vnet.VLANSet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

func vlanText(s *vnet.VLANSet) string {
	if s == nil {
		return "none"
	}
	return s.String()
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

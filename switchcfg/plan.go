// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

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
	// Warnings are what the changes do to others, or do not achieve by
	// themselves, a line each.
	Warnings []string `json:"warnings,omitempty"`
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

// Diff returns what must change so that have becomes want: the switch itself and
// its uplink first, then new wiring, then removals.
//
// Every port of want must exist in have, else the error is [ErrNoPort]. A port
// that is on another switch and does not carry our mark, or that carries
// somebody else's, is not ours to wire: [ErrNotOwned]; so is an uplink that lacks
// a VLAN on a switch that is not ours. Ports of have that are not in want are
// released when they carry the mark of owner, a guest's UUID, and left alone when
// not; with no owner nothing is released.
func Diff(want, have State, owner string) (Plan, error) {
	plan := Plan{Switch: want.Switch}
	add := func(before, after Port) {
		if c := (Change{Device: before.Device, Before: before, After: after}); !c.Empty() {
			plan.Changes = append(plan.Changes, c)
		}
	}
	if port, ok := want.Ports[want.Switch]; ok {
		found := have.Ports[want.Switch]
		add(found, mergeOwn(port.Settings, found))
	}
	uplink, err := carry(want, have)
	if err != nil {
		return Plan{}, err
	}
	add(have.Ports[have.Uplink.Device], uplink)
	for _, device := range want.Devices() {
		if device == want.Switch {
			continue
		}
		port := want.Ports[device]
		found, ok := have.Ports[device]
		if !ok {
			return Plan{}, fmt.Errorf("switch %s: port %s: %w", want.Switch, device, ErrNoPort)
		}
		if err := mayWire(port, found); err != nil {
			return Plan{}, err
		}
		add(found, merge(port, found, have.Untagged))
	}
	for _, device := range have.Devices() {
		found := have.Ports[device]
		if _, wanted := want.Ports[device]; wanted || owner == "" || found.Owner.Guest != owner {
			continue
		}
		add(found, found.Released())
	}
	plan.Warnings = warnings(plan, want, have)
	return plan, nil
}

// carry is the uplink with the VLANs that it must have.
func carry(want, have State) (Port, error) {
	uplink := have.Ports[have.Uplink.Device]
	set := uplink.Settings.VLAN
	if set == nil {
		return uplink, nil // none, or a switch that does not tell VLANs apart
	}
	missing := want.Uplink.VLANs.Minus(set.All())
	if len(missing) > 0 && !want.Uplink.Managed {
		return uplink, fmt.Errorf("switch %s: %w: its uplink %s does not carry VLAN %s: bridge vlan add dev %s vid %s, "+
			"or have virt-vnet see to it with bridge: {} at the switch in the spec",
			want.Switch, ErrNotOwned, uplink.Device, missing, uplink.Device, missing[0])
	}
	more := set.With(missing)
	uplink.Settings.VLAN = &more
	return uplink, nil
}

// Prune returns the change that takes VLANs off the uplink which were put there
// for ports that are gone: of added, all that no other port of have has. The
// bridge itself must be among the ports of have, for it may be in VLANs, too.
func Prune(have State, added vnet.VLANRanges) (Plan, bool) {
	plan := Plan{Switch: have.Switch}
	uplink, ok := have.Ports[have.Uplink.Device]
	if !ok || uplink.Settings.VLAN == nil {
		return plan, false
	}
	for device, port := range have.Ports {
		if device != uplink.Device && port.Settings.VLAN != nil {
			added = added.Minus(port.Settings.VLAN.All())
		}
	}
	after := uplink
	less := uplink.Settings.VLAN.Without(added)
	after.Settings.VLAN = &less
	if c := (Change{Device: uplink.Device, Before: uplink, After: after}); !c.Empty() {
		plan.Changes = []Change{c}
	}
	return plan, !plan.Empty()
}

// warnings are about a plan as a whole.
func warnings(plan Plan, want, have State) []string {
	var lines []string
	if tag := have.Uplink.Tag; tag != 0 && len(want.Uplink.VLANs) > 0 {
		lines = append(lines, fmt.Sprintf("uplink %s is a VLAN device: frames of VLAN %s leave the host with a second tag, %d: "+
			"make the device below it the port of %s, or give the guests no VLAN",
			have.Uplink.Device, want.Uplink.VLANs, tag, want.Switch))
	}
	for _, c := range plan.Changes {
		mtu := c.After.Settings.MTU
		if have.MTU != 0 && mtu != c.Before.Settings.MTU && mtu < have.MTU {
			lines = append(lines, fmt.Sprintf("port %s: MTU %d lowers that of %s from %d, for the host and for every guest on it, "+
				"unless somebody has set it by hand", c.Device, mtu, want.Switch, have.MTU))
		}
	}
	return lines
}

// mergeOwn is the switch itself as found, with what is wanted of it. What a
// switch does not have it cannot be given.
func mergeOwn(want Settings, found Port) Port {
	after := found
	s := &after.Settings
	s.Bridge = mergeBridge(want.Bridge, s.Bridge)
	if want.Monitoring != nil && s.Monitoring != nil {
		s.Monitoring = want.Monitoring
	}
	if want.Bond != nil && s.Bond != nil {
		s.Bond = want.Bond
	}
	if want.TreePorts != nil && s.TreePorts != nil {
		s.TreePorts = want.TreePorts
	}
	return after
}

// mergeBridge is found with every setting of want that is not to be left alone.
func mergeBridge(want, found *vnet.Bridge) *vnet.Bridge {
	if want == nil || found == nil {
		return found
	}
	after := *found
	set := func(to *vnet.Toggle, want vnet.Toggle) {
		if want != vnet.ToggleLeave {
			*to = want
		}
	}
	set(&after.VLANFiltering, want.VLANFiltering)
	set(&after.STP, want.STP)
	set(&after.RSTP, want.RSTP)
	set(&after.ForwardBPDU, want.ForwardBPDU)
	if want.DefaultPVID.Given {
		after.DefaultPVID = want.DefaultPVID
	}
	if want.Priority.Given {
		after.Priority = want.Priority
	}
	if want.RSTPPriority.Given {
		after.RSTPPriority = want.RSTPPriority
	}
	after.ForwardDelay = cmp.Or(want.ForwardDelay, after.ForwardDelay)
	after.HelloTime = cmp.Or(want.HelloTime, after.HelloTime)
	after.MaxAge = cmp.Or(want.MaxAge, after.MaxAge)
	after.RSTPMaxAge = cmp.Or(want.RSTPMaxAge, after.RSTPMaxAge)
	after.RSTPForwardDelay = cmp.Or(want.RSTPForwardDelay, after.RSTPForwardDelay)
	return &after
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
	wires := !c.Before.Owner.IsZero() || !c.After.Owner.IsZero() // and not the uplink's, or the bridge's own
	switch {
	case found.Index != c.Before.Index && c.Before.Index != 0:
		return fmt.Errorf("%w: it is another device of that name by now: plan again", ErrNotOwned)
	case found.Foreign != "" && wires:
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
	s.Flags = s.Flags.merge(w.Flags)
	if w.Guard != nil && (s.Guard != nil || !w.Guard.IsZero()) {
		s.Guard = w.Guard
	}
	if w.QoS != nil && (s.QoS != nil || *w.QoS != vnet.QoS{}) {
		s.QoS = w.QoS
	}
	if w.Mirrored != nil && s.Mirrored != nil {
		s.Mirrored = w.Mirrored
	}
	s.Logical = mergeLogical(w.Logical, s.Logical)
	return after
}

// mergeLogical is want, on the hosts that it does not say anything about as found.
func mergeLogical(want, found *LogicalPort) *LogicalPort {
	if want == nil || want.Elsewhere != vnet.ToggleLeave {
		return want
	}
	after := *want
	after.Elsewhere = vnet.ToggleOf(given(found).Elsewhere == vnet.ToggleOn)
	return &after
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

// Empty reports whether the change does nothing: whether [Change.Lines] has no
// line, which takes longer to find out.
func (c Change) Empty() bool {
	before, after := c.Before.Settings, c.After.Settings
	return sameVLAN(before.VLAN, after.VLAN) && sameGuard(before.Guard, after.Guard) && sameQoS(before.QoS, after.QoS) &&
		sameLogical(before.Logical, after.Logical) && sameBridge(before.Bridge, after.Bridge) &&
		same(before.Mirrored, after.Mirrored) && same(before.Monitoring, after.Monitoring) &&
		same(before.Bond, after.Bond) && same(before.TreePorts, after.TreePorts) && before.MTU == after.MTU && before.Flags == after.Flags &&
		c.Before.Switch == c.After.Switch && c.Before.Owner == c.After.Owner
}

// Lines says what the change does, one setting a line, such as
// "vlan: untagged -> access 20".
func (c Change) Lines() []string {
	var text []string
	for _, s := range c.Settings() {
		text = append(text, fmt.Sprintf("%s: %s -> %s", s.Name, s.From, s.To))
	}
	return text
}

// SettingChange is what becomes of one setting, in words: "vlan", "untagged",
// "access 20".
type SettingChange struct{ Name, From, To string }

// What [Change.Settings] calls settings that are told apart from the others.
const (
	NameSwitch   = "switch"
	NameVLAN     = "vlan"
	NameMTU      = "mtu"
	NameOwner    = "owner"
	NameOwnerMAC = "owner's MAC"
)

// Settings lists the settings that the change changes.
func (c Change) Settings() []SettingChange {
	before, after := c.Before.Settings, c.After.Settings
	var l lines
	l.add(NameSwitch, orNone(c.Before.Switch), orNone(c.After.Switch))
	if !sameVLAN(before.VLAN, after.VLAN) {
		l.add(NameVLAN, vlanText(before.VLAN), vlanText(after.VLAN))
	}
	l.add(NameMTU, strconv.Itoa(before.MTU), strconv.Itoa(after.MTU))
	for f := range AllFlags() {
		l.add(f.String(), before.Flags[f].String(), after.Flags[f].String())
	}
	l.guard(given(before.Guard), given(after.Guard))
	l.qos(given(before.QoS), given(after.QoS))
	l.logical(given(before.Logical), given(after.Logical))
	l.add("mirrors", given(before.Mirrored).String(), given(after.Mirrored).String())
	l.bridge(given(before.Bridge), given(after.Bridge))
	l.add("bond", given(before.Bond).String(), given(after.Bond).String())
	l.treePorts(given(before.TreePorts), given(after.TreePorts))
	l.monitoring(given(before.Monitoring), given(after.Monitoring))
	was, is := c.Before.Owner, c.After.Owner
	if was.Guest == is.Guest && was.Network == is.Network {
		l.add(NameOwnerMAC, was.MAC.String(), is.MAC.String())
	}
	l.add(NameOwner, was.String(), is.String())
	return l
}

// lines say what becomes of settings, each with its name.
type lines []SettingChange

func (l *lines) add(name, from, to string) {
	if from != to {
		*l = append(*l, SettingChange{name, from, to})
	}
}

func (l *lines) guard(from, to Guard) {
	l.add("sources", from.sources(), to.sources())
	l.add("dhcp guard", onOff(from.DHCP), onOff(to.DHCP))
	l.add("ra guard", onOff(from.RA), onOff(to.RA))
}

func (l *lines) qos(from, to vnet.QoS) {
	l.add("inbound rate", rateText(from.Inbound), rateText(to.Inbound))
	l.add("outbound rate", rateText(from.Outbound), rateText(to.Outbound))
	l.add("priority", strconv.Itoa(from.Priority), strconv.Itoa(to.Priority))
}

func (l *lines) logical(from, to LogicalPort) {
	l.add("logical port", from.String(), to.String())
	l.add("address", addressText(from.Address), addressText(to.Address))
	l.add("frames to unknown addresses", onOff(from.Promiscuous), onOff(to.Promiscuous))
	l.add("rules and DHCP of its network", onOff(from.Joined), onOff(to.Joined))
	l.add("host", from.place(), to.place())
}

func addressText(a netip.Addr) string {
	if !a.IsValid() {
		return "none"
	}
	return a.String()
}

func (l *lines) bridge(from, to vnet.Bridge) {
	l.add("vlan filtering", from.VLANFiltering.String(), to.VLANFiltering.String())
	l.add("default pvid", fmt.Sprint(from.DefaultPVID.Value), fmt.Sprint(to.DefaultPVID.Value))
	l.add("stp", from.STP.String(), to.STP.String())
	l.add("stp priority", priorityText(from.Priority), priorityText(to.Priority))
	l.add("forward delay", timeText(from.ForwardDelay), timeText(to.ForwardDelay))
	l.add("hello time", timeText(from.HelloTime), timeText(to.HelloTime))
	l.add("max age", timeText(from.MaxAge), timeText(to.MaxAge))
	l.add("rstp", from.RSTP.String(), to.RSTP.String())
	l.add("rstp priority", priorityText(from.RSTPPriority), priorityText(to.RSTPPriority))
	l.add("rstp max age", timeText(from.RSTPMaxAge), timeText(to.RSTPMaxAge))
	l.add("rstp forward delay", timeText(from.RSTPForwardDelay), timeText(to.RSTPForwardDelay))
	l.add("forward bpdu", from.ForwardBPDU.String(), to.ForwardBPDU.String())
}

// byDefault is a setting that is not there.
const byDefault = "default"

func priorityText(n vnet.Optional[int]) string {
	if !n.Given {
		return byDefault
	}
	return strconv.Itoa(n.Value)
}

func timeText(d time.Duration) string {
	if d == 0 {
		return byDefault
	}
	return d.String()
}

func onOff(on bool) string { return vnet.ToggleOf(on).String() }

func sameBridge(a, b *vnet.Bridge) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameLogical(a, b *LogicalPort) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
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

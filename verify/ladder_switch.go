// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// stateForwarding is the state of a port that passes frames.
const stateForwarding = "forwarding"

// defaultMTU is what a guest takes for the MTU when nobody tells it another
// (Ethernet, RFC 894).
const defaultMTU = 1500

// fault is what keeps the switch from passing anybody's frames, or nil. Of a
// Linux bridge the kernel's devices tell.
func (s *Switch) fault(host links) *Fault {
	if s.Fault != nil || s.Driver != vnet.DriverLinux {
		return s.Fault
	}
	bridge, there := host[s.Name]
	switch {
	case !there:
		return &Fault{
			Got: "no such device on this host",
			Fix: fmt.Sprintf("ip link add %s type bridge && ip link set %[1]s up && virt-vnet repair", s.Name),
		}
	case bridge.kind != "bridge":
		return &Fault{
			Got: fmt.Sprintf("%s is no bridge but a %s", s.Name, bridge.kind),
			Fix: "ip -d link show " + s.Name,
		}
	case !bridge.up:
		return &Fault{Got: "device " + s.Name + " is down", Fix: "ip link set " + s.Name + " up"}
	}
	return nil
}

// switchDown is the finding about the NIC's switch itself, if it does not work.
func (n *nic) switchDown() (finding, bool) {
	if n.sw == nil {
		return finding{}, false
	}
	fault := n.sw.fault(n.host)
	if fault == nil {
		return finding{}, false
	}
	return finding{
		status: StatusFail, code: CodeSwitchDown, subject: "switch " + n.sw.Name,
		want: "a switch that passes frames", got: fault.Got, fix: fault.Fix,
		evidence: append([]string{n.sw.Name + ": " + fault.Got}, fault.Evidence...),
	}, true
}

func (n *nic) judgeForwarding() finding {
	if n.macvtap() {
		return skip("a macvtap takes no part in spanning tree")
	}
	if f, known := n.observed(); !known {
		return f
	}
	if n.overlay() {
		return n.judgeBound()
	}
	now := n.Port.Forwarding
	evidence := fmt.Sprintf("%s: port %s is %s", n.Want.Switch, n.Want.Device, now.State)
	switch now.State {
	case "":
		return skip("switch %s has no spanning tree", n.Want.Switch)
	case stateForwarding:
		return pass(evidence)
	}
	return finding{
		status: StatusFail, code: CodeSTPBlocked, want: stateForwarding, got: now.String(),
		evidence: []string{evidence}, fix: n.forwardingFix(now, n.Want.Device),
	}
}

// String returns "learning, forwards in 12 s".
func (f Forwarding) String() string {
	if f.Left > 0 {
		return fmt.Sprintf("%s, forwards in %v", f.State, f.Left.Round(time.Second))
	}
	return f.State
}

// forwardingFix is what helps a port that spanning tree keeps from forwarding.
func (n *nic) forwardingFix(now Forwarding, device string) string {
	switch {
	case now.Left > 0:
		return fmt.Sprintf("sleep %d   # it takes the forward delay; with bridge: {stp: false} at the switch in the spec it would not",
			int(now.Left.Round(time.Second)/time.Second)+1)
	case n.sw != nil && n.sw.Driver == vnet.DriverOVS:
		return "ovs-vsctl list port " + device + "   # status, rstp_status: which bridge is the root, and is there a loop?"
	case now.State == "disabled":
		// This is what BPDU guard does, too (linux, br_stp_rcv).
		return fmt.Sprintf("ip link set %s down && ip link set %[1]s up   # dmesg: did its BPDU guard close it?", device)
	}
	return "bridge -d link show dev " + device + "   # who is the root, and is there a loop?"
}

func (n *nic) judgeSettings() finding {
	if n.macvtap() {
		return skip("a macvtap has no such settings")
	}
	if f, known := n.observed(); !known {
		return f
	}
	switch {
	case n.Port.DiffersErr != nil:
		return unsure("the settings could not be compared: %v", n.Port.DiffersErr)
	case n.Port.NotOurs != "":
		return skip("%s", n.Port.NotOurs)
	case len(n.Port.Differs) == 0:
		return pass("every other setting is as network " + n.Want.Network + " says")
	}
	f := finding{status: StatusFail, code: CodeWrongSettings, fix: "virt-vnet repair " + quoted(n.guest.Name)}
	for i, s := range n.Port.Differs {
		separator := "; "
		if i == 0 {
			separator = ""
		}
		f.want += separator + s.Name + ": " + s.Want
		f.got += separator + s.Name + ": " + s.Got
		f.evidence = append(f.evidence, fmt.Sprintf("%s: port %s has %s %s, network %s wants %s",
			n.Want.Switch, n.Want.Device, s.Name, s.Got, n.Want.Network, s.Want))
	}
	return f
}

// judgeMTU compares the port's MTU with the spec's, else with that of the others
// on the way: where all have less than Ethernet's, somebody has told the guests.
// What the switch itself has matters only where the spec says how much it should
// be: a bridge passes what its ports can take, and its own MTU, which follows
// the smallest of them, is for the host's frames.
func (n *nic) judgeMTU() finding {
	want, have := n.Want.MTU, n.link.mtu
	evidence := n.mtuEvidence()
	f := finding{status: StatusFail, code: CodeMTUMismatch, want: fmt.Sprintf("MTU %d", want), evidence: []string{evidence}}
	lower := n.host[n.lower]
	switch {
	case n.macvtap() && n.lower != "" && lower.mtu < want:
		return f.device("uplink "+n.lower, n.lower, lower.mtu, want)
	case want != 0 && have != want && (!n.macvtap() || have < want): // which has that of the device below
		f.got = fmt.Sprintf("MTU %d", have)
		f.fix = fmt.Sprintf("ip link set %s mtu %d", n.Want.Device, want)
		if n.network.Mode == vnet.ModeBridge {
			f.fix = "virt-vnet repair " + quoted(n.guest.Name)
		}
		return f
	case want == 0 && have < defaultMTU && have < n.othersMTU():
		f.want = fmt.Sprintf("MTU %d, as the others on the way have", n.othersMTU())
		f.got = fmt.Sprintf("MTU %d", have)
		f.fix = fmt.Sprintf("ip link set %s mtu %d", n.Want.Device, n.othersMTU())
		return f
	case n.bridgeTooSmall(want):
		return f.device("switch "+n.sw.Name, n.sw.Name, n.host[n.sw.Name].mtu, want)
	}
	return pass(evidence)
}

// othersMTU is what the others on the way can take of what guests send when
// nobody tells them another MTU, or zero when there are none: the uplink, or
// else the biggest of the other ports.
func (n *nic) othersMTU() int {
	way := n.lower
	if !n.macvtap() && n.sw != nil {
		way = n.sw.uplinkDevice()
	}
	if l, there := n.host[way]; there {
		return min(l.mtu, defaultMTU)
	}
	most := 0
	for name, l := range n.host {
		if l.master != 0 && l.master == n.link.master && name != n.Want.Device {
			most = max(most, l.mtu)
		}
	}
	return min(most, defaultMTU)
}

// device makes the finding one about a device that many share.
func (f finding) device(subject, device string, have, want int) finding {
	f.subject = subject
	f.got = fmt.Sprintf("MTU %d", have)
	f.fix = fmt.Sprintf("ip link set %s mtu %d", device, want)
	return f
}

// mtuEvidence names the MTU of every device on the way.
func (n *nic) mtuEvidence() string {
	text := fmt.Sprintf("MTU: %s %d", n.Want.Device, n.link.mtu)
	names := []string{n.lower}
	if n.sw != nil {
		names = append(names, n.sw.Name, n.sw.uplinkDevice())
	}
	for _, name := range names {
		if l, there := n.host[name]; there {
			text += fmt.Sprintf(", %s %d", name, l.mtu)
		}
	}
	return text
}

// bridgeTooSmall reports whether somebody has given the NIC's bridge an MTU that
// is too small for the network and for each of the bridge's ports. One that
// follows its smallest port is as the kernel makes it.
func (n *nic) bridgeTooSmall(want int) bool {
	if n.sw == nil || n.sw.Driver != vnet.DriverLinux {
		return false
	}
	bridge := n.host[n.sw.Name]
	if bridge.mtu >= want {
		return false
	}
	for _, l := range n.host {
		if l.master == bridge.index && l.mtu <= bridge.mtu {
			return false
		}
	}
	return true
}

// uplinkDevice is the port that leads to the fabric, or what should be.
func (s *Switch) uplinkDevice() string {
	if s.UplinkPort != nil {
		return cmp.Or(s.UplinkPort.Device, s.Uplink)
	}
	return s.Uplink
}

// judgeUplink is about the way out of the host. It is no fault of the NIC.
func (n *nic) judgeUplink() finding {
	switch {
	case n.macvtap():
		return pass(fmt.Sprintf("%s, below the macvtap, has a carrier", n.lower))
	case n.Want.Switch == "":
		return skip("nothing says which switch it belongs on")
	case n.overlay():
		return n.judgeTunnels()
	case n.sw == nil || n.sw.Uplink == "":
		return skip("switch %s has no uplink in the spec", n.Want.Switch)
	case n.sw.Err != nil:
		return unsure("switch %s could not be observed: %v", n.sw.Name, n.sw.Err)
	case n.sw.UplinkPort == nil:
		return unsure("the uplink of switch %s was not observed", n.sw.Name)
	}
	device := n.sw.uplinkDevice()
	f := finding{status: StatusFail, code: CodeUplinkDown, subject: "uplink " + n.sw.Uplink, want: "an uplink that is up"}
	if got, fix := n.sw.uplinkDown(n.host); got != "" {
		f.got, f.fix = got, fix
		f.evidence = []string{n.sw.uplinkEvidence(n.host)}
		return f
	}
	now := n.sw.UplinkPort.Forwarding
	if now.State != "" && now.State != stateForwarding {
		f.code, f.want, f.got = CodeSTPBlocked, stateForwarding, now.String()
		f.evidence = []string{fmt.Sprintf("%s: port %s is %s", n.sw.Name, device, now.State)}
		f.fix = n.forwardingFix(now, device)
		return f
	}
	return n.judgeUplinkVLAN(f)
}

// uplinkDown says why no frames leave by the uplink, and what helps, or nothing.
func (s *Switch) uplinkDown(host links) (got, fix string) {
	port := s.UplinkPort
	l, there := host[s.uplinkDevice()]
	_, named := host[s.Uplink]
	switch {
	case port.Device == "" && !named:
		return "no such device on this host", "ip link show   # is the card there, or has it another name?"
	case port.Device == "" && s.Driver == vnet.DriverOVS:
		return "not a port of " + s.Name, fmt.Sprintf("ovs-vsctl add-port %s %s", s.Name, s.Uplink)
	case port.Device == "":
		return "not a port of " + s.Name, fmt.Sprintf("ip link set %s master %s", s.Uplink, s.Name)
	case there && !l.up:
		return "device " + port.Device + " is down", "ip link set " + port.Device + " up"
	case port.Link == vnet.ToggleOff, port.Link == vnet.ToggleLeave && there && !l.carrier:
		return "no carrier on " + port.Device, lookAtCable(port.Device)
	}
	return "", ""
}

// lookAtCable is the command for a device without a carrier.
func lookAtCable(device string) string {
	return "ethtool " + device + "   # the cable, and the port of the physical switch"
}

func (s *Switch) uplinkEvidence(host links) string {
	device := s.uplinkDevice()
	l, there := host[device]
	if !there {
		return fmt.Sprintf("%s is not among the host's devices", device)
	}
	master := "none"
	if name, ok := host.byIndex(l.master); ok && l.master != 0 {
		master = name
	}
	return fmt.Sprintf("%s: device %s, carrier %s, port of %s", device, upDown(l.up), yesNo(l.carrier), master)
}

// judgeUplinkVLAN is about what the uplink, which is up, lets through. f is the
// finding about the uplink.
func (n *nic) judgeUplinkVLAN(f finding) finding {
	device, carried := n.sw.uplinkDevice(), n.sw.UplinkPort.VLAN
	evidence := device + " is up"
	if carried != nil {
		evidence += ", " + carried.String()
		wanted := n.Want.Policy.VLAN.All()
		missing, bare := wanted.Minus(carried.All()), carried.MoreUntagged()
		// What another Extra lets through is not known.
		if len(missing) > 0 && (carried.Extra == "" || len(bare) > 0) {
			f.code, f.evidence = CodeUplinkVLAN, []string{fmt.Sprintf("%s: port %s is %s", n.sw.Name, device, carried)}
			f.want, f.got = "VLAN "+wanted.String(), "no VLAN "+missing.String()
			if len(missing.Minus(bare)) == 0 {
				f.got = fmt.Sprintf("VLAN %s leaves without a tag, and comes back into another", missing)
			}
			f.fix = n.uplinkVLANFix(device, *carried, missing)
			return f
		}
	}
	want := cmp.Or(n.Want.MTU, min(n.link.mtu, defaultMTU))
	if l, there := n.host[device]; there && l.mtu < want {
		f.code, f.want, f.evidence = CodeMTUMismatch, fmt.Sprintf("MTU %d", want), []string{n.mtuEvidence()}
		return f.device(f.subject, device, l.mtu, want)
	}
	return pass(evidence)
}

func (n *nic) uplinkVLANFix(device string, have vnet.VLANSet, missing vnet.VLANRanges) string {
	switch {
	case n.sw.Bridge.Owned:
		return "virt-vnet repair " + quoted(n.guest.Name)
	case n.sw.Driver == vnet.DriverLinux:
		return fmt.Sprintf("bridge vlan add dev %s vid %s", device, missing[0])
	case have.IsTrunk():
		all := slices.Concat(have.Trunk, missing).Normal()
		return fmt.Sprintf("ovs-vsctl set port %s trunks=%s", device, all)
	}
	return fmt.Sprintf("ovs-vsctl clear port %s tag trunks vlan_mode", device)
}

// switchResults are the switches that the selected NICs are on, by name.
func (r *run) switchResults() []SwitchResult {
	var results []SwitchResult
	seen := map[*Switch]bool{}
	for _, n := range r.nics {
		if n.selected && n.sw != nil && !seen[n.sw] {
			seen[n.sw] = true
			results = append(results, n.sw.result(r.host))
		}
	}
	slices.SortFunc(results, func(a, b SwitchResult) int { return cmp.Compare(a.Name, b.Name) })
	return results
}

func (s *Switch) result(host links) SwitchResult {
	result := SwitchResult{Name: s.Name, Driver: s.Driver, Uplink: s.Uplink, Up: s.Err == nil && s.fault(host) == nil}
	if s.UplinkPort != nil {
		got, _ := s.uplinkDown(host)
		result.UplinkUp = result.Up && got == "" && slices.Contains([]string{"", stateForwarding}, s.UplinkPort.Forwarding.State)
	}
	return result
}

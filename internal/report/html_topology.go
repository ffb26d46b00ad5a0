// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/verify"
)

// guestsUpTo is how many guests are drawn one by one; of more, those that look
// the same are one.
const guestsUpTo = 40

// networksUpTo is how many networks are drawn one by one.
const networksUpTo = 40

// The layout: columns from left to right, and rows of ports.
const (
	guestX, guestWidth   = 10.0, 190.0
	portX, portWidth     = 240.0, 120.0
	switchX, switchWidth = 470.0, 230.0
	uplinkX, uplinkWidth = 760.0, 120.0
	fabricX, fabricWidth = 950.0, 120.0
	drawWidth            = 1080.0

	rowHeight  = 30.0
	rowGap     = 8.0
	headHeight = 34.0
	laneHeight = 28.0
	blockGap   = 20.0
	topMargin  = 34.0
	// charWidth is more than what a character of 12 pixels takes on average.
	charWidth = 7.2
)

// drawing is the topology as shapes with their places, and what it says in
// words.
type drawing struct {
	Width, Height float64
	Heads         []drawnHead
	Guests        []drawnGuest
	Switches      []*drawnSwitch
	Edges         []drawnEdge
	// Fabric is where what leaves the host goes, or nil.
	Fabric *drawnBox
	Says   string
}

// drawnHead names a column.
type drawnHead struct {
	X    float64
	Text string
}

// drawnBox is a place with a text that fits into it.
type drawnBox struct {
	X, Y, Width, Height float64
	Mark                pageMark
	Text, Note, Says    string
}

// Middle is the y of the box's middle.
func (b drawnBox) Middle() float64 { return b.Y + b.Height/2 }

// Right is the x of its right edge.
func (b drawnBox) Right() float64 { return b.X + b.Width }

// drawnGuest is a guest, or several that look the same, with its ports.
type drawnGuest struct {
	drawnBox

	Ports []drawnBox
}

// drawnSwitch is a switch, or a device with macvtaps on it, with its networks.
type drawnSwitch struct {
	drawnBox

	Lanes  []*drawnLane
	Uplink *drawnBox

	// direct is whether the device leads to the fabric itself.
	direct bool
	plugs  []float64
	// beyond is the first rung that a NIC stops at beyond the switch.
	beyond verify.Rung
}

// drawnLane is a network on a switch.
type drawnLane struct {
	drawnBox

	name, vlan string
	status     verify.Status
}

// drawnEdge is a connection, and in its middle the mark of what is wrong there.
type drawnEdge struct {
	Path   string
	Mark   pageMark
	X, Y   float64
	Broken bool
	Says   string
}

// station is how a guest looks, and the guests that look like that: nics has
// the like NICs of all of them.
type station struct {
	names []string
	nics  [][]verify.NICResult
}

// draw lays the topology out from left to right, with what hangs on the same
// switch next to each other.
func draw(r verify.Report) drawing {
	d := &drafter{known: r.Switches, switches: map[string]*drawnSwitch{}, lane: laneNames(r)}
	d.Width, d.Height = drawWidth, topMargin
	for _, st := range stations(r, d.lane) {
		d.addStation(st)
	}
	d.placeSwitches()
	d.addFabric()
	for _, e := range d.plugs {
		d.Edges = append(d.Edges, e.edge())
	}
	d.Heads = []drawnHead{{guestX, "Guests"}, {portX, "Ports"}, {switchX, "Switches and networks"}}
	if d.Fabric != nil {
		d.Heads = append(d.Heads, drawnHead{uplinkX, "Uplinks"}, drawnHead{fabricX, "Beyond the host"})
	} else {
		d.Width = switchX + switchWidth + guestX
	}
	status := tallyStatus(r.NICs, drawnStatus)
	d.Says = fmt.Sprintf("%s of %s on %s; %s. The table of NICs says the same in words.", count(len(r.NICs), "NIC"),
		count(countGuests(r), "guest"), brief(d.switchNames(), 12), cmp.Or(notFine(status), "all are fine"))
	return d.drawing
}

func countGuests(r verify.Report) int {
	names := map[string]bool{}
	for _, n := range r.NICs {
		names[n.Guest] = true
	}
	return len(names)
}

// drafter is a drawing in the making.
type drafter struct {
	drawing

	known    []verify.SwitchResult
	switches map[string]*drawnSwitch
	lane     func(verify.NICResult) string
	plugs    []plug
}

// plug is a port's connection to its lane, which has no place yet.
type plug struct {
	port drawnBox
	lane *drawnLane
	nic  verify.NICResult
	// mark is whether what is wrong with the NIC is wrong here.
	mark bool
}

func (d *drafter) switchNames() []string {
	var names []string
	for _, sw := range d.Switches {
		names = append(names, sw.Says)
	}
	return names
}

// laneNames returns what networks are called in the drawing: where there are
// very many, those of one switch are one lane.
func laneNames(r verify.Report) func(verify.NICResult) string {
	bySwitch := map[string]map[string]bool{}
	total := map[string]bool{}
	for _, n := range r.NICs {
		key := switchKey(n)
		if bySwitch[key] == nil {
			bySwitch[key] = map[string]bool{}
		}
		bySwitch[key][n.Network], total[n.Network] = true, true
	}
	return func(n verify.NICResult) string {
		if lanes := len(bySwitch[switchKey(n)]); lanes > 1 && len(total) > networksUpTo {
			return count(lanes, "network")
		}
		return n.Network
	}
}

// switchKey tells apart what NICs are plugged into, in the order of drawing.
func switchKey(n verify.NICResult) string {
	if n.Switch != "" {
		return "1 " + n.Switch
	}
	return "2 " + n.Lower
}

// stations brings together the NICs of each guest and, when there are many,
// guests that look the same.
func stations(r verify.Report, lane func(verify.NICResult) string) []station {
	byGuest := map[string][]verify.NICResult{}
	for _, n := range r.NICs {
		byGuest[n.Guest] = append(byGuest[n.Guest], n)
	}
	index := map[string]int{}
	var list []station
	for _, name := range slices.Sorted(maps.Keys(byGuest)) {
		nics := byGuest[name]
		slices.SortStableFunc(nics, compareDrawn)
		look := name
		if len(byGuest) > guestsUpTo {
			look = ""
			for _, n := range nics {
				look += fmt.Sprintf("%q %q %s %s ", switchKey(n), lane(n), drawnStatus(n), stop(n).Name)
			}
		}
		i, ok := index[look]
		if !ok {
			i = len(list)
			index[look] = i
			list = append(list, station{nics: make([][]verify.NICResult, len(nics))})
		}
		list[i].names = append(list[i].names, name)
		for k, n := range nics {
			list[i].nics[k] = append(list[i].nics[k], n)
		}
	}
	slices.SortStableFunc(list, func(a, b station) int { return compareDrawn(a.nics[0][0], b.nics[0][0]) })
	return list
}

func compareDrawn(a, b verify.NICResult) int {
	return cmp.Or(cmp.Compare(switchKey(a), switchKey(b)), cmp.Compare(a.Network, b.Network),
		cmp.Compare(badness(drawnStatus(b)), badness(drawnStatus(a))))
}

// addStation draws a guest below those that are there, with its ports.
func (d *drafter) addStation(st station) {
	g := drawnGuest{drawnBox: drawnBox{
		X: guestX, Y: d.Height, Width: guestWidth, Height: float64(len(st.nics))*rowHeight - 4,
		Text: fit(st.names[0], guestWidth-34), Says: st.names[0],
	}}
	if n := len(st.names); n > 1 {
		g.Text = fit(fmt.Sprintf("%d guests: %s, …", n, st.names[0]), guestWidth-34)
		g.Says = count(n, "guest") + ": " + brief(st.names, 40)
	}
	status := verify.StatusPass
	for i, same := range st.nics {
		status = worseStatus(status, drawnStatus(same[0]))
		port := drawnBox{
			X: portX, Y: g.Y + float64(i)*rowHeight, Width: portWidth, Height: rowHeight - 4,
			Mark: markOf(drawnStatus(same[0])), Text: fit(portName(same[0]), portWidth-30), Says: portSays(same[0]),
		}
		if len(same) > 1 {
			port.Text = count(len(same), "port")
			port.Says = fmt.Sprintf("%s like %s", port.Text, port.Says)
		}
		g.Ports = append(g.Ports, port)
		d.plugIn(g.drawnBox, port, same[0])
	}
	g.Mark = markOf(status)
	d.Guests = append(d.Guests, g)
	d.Height = g.Y + g.Height + rowGap
}

// drawnStatus is what a NIC is drawn as.
func drawnStatus(n verify.NICResult) verify.Status { return counted(n.Status, n.Waived) }

func worseStatus(a, b verify.Status) verify.Status {
	if badness(b) > badness(a) {
		return b
	}
	return a
}

func portName(n verify.NICResult) string {
	name := cmp.Or(n.Device, n.MAC.String(), "no device")
	if n.Host != "" {
		name += " on " + n.Host
	}
	return name
}

func portSays(n verify.NICResult) string {
	text := fmt.Sprintf("%s of %s in network %s: %s", portName(n), n.Guest, n.Network, markOf(drawnStatus(n)).Word)
	if at := stop(n).Name; at != "" {
		text += " at " + string(at)
	}
	return text
}

// plugIn connects a guest to its port, and the port to its network. What is
// wrong is marked where it is: in the guest, at the port, or beyond the switch.
func (d *drafter) plugIn(guest, port drawnBox, n verify.NICResult) {
	sw := d.switches[switchKey(n)]
	if sw == nil {
		sw = newDrawnSwitch(n, d.known)
		d.switches[switchKey(n)] = sw
		d.Switches = append(d.Switches, sw)
	}
	inGuest, atPort := false, false
	switch at := stop(n); at.Name {
	case "":
	case verify.RungUplink, verify.RungGateway, verify.RungPathMTU:
		at.Status = counted(at.Status, n.Waived)
		if atPort = !sw.direct && sw.Uplink == nil; !atPort && badness(at.Status) > badness(sw.beyond.Status) {
			sw.beyond = at
		}
	case verify.RungDomain, verify.RungNIC, verify.RungAddress, verify.RungARP, verify.RungND, verify.RungICMP:
		inGuest = true
	default:
		atPort = true
	}
	edge := line(guest.Right(), port.Middle(), port.X, port.Middle())
	d.Edges = append(d.Edges, edge.broken(inGuest, drawnStatus(n), port.Says))
	sw.plugs = append(sw.plugs, port.Middle())
	d.plugs = append(d.plugs, plug{port, sw.laneOf(d.lane(n), n), n, atPort})
}

func newDrawnSwitch(n verify.NICResult, known []verify.SwitchResult) *drawnSwitch {
	sw := &drawnSwitch{drawnBox: drawnBox{X: switchX, Width: switchWidth, Mark: markOf(verify.StatusNotReached)}}
	i := slices.IndexFunc(known, func(s verify.SwitchResult) bool { return s.Name == n.Switch })
	switch {
	case n.Switch == "" && n.Lower == "":
		sw.Text, sw.Says = "no switch known", "no known switch"
	case n.Switch == "":
		sw.Text, sw.Note, sw.Says = fit(n.Lower, switchWidth-100), "macvtap", "device "+n.Lower
		sw.direct = true
	case i < 0:
		sw.Text, sw.Says = fit(n.Switch, switchWidth-30), "switch "+n.Switch
	default:
		found := known[i]
		sw.Text, sw.Note = fit(found.Name, switchWidth-80), found.Driver.String()
		sw.Mark, sw.Says = upOrDown(found.Up, "switch "+found.Name)
		if found.Uplink != "" {
			sw.Uplink = &drawnBox{X: uplinkX, Width: uplinkWidth, Height: headHeight, Text: fit(found.Uplink, uplinkWidth-44)}
			sw.Uplink.Mark, sw.Uplink.Says = upOrDown(found.UplinkUp, "uplink "+found.Uplink)
		}
	}
	return sw
}

func upOrDown(up bool, what string) (mark pageMark, says string) {
	if up {
		return markOf(verify.StatusPass), what
	}
	return markOf(verify.StatusFail), what + " (down)"
}

// laneOf returns the lane of that name, with the NIC counted in.
func (sw *drawnSwitch) laneOf(name string, n verify.NICResult) *drawnLane {
	i := slices.IndexFunc(sw.Lanes, func(l *drawnLane) bool { return l.name == name })
	if i < 0 {
		i = len(sw.Lanes)
		sw.Lanes = append(sw.Lanes, &drawnLane{name: name, vlan: n.VLAN, status: drawnStatus(n), drawnBox: drawnBox{
			X: switchX + 10, Width: switchWidth - 20, Height: laneHeight - 5,
		}})
	}
	l := sw.Lanes[i]
	l.status = worseStatus(l.status, drawnStatus(n))
	l.Mark = markOf(l.status)
	if l.vlan != n.VLAN {
		l.vlan = "several VLANs"
	}
	l.Note = fit(l.vlan, 100)
	l.Text = fit(name, l.Width-44-charWidth*float64(len(l.Note)))
	l.Says = strings.TrimSuffix("network "+name+", "+l.vlan, ", ") + ": " + l.Mark.Word
	return l
}

// placeSwitches puts each switch as near to its ports as those above it let it.
func (d *drafter) placeSwitches() {
	middle := func(sw *drawnSwitch) float64 { return (slices.Min(sw.plugs) + slices.Max(sw.plugs)) / 2 }
	slices.SortStableFunc(d.Switches, func(a, b *drawnSwitch) int { return cmp.Compare(middle(a), middle(b)) })
	bottom := topMargin
	for _, sw := range d.Switches {
		sw.Height = headHeight + laneHeight*float64(len(sw.Lanes)) + 4
		sw.Y = max(bottom, middle(sw)-sw.Height/2)
		bottom = sw.Y + sw.Height + blockGap
		for i, l := range sw.Lanes {
			l.Y = sw.Y + headHeight + laneHeight*float64(i)
		}
		if sw.Uplink != nil {
			sw.Uplink.Y = sw.Middle() - sw.Uplink.Height/2
		}
	}
	d.Height = max(d.Height, bottom)
}

// addFabric connects what leads out of the host.
func (d *drafter) addFabric() {
	var out []float64
	for _, sw := range d.Switches {
		if sw.direct || sw.Uplink != nil {
			out = append(out, sw.Middle())
		}
	}
	if len(out) == 0 {
		return
	}
	const height = 80
	middle := max((slices.Min(out)+slices.Max(out))/2, topMargin+height/2)
	d.Fabric = &drawnBox{
		X: fabricX, Y: middle - height/2, Width: fabricWidth, Height: height,
		Text: "fabric", Says: "what is beyond the host's uplinks",
	}
	d.Height = max(d.Height, d.Fabric.Y+height+rowGap)
	for _, sw := range d.Switches {
		broken := sw.beyond.Name != ""
		says := fmt.Sprintf("%s at %s", markOf(sw.beyond.Status).Word, sw.beyond.Name)
		switch {
		case sw.direct:
			edge := line(sw.Right(), sw.Middle(), fabricX, middle)
			d.Edges = append(d.Edges, edge.broken(broken, sw.beyond.Status, says))
		case sw.Uplink != nil:
			far := broken && sw.beyond.Name != verify.RungUplink
			toUplink := line(sw.Right(), sw.Middle(), uplinkX, sw.Uplink.Middle())
			toFabric := line(sw.Uplink.Right(), sw.Uplink.Middle(), fabricX, middle)
			d.Edges = append(d.Edges, toUplink.broken(broken && !far, sw.beyond.Status, says), toFabric.broken(far, sw.beyond.Status, says))
		}
	}
}

// edge draws the plug, now that its lane has a place.
func (p plug) edge() drawnEdge {
	e := line(p.port.Right(), p.port.Middle(), p.lane.X, p.lane.Middle())
	return e.broken(p.mark, drawnStatus(p.nic), p.port.Says)
}

// line is a curve from one place to another on its right.
func line(x1, y1, x2, y2 float64) drawnEdge {
	middle := (x1 + x2) / 2
	return drawnEdge{
		Path: fmt.Sprintf("M%.0f %.0fC%.0f %.0f %.0f %.0f %.0f %.0f", x1, y1, middle, y1, middle, y2, x2, y2),
		X:    middle, Y: (y1 + y2) / 2, Mark: markOf(verify.StatusPass),
	}
}

func (e drawnEdge) broken(here bool, status verify.Status, says string) drawnEdge {
	if here {
		e.Broken, e.Mark, e.Says = true, markOf(status), says
	}
	return e
}

// fit cuts text to a width, in units of the drawing.
func fit(text string, width float64) string {
	runes := []rune(text)
	if most := int(width / charWidth); len(runes) > most {
		return string(runes[:max(most-1, 1)]) + "…"
	}
	return text
}

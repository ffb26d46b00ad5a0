// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import "fmt"

// TreePort is how a device on an Open vSwitch bridge takes part in its spanning
// tree, of either kind (ovs-vswitchd.conf.db(5), Port table). Zero values are the
// defaults of Open vSwitch.
type TreePort struct {
	Device string `json:"device"`
	// Out keeps it out of the tree: it forwards, whatever it hears.
	Out bool `json:"out,omitempty"`
	// PathCost is what the way over it costs. Priority is 0 to 240 in steps of 16;
	// the lowest is preferred.
	PathCost int           `json:"pathCost,omitempty"`
	Priority Optional[int] `json:"priority,omitzero"`
	// Edge says that there is no bridge behind it, and AutoEdge whether RSTP finds
	// that out by itself.
	Edge     bool   `json:"edge,omitempty"`
	AutoEdge Toggle `json:"autoEdge,omitempty"`
}

// String returns such as "path cost 2000, edge".
func (p TreePort) String() string {
	text := exportWords([]setting{
		{"out", "", p.Out},
		{"path cost", p.PathCost, p.PathCost != 0},
		{"priority", p.Priority.Value, p.Priority.Given},
		{"edge", "", p.Edge},
		{"auto edge", p.AutoEdge, p.AutoEdge != ToggleLeave},
	})
	if text == "" {
		return "default"
	}
	return text
}

// treePorts checks how devices take part in a spanning tree.
func (o object) treePorts(s Switch) {
	if len(s.TreePorts) > 0 && s.Driver != DriverOVS && s.Driver != 0 {
		o.conflict("stp_ports", "stp_ports with driver: "+s.Driver.String(), "driver: ovs")
	}
	for _, p := range s.TreePorts {
		port := object{o.v, o.subject + ", port " + p.Device, o.path + ".stp_ports." + p.Device}
		port.device("name", p.Device)
		if p.PathCost < 0 || p.PathCost > 200000000 {
			port.value("path_cost", fmt.Sprintf("path_cost: %d", p.PathCost), "1 to 200000000")
		}
		if n := p.Priority.Value; n < 0 || n > 240 || n%16 != 0 {
			port.value("priority", fmt.Sprintf("priority: %d", n), "0 to 240 in steps of 16")
		}
		if p.Out && p != (TreePort{Device: p.Device, Out: true}) {
			port.conflict("stp", "stp: false with other settings", "one of them")
		}
	}
}

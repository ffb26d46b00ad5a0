// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// FlowExports is what an Open vSwitch bridge tells collectors of the frames that
// it forwards (ovs-vswitchd.conf.db(5), sFlow, NetFlow and IPFIX tables). One
// without targets is none. Zero values are the defaults of Open vSwitch.
type FlowExports struct {
	SFlow   SFlow   `json:"sflow,omitzero"`
	NetFlow NetFlow `json:"netflow,omitzero"`
	IPFIX   IPFIX   `json:"ipfix,omitzero"`
}

// IsZero reports whether nothing is exported.
func (f FlowExports) IsZero() bool {
	return len(f.SFlow.Targets)+len(f.NetFlow.Targets)+len(f.IPFIX.Targets) == 0
}

// Sorted is the same with the targets in order.
func (f FlowExports) Sorted() FlowExports {
	for _, targets := range []*[]netip.AddrPort{&f.SFlow.Targets, &f.NetFlow.Targets, &f.IPFIX.Targets} {
		*targets = slices.SortedFunc(slices.Values(*targets), netip.AddrPort.Compare)
	}
	return f
}

// SFlow is samples of frames and counters of ports (sFlow version 5).
type SFlow struct {
	Targets []netip.AddrPort `json:"targets,omitempty"`
	// Agent is the address that the samples come from, or a device with it.
	Agent string `json:"agent,omitempty"`
	// Header is how many bytes of a frame are told, Sampling of how many frames
	// one is, and Polling how often counters are, in whole seconds.
	Header   int           `json:"header,omitempty"`
	Sampling int           `json:"sampling,omitempty"`
	Polling  time.Duration `json:"polling,omitempty"`
}

// NetFlow is records of flows (NetFlow version 5).
type NetFlow struct {
	Targets []netip.AddrPort `json:"targets,omitempty"`
	// ActiveTimeout is how often a flow that goes on is told, in whole seconds.
	ActiveTimeout time.Duration `json:"activeTimeout,omitempty"`
	// EngineType and EngineID are told in each record. AddID puts them into the
	// numbers of interfaces, too, which tells bridges apart.
	EngineType Optional[int] `json:"engineType,omitzero"`
	EngineID   Optional[int] `json:"engineID,omitzero"`
	AddID      bool          `json:"addID,omitempty"`
}

// IPFIX is records of sampled frames (RFC 7011).
type IPFIX struct {
	Targets []netip.AddrPort `json:"targets,omitempty"`
	// Sampling is of how many frames one is told.
	Sampling int `json:"sampling,omitempty"`
	// Domain and Point are the observation domain and point of the records.
	Domain Optional[int] `json:"domain,omitzero"`
	Point  Optional[int] `json:"point,omitzero"`
	// ActiveTimeout is how long records of a flow are gathered before they are
	// told, in whole seconds up to 4200, and MaxFlows of how many flows at once.
	// With neither every sampled frame is told at once.
	ActiveTimeout Optional[time.Duration] `json:"activeTimeout,omitzero"`
	MaxFlows      Optional[int]           `json:"maxFlows,omitzero"`
}

// String returns such as "to 192.0.2.9:6343, sampling 64", or "none".
func (s SFlow) String() string {
	return exportText(s.Targets, []setting{
		{"agent", s.Agent, s.Agent != ""},
		{"header", s.Header, s.Header != 0},
		{"sampling", s.Sampling, s.Sampling != 0},
		{"polling", s.Polling, s.Polling != 0},
	})
}

// String returns such as "to 192.0.2.9:2055, active timeout 1m0s", or "none".
func (n NetFlow) String() string {
	return exportText(n.Targets, []setting{
		{"active timeout", n.ActiveTimeout, n.ActiveTimeout != 0},
		{"engine type", n.EngineType.Value, n.EngineType.Given},
		{"engine ID", n.EngineID.Value, n.EngineID.Given},
		{"ID in interfaces", n.AddID, n.AddID},
	})
}

// String returns such as "to 192.0.2.9:4739, sampling 64, domain 7", or "none".
func (i IPFIX) String() string {
	return exportText(i.Targets, []setting{
		{"sampling", i.Sampling, i.Sampling != 0},
		{"domain", i.Domain.Value, i.Domain.Given},
		{"point", i.Point.Value, i.Point.Given},
		{"active timeout", i.ActiveTimeout.Value, i.ActiveTimeout.Given},
		{"max flows", i.MaxFlows.Value, i.MaxFlows.Given},
	})
}

// setting is one that is said only when it is given.
type setting struct {
	name  string
	value any
	given bool
}

func exportText(targets []netip.AddrPort, settings []setting) string {
	if len(targets) == 0 {
		return "none"
	}
	words := make([]string, len(targets))
	for i, target := range targets {
		words[i] = target.String()
	}
	text := "to " + strings.Join(words, " ")
	if more := exportWords(settings); more != "" {
		text += ", " + more
	}
	return text
}

// exportWords are the settings that are given.
func exportWords(settings []setting) string {
	var words []string
	for _, s := range settings {
		if s.given {
			words = append(words, strings.TrimSpace(fmt.Sprintf("%s %v", s.name, s.value)))
		}
	}
	return strings.Join(words, ", ")
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Expectation is one thing that a user expects of the network, beyond what the
// rest of the spec says. It has exactly one of Reach, Deny, TCP, DNS and To.
type Expectation struct {
	// From is who is made to send: a guest, one NIC of it, or every guest of a
	// network.
	From Party `json:"from,omitzero"`
	// Reach answers ICMP echo.
	Reach Party `json:"reach,omitzero"`
	// Deny is reached by no frame.
	Deny Party `json:"deny,omitzero"`
	// TCP accepts connections.
	TCP Service `json:"tcp,omitzero"`
	// DNS is a name of which Server knows an address. A zero Server is the
	// gateway of the network.
	DNS    string `json:"dns,omitempty"`
	Server Party  `json:"server,omitzero"`
	// To answers ICMP echo in less than Latency, in the median, and all but
	// less than Loss of them; at least one of the two is not zero.
	To      Party         `json:"to,omitzero"`
	Latency time.Duration `json:"latency,omitempty"`
	Loss    float64       `json:"loss,omitempty"` // 0.01 is one in a hundred
	// Where is the file and line that it comes from, for people.
	Where string `json:"where,omitempty"`
}

// String returns the expectation on one line, such as "web1 tcp db1:5432".
func (e Expectation) String() string {
	text := e.From.String()
	switch {
	case !e.Reach.IsZero():
		return text + " reach " + e.Reach.String()
	case !e.Deny.IsZero():
		return text + " deny " + e.Deny.String()
	case !e.TCP.IsZero():
		return text + " tcp " + e.TCP.String()
	case e.DNS != "":
		text += " dns " + e.DNS
		if !e.Server.IsZero() {
			text += " server " + e.Server.String()
		}
		return text
	}
	text += " to " + e.To.String()
	if e.Latency != 0 {
		text += " latency <" + e.Latency.String()
	}
	if e.Loss != 0 {
		text += " loss <" + Percent(e.Loss)
	}
	return text
}

// Percent returns 0.015 as "1.5%".
func Percent(fraction float64) string { return fmt.Sprintf("%.4g%%", fraction*100) }

// Party is an end of an expectation: exactly one of a guest, a network, an
// address, a host and the gateway. The zero Party is none.
type Party struct {
	// Guest is a guest of the spec, and Network then narrows it to its NICs in
	// one network. Network alone is every guest in it.
	Guest   string `json:"guest,omitempty"`
	Network string `json:"network,omitempty"`
	// Addr is anything that has this address.
	Addr netip.Addr `json:"addr,omitzero"`
	// Host is a DNS name.
	Host string `json:"host,omitempty"`
	// Gateway is the gateway of the network that is sent from.
	Gateway bool `json:"gateway,omitempty"`
}

const (
	networkPrefix = "network "
	gatewayWord   = "gateway"
)

// IsZero reports whether p is none.
func (p Party) IsZero() bool { return p == Party{} }

// String returns p as the spec writes it: "web1", "web1/red", "network red",
// "10.0.20.1", "www.example.org" or "gateway".
func (p Party) String() string {
	switch {
	case p.Gateway:
		return gatewayWord
	case p.Addr.IsValid():
		return p.Addr.String()
	case p.Host != "":
		return p.Host
	case p.Guest == "":
		return networkPrefix + p.Network
	case p.Network != "":
		return p.Guest + "/" + p.Network
	}
	return p.Guest
}

// Party reads what the spec calls an end by. A name with dots that no guest has
// is a DNS name; whether other names exist is for [Topology.Validate] to say.
func (t *Topology) Party(text string) Party {
	if addr, err := netip.ParseAddr(text); err == nil {
		return Party{Addr: addr.Unmap()}
	}
	if _, ok := t.Guest(text); ok {
		return Party{Guest: text}
	}
	if network, ok := strings.CutPrefix(text, networkPrefix); ok {
		return Party{Network: strings.TrimSpace(network)}
	}
	if text == gatewayWord {
		return Party{Gateway: true}
	}
	if guest, network, ok := strings.Cut(text, "/"); ok {
		return Party{Guest: guest, Network: network}
	}
	if strings.Contains(text, ".") {
		return Party{Host: text}
	}
	return Party{Guest: text}
}

// Service is a TCP port of somebody.
type Service struct {
	Party

	Port uint16 `json:"port"`
}

// IsZero reports whether s is none.
func (s Service) IsZero() bool { return s == Service{} }

// String returns "db1:5432" or "[2001:db8::1]:443".
func (s Service) String() string {
	if s.Addr.Is6() {
		return fmt.Sprintf("[%s]:%d", s.Addr, s.Port)
	}
	return fmt.Sprintf("%s:%d", s.Party, s.Port)
}

// Waiver is somebody's word that a problem is known. It covers the problems
// that have its Code and concern its Guest and Network; an empty field covers
// all, and at least one is not empty.
type Waiver struct {
	Code    string `json:"code,omitempty"`
	Guest   string `json:"guest,omitempty"`
	Network string `json:"network,omitempty"`
	// Owner is who answers for it, and Until the last day that it holds: its
	// first moment, in the host's time zone.
	Owner  string    `json:"owner"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
	// Where is the file and line that it comes from, for people.
	Where string `json:"where,omitempty"`
}

// Expired reports whether the last day of w is over.
func (w Waiver) Expired(now time.Time) bool { return !now.Before(w.Until.AddDate(0, 0, 1)) }

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"encoding"
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// The types of this file mirror the YAML. Field order is the order in which
// Encode writes them; the jsonschema tags are the schema's descriptions.

type rawSpec struct {
	Version  int                   `yaml:"version,omitempty" json:"version,omitempty" jsonschema:"format of this file: 1"`
	Switches map[string]rawSwitch  `yaml:"switches,omitempty" json:"switches,omitempty" jsonschema:"bridges of the host that guests plug into, by name"`
	Networks map[string]rawNetwork `yaml:"networks,omitempty" json:"networks,omitempty" jsonschema:"networks by name; each is one libvirt network"`
	Guests   map[string]rawGuest   `yaml:"guests,omitempty" json:"guests,omitempty" jsonschema:"what is expected of guests, by libvirt domain name; guests not listed are wired all the same"`
}

type rawSwitch struct {
	Driver scalar[vnet.Driver] `yaml:"driver,omitempty" json:"driver" jsonschema:"linux for a Linux bridge, ovs for Open vSwitch"`
	Uplink string              `yaml:"uplink,omitempty" json:"uplink,omitempty" jsonschema:"host device on this switch that leads to the fabric"`
}

type rawPolicy struct {
	VLAN         scalar[vnet.VLANID]     `yaml:"vlan,omitempty" json:"vlan,omitempty" jsonschema:"access VLAN, 1 to 4094"`
	Trunk        scalar[vnet.VLANRanges] `yaml:"trunk,omitempty" json:"trunk,omitempty" jsonschema:"tagged VLANs of a trunk, such as 10,20-29, or all"`
	Native       scalar[vnet.VLANID]     `yaml:"native,omitempty" json:"native,omitempty" jsonschema:"VLAN of a trunk's untagged frames"`
	NativeTagged scalar[bool]            `yaml:"native_tagged,omitempty" json:"native_tagged,omitempty" jsonschema:"send frames of the native VLAN with a tag, too"`
	Isolated     scalar[bool]            `yaml:"isolated,omitempty" json:"isolated,omitempty" jsonschema:"keep the port from other isolated ports of the switch"`
	Learning     scalar[bool]            `yaml:"learning,omitempty" json:"learning,omitempty" jsonschema:"learn MAC addresses on the port (Linux bridge)"`
	Flood        scalar[bool]            `yaml:"flood,omitempty" json:"flood,omitempty" jsonschema:"send frames to unknown MAC addresses out of the port (Linux bridge)"`
	BPDUGuard    scalar[bool]            `yaml:"bpdu_guard,omitempty" json:"bpdu_guard,omitempty" jsonschema:"take the port down when the guest sends spanning tree frames (Linux bridge, default true)"`
}

type rawNetwork struct {
	Mode       scalar[vnet.Mode]        `yaml:"mode,omitempty" json:"mode,omitempty" jsonschema:"bridge (default with switch), macvtap (default with device), nat or isolated"`
	Switch     string                   `yaml:"switch,omitempty" json:"switch,omitempty" jsonschema:"switch of a bridge network"`
	Device     string                   `yaml:"device,omitempty" json:"device,omitempty" jsonschema:"host device of a macvtap network"`
	Macvtap    scalar[vnet.MacvtapMode] `yaml:"macvtap,omitempty" json:"macvtap,omitempty" jsonschema:"how macvtaps on the device reach each other"`
	MTU        scalar[int]              `yaml:"mtu,omitempty" json:"mtu,omitempty" jsonschema:"MTU in bytes, 68 to 65535"`
	rawPolicy  `yaml:",inline"`
	Portgroups map[string]rawPortgroup    `yaml:"portgroups,omitempty" json:"portgroups,omitempty" jsonschema:"variations for some guests, by name; each replaces the network's VLANs and flags as a whole"`
	Subnet     scalar[netip.Prefix]       `yaml:"subnet,omitempty" json:"subnet,omitempty" jsonschema:"addresses that live here, such as 10.0.20.0/24"`
	Gateway    scalar[netip.Addr]         `yaml:"gateway,omitempty" json:"gateway,omitempty" jsonschema:"router of the subnet"`
	OnFailure  scalar[vnet.FailurePolicy] `yaml:"on_failure,omitempty" json:"on_failure,omitempty" jsonschema:"when the hook cannot wire a guest: refuse its start (default) or warn"`
}

type rawPortgroup struct {
	Default   scalar[bool] `yaml:"default,omitempty" json:"default,omitempty" jsonschema:"the portgroup of NICs that name none"`
	rawPolicy `yaml:",inline"`
}

type rawGuest struct {
	NICs []rawNIC `yaml:"nics,omitempty" json:"nics,omitempty"`
}

type rawNIC struct {
	Network   string             `yaml:"network,omitempty" json:"network"`
	Portgroup string             `yaml:"portgroup,omitempty" json:"portgroup,omitempty"`
	MAC       scalar[vnet.MAC]   `yaml:"mac,omitempty" json:"mac,omitempty" jsonschema:"such as 52:54:00:12:34:56"`
	Address   scalar[netip.Addr] `yaml:"address,omitempty" json:"address,omitempty" jsonschema:"IP address the guest is expected to answer at"`
	Model     scalar[vnet.Model] `yaml:"model,omitempty" json:"model,omitempty" jsonschema:"the NIC the guest sees; virtio by default"`
	Queues    scalar[int]        `yaml:"queues,omitempty" json:"queues,omitempty" jsonschema:"queue pairs of a virtio NIC"`
	RXRing    scalar[int]        `yaml:"rx_ring,omitempty" json:"rx_ring,omitempty" jsonschema:"receive ring of a virtio NIC in descriptors: 256, 512 or 1024"`
	TXRing    scalar[int]        `yaml:"tx_ring,omitempty" json:"tx_ring,omitempty" jsonschema:"transmit ring of a virtio NIC in descriptors: 256, 512 or 1024"`
}

// scalar is one value of the file, and whether it was given. Its errors carry
// the line, and do not keep the decoder from finding the next.
type scalar[T any] struct {
	value T
	given bool
}

func scalarOf[T any](v T, given bool) scalar[T] { return scalar[T]{v, given} }

// IsZero makes omitempty leave out what was not given.
func (s scalar[T]) IsZero() bool { return !s.given }

// UnmarshalYAML implements [yaml.Unmarshaler].
func (s *scalar[T]) UnmarshalYAML(node *yaml.Node) error {
	s.given = true
	if err := s.parse(node); err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", node.Line, err)}}
	}
	return nil
}

func (s *scalar[T]) parse(node *yaml.Node) error {
	if ranges, ok := any(&s.value).(*vnet.VLANRanges); ok {
		return parseRanges(node, ranges)
	}
	if node.Kind != yaml.ScalarNode {
		return fmt.Errorf("want a single value, got a %s", kindName(node.Kind))
	}
	switch value := any(&s.value).(type) {
	case *vnet.VLANID:
		var err error
		*value, err = vnet.ParseVLANID(node.Value)
		return err
	case *netip.Prefix:
		if err := value.UnmarshalText([]byte(node.Value)); err != nil || node.Value == "" {
			return fmt.Errorf("%q is no subnet: want one such as 10.0.20.0/24", node.Value)
		}
		return nil
	case *netip.Addr:
		if err := value.UnmarshalText([]byte(node.Value)); err != nil || node.Value == "" {
			return fmt.Errorf("%q is no IP address: want one such as 10.0.20.11", node.Value)
		}
		return nil
	case encoding.TextUnmarshaler:
		return value.UnmarshalText([]byte(node.Value))
	}
	if err := node.Decode(&s.value); err != nil {
		return fmt.Errorf("%q is no %s", node.Value, plainName(s.value))
	}
	return nil
}

// parseRanges takes "10,20-29", 10 and [10, 20-29].
func parseRanges(node *yaml.Node, ranges *vnet.VLANRanges) error {
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	for _, item := range items {
		more, err := vnet.ParseVLANRanges(item.Value)
		if err != nil {
			return err
		}
		*ranges = append(*ranges, more...)
	}
	*ranges = ranges.Normal()
	return nil
}

// MarshalYAML implements [yaml.Marshaler].
func (s scalar[T]) MarshalYAML() (any, error) {
	switch value := any(s.value).(type) {
	case vnet.VLANRanges:
		return value.String(), nil
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		return string(text), err
	}
	return s.value, nil
}

func kindName(kind yaml.Kind) string {
	switch kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	default:
		return "document"
	}
}

func plainName(v any) string {
	switch v.(type) {
	case bool:
		return "yes-or-no value: want true or false"
	case int:
		return "whole number"
	}
	return fmt.Sprintf("%T", v)
}

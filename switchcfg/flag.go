// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg

import (
	"fmt"
	"iter"
	"strings"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Flag is a setting of a port that is on or off. The names and meanings are
// those of bridge(8), bridge link set.
type Flag int

// The flags.
const (
	FlagIsolated Flag = iota
	FlagLearning
	FlagFlood
	FlagMulticastFlood
	FlagBroadcastFlood
	FlagFastLeave
	FlagNeighSuppress
	FlagBPDUGuard
	FlagRootBlock
	flagCount
)

// flagTable has a row for each flag: its name towards people, what the spec
// calls it, its feature, and how a port is that nobody has set up.
var flagTable = [flagCount]struct {
	name, key string
	feature   Feature
	normal    vnet.Toggle
}{
	FlagIsolated:       {"isolated", "isolated", "isolated ports", vnet.ToggleOff},
	FlagLearning:       {"learning", "learning", "learning per port", vnet.ToggleOn},
	FlagFlood:          {"flood", "flood", "flood control per port", vnet.ToggleOn},
	FlagMulticastFlood: {"multicast flood", "mcast_flood", "multicast flood control per port", vnet.ToggleOn},
	FlagBroadcastFlood: {"broadcast flood", "bcast_flood", "broadcast flood control per port", vnet.ToggleOn},
	FlagFastLeave:      {"fast leave", "fast_leave", "multicast fast leave", vnet.ToggleOff},
	FlagNeighSuppress:  {"neighbour suppression", "neigh_suppress", "neighbour suppression", vnet.ToggleOff},
	FlagBPDUGuard:      {"bpdu guard", "bpdu_guard", "BPDU guard", vnet.ToggleOff},
	FlagRootBlock:      {"root block", "root_block", "root block", vnet.ToggleOff},
}

// AllFlags iterates over every flag.
func AllFlags() iter.Seq[Flag] {
	return func(yield func(Flag) bool) {
		for f := range flagCount {
			if !yield(f) {
				return
			}
		}
	}
}

// String returns the name, such as "bpdu guard".
func (f Flag) String() string { return flagTable[f].name }

// Feature is what a switch must be able to do for a port to have the flag.
func (f Flag) Feature() Feature { return flagTable[f].feature }

// Normal is the flag of a port that nobody has set up, and the behaviour of a
// switch without the flag.
func (f Flag) Normal() vnet.Toggle { return flagTable[f].normal }

// setting is the line of the spec that sets the flag.
func (f Flag) setting(t vnet.Toggle) string {
	return fmt.Sprintf("%s: %t", flagTable[f].key, t == vnet.ToggleOn)
}

// Flags is a toggle for each [Flag]. In a wanted state [vnet.ToggleLeave] leaves
// the flag alone; in an observed one the switch has no such flag.
type Flags [flagCount]vnet.Toggle

// MarshalText writes the flags that are on or off, such as "isolated=on flood=off".
// Records have them so: a JSON object of them would take the hook longer to write
// than all the rest of a port.
func (fs Flags) MarshalText() ([]byte, error) {
	var text []byte
	for f := range AllFlags() {
		if fs[f] == vnet.ToggleLeave {
			continue
		}
		if len(text) > 0 {
			text = append(text, ' ')
		}
		text = append(append(text, flagTable[f].key...), '=')
		text = append(text, fs[f].String()...)
	}
	return text, nil
}

// UnmarshalText reads what [Flags.MarshalText] writes. Flags of another version
// of virt-vnet are left out.
func (fs *Flags) UnmarshalText(text []byte) error {
	*fs = Flags{}
	for word := range strings.FieldsSeq(string(text)) {
		key, value, _ := strings.Cut(word, "=")
		for f := range AllFlags() {
			if flagTable[f].key != key {
				continue
			}
			if err := fs[f].UnmarshalText([]byte(value)); err != nil {
				return fmt.Errorf("flag %s: %w", key, err)
			}
		}
	}
	return nil
}

// flagsOf are the flags that a policy asks for.
func flagsOf(p vnet.Policy) Flags {
	fs := Flags{
		FlagIsolated:       vnet.ToggleOf(p.Isolated),
		FlagLearning:       p.Learning,
		FlagFlood:          p.Flood,
		FlagMulticastFlood: p.MulticastFlood,
		FlagBroadcastFlood: p.BroadcastFlood,
		FlagFastLeave:      p.FastLeave,
		FlagNeighSuppress:  p.NeighSuppress,
		FlagBPDUGuard:      p.BPDUGuard,
		FlagRootBlock:      p.RootBlock,
	}
	if p.Profile == vnet.ProfileAppliance {
		// The machines behind it are many, and the switch must find them.
		for _, f := range []Flag{FlagLearning, FlagFlood} {
			if fs[f] == vnet.ToggleLeave {
				fs[f] = vnet.ToggleOn
			}
		}
	}
	return fs
}

// merge returns found with every flag of want that is not to be left alone. A
// switch without the flag behaves as normal, so wanting that changes nothing.
func (fs Flags) merge(want Flags) Flags {
	for f := range AllFlags() {
		if want[f] != vnet.ToggleLeave && (fs[f] != vnet.ToggleLeave || want[f] != f.Normal()) {
			fs[f] = want[f]
		}
	}
	return fs
}

// String returns the flags that are on or off, such as "isolated on, flood off".
func (fs Flags) String() string {
	var words []string
	for f := range AllFlags() {
		if fs[f] != vnet.ToggleLeave {
			words = append(words, f.String()+" "+fs[f].String())
		}
	}
	return strings.Join(words, ", ")
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// locate turns a problem of the topology into an error at the file and line of
// the setting it is about, or of the nearest thing around it.
func (s *Spec) locate(p vnet.Problem) *Error {
	best, depth := &Error{Text: p.String()}, -1
	for _, f := range s.files {
		line, found := f.line(s.pathIn(f, p.Field))
		if found > depth {
			best, depth = &Error{File: f.name, Line: line, Text: p.String()}, found
		}
	}
	return best
}

// pathIn is path as it is in f: the lists of several files are one in the
// topology, so that an item has another index there.
func (s *Spec) pathIn(f file, path string) string {
	list, rest, _ := strings.Cut(path, ".")
	var length func(file) int
	switch list {
	case "expect":
		length = func(f file) int { return len(f.raw.Expect) }
	case "waivers":
		length = func(f file) int { return len(f.raw.Waivers) }
	default:
		return path
	}
	text, rest, _ := strings.Cut(rest, ".")
	index, err := strconv.Atoi(text)
	if err != nil {
		return path
	}
	for _, before := range s.files {
		if before.name == f.name {
			break
		}
		index -= length(before)
	}
	return fmt.Sprintf("%s.%d.%s", list, index, rest)
}

// where is the place of an item of a list.
func (f file) where(list string, index int) string {
	line, _ := f.line(fmt.Sprintf("%s.%d", list, index))
	return Position{f.name, line}.String()
}

// Position is a place in a spec.
type Position struct {
	File string
	Line int
}

// String returns "FILE:LINE".
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Where returns the place where an object is declared: kind is "switches",
// "networks" or "guests".
func (s *Spec) Where(kind, name string) (Position, bool) {
	for _, f := range s.files {
		if line, depth := f.line(kind + "." + name); depth == 2 {
			return Position{f.name, line}, true
		}
	}
	return Position{}, false
}

// Alone reports whether the file that declares an object declares nothing else,
// so that the file can be replaced or removed with the object.
func (s *Spec) Alone(kind, name string) bool {
	for _, f := range s.files {
		if _, depth := f.line(kind + "." + name); depth == 2 {
			lists := len(f.raw.Expect) + len(f.raw.Waivers)
			lists += len(f.raw.Routers) + len(f.raw.AddressSets)
			return lists+len(f.raw.Switches)+len(f.raw.Networks)+len(f.raw.Guests) == 1
		}
	}
	return false
}

// at returns an error at path.
func (f file) at(path, text string) *Error {
	line, _ := f.line(path)
	return &Error{File: f.name, Line: line, Text: text}
}

// line returns the line of path, such as "networks.red.vlan", and how much of
// the path is in this file.
func (f file) line(path string) (line, depth int) {
	if len(f.root.Content) == 0 {
		return 0, 0
	}
	node, rest := f.root.Content[0], path
	for rest != "" {
		key, value := child(node, rest)
		if value == nil {
			return line, depth
		}
		line, node = key.Line, value
		depth++
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, keyText(key, rest)), ".")
	}
	return line, depth
}

// child finds the entry of node that path starts with. A name may have dots of
// its own, so the longest key wins.
func child(node *yaml.Node, path string) (key, value *yaml.Node) {
	if node.Kind == yaml.SequenceNode {
		index, _, _ := strings.Cut(path, ".")
		if i, err := strconv.Atoi(index); err == nil && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
		return nil, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		k := node.Content[i]
		if (path == k.Value || strings.HasPrefix(path, k.Value+".")) && (key == nil || len(k.Value) > len(key.Value)) {
			key, value = k, node.Content[i+1]
		}
	}
	return key, value
}

// keyText is the part of path that key stands for: the key of a mapping, or the
// index of a list's item.
func keyText(key *yaml.Node, path string) string {
	if key.Kind == yaml.ScalarNode && strings.HasPrefix(path, key.Value) {
		return key.Value
	}
	index, _, _ := strings.Cut(path, ".")
	return index
}

// twice is the error of an object that two files declare.
func twice(what, name string, first, second file) error {
	path := what + "." + name
	line, _ := first.line(path)
	return second.at(path, fmt.Sprintf("%s is declared in %s:%d already", strings.ReplaceAll(path, ".", " "), first.name, line))
}

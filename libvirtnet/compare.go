// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strings"
)

// NetworkDiff compares the definition that libvirt returns for a network with
// the one that is wanted, which [NetworkXML] wrote. It returns a line for
// every setting that must go ("- vlan/tag[10]") or come ("+ vlan/tag[20]"), or
// nothing when libvirt has what is wanted. What libvirt adds on its own is no
// difference; whatever else stands there is, so hand edits are seen.
//
// An error means that one of the two is no network definition.
func NetworkDiff(have, want string) ([]string, error) {
	h, err := parseTree([]byte(have), "network")
	if err != nil {
		return nil, err
	}
	w, err := parseTree([]byte(want), "network")
	if err != nil {
		return nil, err
	}
	ignoreIdentity(h)
	ignoreIdentity(w)
	ignoreCounters(h)
	ignoreForwardDev(h, w)
	ignoreOwnBridge(h, w)
	ignoreNATPorts(h, w)
	return diffLines(h.lines(), w.lines()), nil
}

// SameNetwork reports whether libvirt's definition have is what is wanted: see
// [NetworkDiff]. What cannot be read is not the same.
func SameNetwork(have, want string) bool {
	lines, err := NetworkDiff(have, want)
	return err == nil && len(lines) == 0
}

// ignoreIdentity takes out what identifies or describes a network and does not
// configure it, the metadata of others, and the record in ours.
func ignoreIdentity(t *tree) {
	t.drop("uuid", "title", "description")
	metadata := t.child("metadata")
	if metadata == nil {
		return
	}
	metadata.children = slices.DeleteFunc(metadata.children, func(c *tree) bool { return c.name.Space != Namespace })
	for _, c := range metadata.children {
		c.text = ""
	}
	if metadata.bare() {
		t.drop("metadata")
	}
}

// ignoreCounters takes out the number of guests, which the definition of an
// active network has.
func ignoreCounters(have *tree) {
	have.dropAttr("connections")
	if forward := have.child("forward"); forward != nil {
		for _, c := range forward.children {
			c.dropAttr("connections")
		}
	}
}

// ignoreForwardDev: libvirt repeats the first <interface> of a <forward> as its
// attribute dev.
func ignoreForwardDev(have, want *tree) {
	forward := have.child("forward")
	if want.child("forward").attr("dev") == "" && forward.attr("dev") == forward.child("interface").attr("dev") {
		forward.dropAttr("dev")
	}
}

// ignoreOwnBridge: libvirt names the bridge it makes, gives it a MAC address and
// writes down its defaults.
func ignoreOwnBridge(have, want *tree) {
	bridge := have.child("bridge")
	if bridge == nil || want.child("bridge") != nil {
		return
	}
	have.drop("mac")
	bridge.dropAttr("name")
	if bridge.attr("stp") == "on" {
		bridge.dropAttr("stp")
	}
	if bridge.attr("delay") == "0" {
		bridge.dropAttr("delay")
	}
	if bridge.bare() {
		have.drop("bridge")
	}
}

// ignoreNATPorts: libvirt writes down the ports that it masquerades with when
// nobody chose them.
func ignoreNATPorts(have, want *tree) {
	forward := have.child("forward")
	nat := forward.child("nat")
	port := nat.child("port")
	if port == nil || want.child("forward").child("nat").child("port") != nil {
		return
	}
	if port.attr("start") == "1024" && port.attr("end") == "65535" {
		nat.drop("port")
	}
	if nat.bare() {
		forward.drop("nat")
	}
}

// diffLines merges two sorted lists into what only one of them has.
func diffLines(have, want []string) []string {
	var diff []string
	for len(have) > 0 || len(want) > 0 {
		switch {
		case len(want) == 0 || len(have) > 0 && have[0] < want[0]:
			diff, have = append(diff, "- "+have[0]), have[1:]
		case len(have) == 0 || want[0] < have[0]:
			diff, want = append(diff, "+ "+want[0]), want[1:]
		default:
			have, want = have[1:], want[1:]
		}
	}
	return diff
}

// KeepIdentity returns the wanted definition with what a network must not lose
// when it is redefined: its UUID, its title and description, the name and MAC
// address of a bridge that libvirt made, and the metadata of others.
func KeepIdentity(have, want string) (string, error) {
	h, err := parseTree([]byte(have), "network")
	if err != nil {
		return "", err
	}
	w, err := parseTree([]byte(want), "network")
	if err != nil {
		return "", err
	}
	var kept, foreign bytes.Buffer
	for _, name := range []string{"uuid", "title", "description", "mac"} {
		if c := h.child(name); c != nil && w.child(name) == nil {
			kept.Write(c.raw)
		}
	}
	if name := h.child("bridge").attr("name"); name != "" && w.child("bridge") == nil && !onSwitch(w) {
		kept.WriteString(`<bridge name="`)
		if err := xml.EscapeText(&kept, []byte(name)); err != nil {
			return "", err
		}
		kept.WriteString(`"/>`)
	}
	if metadata := h.child("metadata"); metadata != nil {
		for _, c := range metadata.children {
			if c.name.Space != Namespace {
				foreign.Write(c.raw)
			}
		}
	}
	text := insertBefore(want, "</metadata>", foreign.String())
	return insertBefore(text, "</network>", kept.String()), nil
}

// onSwitch reports whether guests of a network plug into something that
// libvirt did not make.
func onSwitch(want *tree) bool {
	mode := want.child("forward").attr("mode")
	return mode != "" && mode != "nat"
}

// insertBefore puts text in front of the last end tag of that name.
func insertBefore(document, tag, text string) string {
	i := strings.LastIndex(document, tag)
	if i < 0 {
		return document
	}
	return document[:i] + text + document[i:]
}

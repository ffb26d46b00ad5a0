// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// maxDepth is more levels than any of libvirt's documents has.
const maxDepth = 64

// tree is an XML element as it stands. Definitions are compared as trees, not
// as structs, so that a setting that no struct of ours knows is seen too.
type tree struct {
	name     xml.Name
	attrs    []xml.Attr
	text     string
	raw      []byte // the element's own bytes, of what was parsed
	children []*tree
}

// parseTree reads the one element root of data.
func parseTree(data []byte, root string) (*tree, error) {
	if err := decode(data, root, &struct{}{}); err != nil {
		return nil, err
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	top := &tree{}
	open := []*tree{top}
	for len(top.children) == 0 || len(open) > 1 {
		offset := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return nil, syntaxError(data, root, err)
		}
		parent := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) > maxDepth {
				return nil, fmt.Errorf("%s XML: elements nested more than %d deep", root, maxDepth)
			}
			child := &tree{name: token.Name, attrs: token.Copy().Attr, raw: data[offset:]}
			parent.children = append(parent.children, child)
			open = append(open, child)
		case xml.CharData:
			parent.text += strings.TrimSpace(string(token))
		case xml.EndElement:
			parent.raw = parent.raw[:len(parent.raw)-len(data)+int(d.InputOffset())]
			open = open[:len(open)-1]
		}
	}
	return top.children[0], nil
}

// child returns the first child of that name, or nil.
func (t *tree) child(name string) *tree {
	if t == nil {
		return nil
	}
	if i := slices.IndexFunc(t.children, func(c *tree) bool { return c.name.Local == name }); i >= 0 {
		return t.children[i]
	}
	return nil
}

// drop removes the children of these names.
func (t *tree) drop(names ...string) {
	t.children = slices.DeleteFunc(t.children, func(c *tree) bool { return slices.Contains(names, c.name.Local) })
}

// attr returns an attribute's value, or "".
func (t *tree) attr(name string) string {
	if t == nil {
		return ""
	}
	for _, a := range t.attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// dropAttr removes the attributes of these names.
func (t *tree) dropAttr(names ...string) {
	if t != nil {
		t.attrs = slices.DeleteFunc(t.attrs, func(a xml.Attr) bool { return slices.Contains(names, a.Name.Local) })
	}
}

// bare reports whether the element says nothing.
func (t *tree) bare() bool { return len(t.attrs) == 0 && len(t.children) == 0 && t.text == "" }

// lines flattens the tree: a line for every element, such as
// `portgroup[red]/vlan/tag[20] nativeMode="tagged"`, sorted, since libvirt has an
// order of its own. An element's name, address, device or ID stands in brackets.
func (t *tree) lines() []string {
	lines := t.appendLines(nil, "")
	slices.Sort(lines)
	return lines
}

func (t *tree) appendLines(lines []string, path string) []string {
	for _, c := range t.children {
		line := path + c.name.Local
		if c.name.Space != "" {
			line = path + c.name.Space + " " + c.name.Local
		}
		var key string
		for _, key = range []string{"name", "address", "dev", "id", ""} {
			if value := c.attr(key); value != "" {
				line += "[" + value + "]"
				break
			}
		}
		lines = append(lines, line+c.settings(key))
		lines = c.appendLines(lines, line+"/")
	}
	return lines
}

// settings are the attributes but one and the text of an element.
func (t *tree) settings(but string) string {
	var list []string
	for _, a := range t.attrs {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" && a.Name.Local != but {
			list = append(list, fmt.Sprintf(" %s=%q", a.Name.Local, a.Value))
		}
	}
	slices.Sort(list)
	if t.text != "" {
		list = append(list, fmt.Sprintf(": %s", t.text))
	}
	return strings.Join(list, "")
}

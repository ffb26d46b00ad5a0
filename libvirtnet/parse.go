// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package libvirtnet

import (
	"bytes"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MaxXML is the largest document that is read, in bytes. A domain of a thousand
// devices has less than one megabyte.
const MaxXML = 10 << 20

// decode reads the one element root of data into v, which is a pointer to a
// struct with xml tags, as [decodeBy] does.
func decode(data []byte, root string, v any) error {
	return decodeBy(data, root, func(d *xml.Decoder, start xml.StartElement) error { return d.DecodeElement(v, &start) })
}

// decodeBy lets read the one element root of data to its end. Only well-formed
// documents pass: a hook that acts on the first half of a truncated one would
// wire half a guest.
func decodeBy(data []byte, root string, read func(*xml.Decoder, xml.StartElement) error) error {
	if len(data) > MaxXML {
		return fmt.Errorf("%s XML: %d bytes are too many: want at most %d", root, len(data), MaxXML)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return fmt.Errorf("%s XML: empty input: want a <%s> element as libvirt writes it", root, root)
	}
	d := xml.NewDecoder(bytes.NewReader(data))
	start, err := firstElement(d)
	if err != nil {
		return syntaxError(data, root, err)
	}
	if start.Name.Local != root {
		line, _ := d.InputPos()
		return fmt.Errorf("%s XML: line %d: the document is a <%s>: want a <%s>", root, line, start.Name.Local, root)
	}
	if err := read(d, start); err != nil {
		return syntaxError(data, root, err)
	}
	if extra, err := firstElement(d); err == nil {
		line, _ := d.InputPos()
		return fmt.Errorf("%s XML: line %d: <%s> after the end of the document: want one <%s>",
			root, line, extra.Name.Local, root)
	} else if !errors.Is(err, io.EOF) {
		return syntaxError(data, root, err)
	}
	return nil
}

// firstElement returns the next start element of d.
func firstElement(d *xml.Decoder) (xml.StartElement, error) {
	for {
		token, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		if start, ok := token.(xml.StartElement); ok {
			return start, nil
		}
	}
}

// syntaxError says where the document stops being XML: by line, and by the
// elements that are open there, since libvirt's own logs show no line numbers.
func syntaxError(data []byte, root string, err error) error {
	line, open := position(data)
	what := err.Error()
	if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok {
		line, what = syntax.Line, syntax.Msg
	}
	if errors.Is(err, io.EOF) || what == "unexpected EOF" {
		what = "the document ends here"
	}
	if open != "" {
		what = "in " + open + ": " + what
	}
	return fmt.Errorf("%s XML: line %d: %s: want the whole <%s> element, in UTF-8", root, line, what, root)
}

// position scans as far as data is XML and returns the line and the path of
// open elements there.
func position(data []byte) (line int, path string) {
	const deepest = 16 // a path longer than any of libvirt's says no more
	d := xml.NewDecoder(bytes.NewReader(data))
	var open []string
	for {
		token, err := d.Token()
		if err != nil {
			line, _ = d.InputPos()
			break
		}
		switch token := token.(type) {
		case xml.StartElement:
			open = append(open, token.Name.Local)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if len(open) > deepest {
		open = append(slices.Clone(open[:deepest]), "...")
	}
	for _, name := range open {
		path += "/" + name
	}
	return line, path
}

// parseUUID returns text in the form libvirt writes, which tools may then use
// as a file name. Libvirt reads UUIDs with and without dashes (virUUIDParse).
func parseUUID(path, text string) (string, error) {
	digits := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), "-", ""))
	if raw, err := hex.DecodeString(digits); err != nil || len(raw) != 16 {
		return "", fmt.Errorf("%s: %q is no UUID: want one such as 4dea22b3-1d52-d8f3-2516-782e98ab3fa0", path, text)
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-"), nil
}

// parseNumber reads an attribute that libvirt writes as a number; no attribute
// is zero.
func parseNumber(path, text string, highest uint64) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > highest {
		return 0, fmt.Errorf("%s: %q: want a number from 0 to %d", path, text, highest)
	}
	return int(n), nil
}

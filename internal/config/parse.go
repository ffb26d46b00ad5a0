// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/xrash/smetrics"
	"go.yaml.in/yaml/v3"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Dir is where a host's spec lives.
const Dir = "/etc/virt-vnet"

// Error is one thing wrong with a spec.
type Error struct {
	File string
	Line int // 1 is the first; 0 when it is about the file as a whole
	Text string
}

// Error returns "FILE:LINE: TEXT".
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Text)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// Spec is a topology and the files it came from.
type Spec struct {
	Topology vnet.Topology
	files    []file
}

// Files returns the names of the files that the spec was read from.
func (s *Spec) Files() []string {
	names := make([]string, len(s.files))
	for i, f := range s.files {
		names[i] = f.name
	}
	return names
}

type file struct {
	name string
	root *yaml.Node
	raw  rawSpec
}

// Load reads the spec of each path: a file, or all *.yaml and *.yml files of a
// directory. A directory that does not exist is an empty spec. The error joins
// one [*Error] for each thing wrong.
func Load(paths ...string) (*Spec, error) {
	names, err := expand(paths)
	if err != nil {
		return nil, err
	}
	var spec Spec
	var errs []error
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		parsed, err := parse(name, data)
		errs = append(errs, err)
		spec.files = append(spec.files, parsed)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return spec.finish()
}

// Parse reads a spec from data; name is for its errors.
func Parse(name string, data []byte) (*Spec, error) {
	parsed, err := parse(name, data)
	if err != nil {
		return nil, err
	}
	return (&Spec{files: []file{parsed}}).finish()
}

// finish joins the files and validates the whole.
func (s *Spec) finish() (*Spec, error) {
	if err := s.merge(); err != nil {
		return nil, err
	}
	s.Topology.Sort()
	s.Topology.Complete()
	var found []*Error
	for _, p := range s.Topology.Validate() {
		found = append(found, s.locate(p))
	}
	slices.SortStableFunc(found, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	errs := make([]error, len(found))
	for i, e := range found {
		errs[i] = e
	}
	return s, errors.Join(errs...)
}

func expand(paths []string) ([]string, error) {
	var names []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case !info.IsDir():
			names = append(names, path)
			continue
		}
		for _, pattern := range []string{"*.yaml", "*.yml"} {
			found, err := filepath.Glob(filepath.Join(path, pattern))
			if err != nil {
				return nil, err
			}
			names = append(names, found...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func parse(name string, data []byte) (file, error) {
	f := file{name: name, root: &yaml.Node{}}
	if err := yaml.Unmarshal(data, f.root); err != nil {
		return f, f.translate(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&f.raw); err != nil && !errors.Is(err, io.EOF) {
		return f, f.translate(err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return f, &Error{File: name, Text: "a second YAML document: want one for each file"}
	}
	f.ownBridges()
	f.serveDHCP()
	if f.raw.Version != 0 && f.raw.Version != 1 {
		return f, f.at("version", fmt.Sprintf("version %d: this virt-vnet reads version 1", f.raw.Version))
	}
	return f, nil
}

// ownBridges takes a key without a value, "bridge:", for what it says.
func (f file) ownBridges() {
	for name, sw := range f.raw.Switches {
		if _, depth := f.line("switches." + name + ".bridge"); sw.Bridge == nil && depth == 3 {
			sw.Bridge = &rawBridge{}
			f.raw.Switches[name] = sw
		}
	}
}

// serveDHCP does the same for "dhcp:".
func (f file) serveDHCP() {
	for name, n := range f.raw.Networks {
		if _, depth := f.line("networks." + name + ".dhcp"); n.DHCP == nil && depth == 3 {
			n.DHCP = &rawDHCP{}
			f.raw.Networks[name] = n
		}
	}
}

// What the YAML library says, in the forms that we say better.
var (
	lineError    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (.+) not found in type config\.(\w+)$`)
	duplicateKey = regexp.MustCompile(`^mapping key "(.*)" already defined at line (\d+)$`)
	wrongKind    = regexp.MustCompile(`^cannot unmarshal !!(\w+) (.*)into (.*)$`)
)

// translate turns an error of the YAML library into ours, one for each line.
func (f file) translate(err error) error {
	texts, kind := []string{err.Error()}, "YAML syntax: "
	if typeErr := (&yaml.TypeError{}); errors.As(err, &typeErr) {
		texts, kind = typeErr.Errors, ""
	}
	errs := make([]error, len(texts))
	for i, text := range texts {
		e := &Error{File: f.name, Text: strings.TrimPrefix(text, "yaml: ")}
		if m := lineError.FindStringSubmatch(text); m != nil {
			e.Line, _ = strconv.Atoi(m[1])
			e.Text = kind + reword(m[2])
		}
		errs[i] = e
	}
	return errors.Join(errs...)
}

func reword(text string) string {
	if m := unknownField.FindStringSubmatch(text); m != nil {
		return unknownKey(m[1], m[2])
	}
	if m := duplicateKey.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%q is given twice, first on line %s", m[1], m[2])
	}
	if m := wrongKind.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("got a %s, want %s", strings.TrimSpace(kindOfTag(m[1])+" "+m[2]), kindOfType(m[3]))
	}
	return text
}

func kindOfTag(tag string) string {
	words := map[string]string{"map": "mapping", "seq": "list", "str": "text", "int": "number", "bool": "yes-or-no value"}
	if word := words[tag]; word != "" {
		return word
	}
	return tag
}

func kindOfType(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map[") || strings.HasPrefix(goType, "config."):
		return "a mapping of keys to values"
	case goType == "int":
		return "a number"
	}
	return "a single value"
}

// unknownKey says what could have been meant by key in a mapping of rawType.
func unknownKey(key, rawType string) string {
	known := keysOf(rawType)
	best, score := "", 0.8
	for _, k := range known {
		if s := smetrics.JaroWinkler(strings.ToLower(key), k, 0.7, 4); s > score {
			best, score = k, s
		}
	}
	if best != "" {
		return fmt.Sprintf("unknown key %q: did you mean %q?", key, best)
	}
	return fmt.Sprintf("unknown key %q: want one of %s", key, strings.Join(known, ", "))
}

func keysOf(rawType string) []string {
	for _, t := range []any{
		rawSpec{},
		rawHost{},
		rawSwitch{},
		rawTLS{},
		rawBridge{},
		rawBond{},
		rawTreePort{},
		rawMirror{},
		rawSFlow{},
		rawNetFlow{},
		rawIPFIX{},
		rawNetwork{},
		rawQoS{},
		rawPortgroup{},
		rawGuest{},
		rawNIC{},
		rawExpectation{},
		rawWaiver{},
		rawLocalnet{},
		rawDHCP{},
		rawRoute{},
		rawACL{},
		rawRouter{},
		rawUplink{},
		rawDNAT{},
		rawBalancer{},
	} {
		if rt := reflect.TypeOf(t); rt.Name() == rawType {
			return yamlKeys(rt)
		}
	}
	return nil
}

func yamlKeys(t reflect.Type) []string {
	var keys []string
	for field := range t.Fields() {
		if field.Anonymous {
			keys = append(keys, yamlKeys(field.Type)...)
			continue
		}
		key, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		keys = append(keys, key)
	}
	return keys
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// gone stands where something was taken out.
const gone = "[removed]"

// secretWord is what secrets are called.
const secretWord = `(?:passw(?:or)?d|passphrase|secret|token|credential|cookie|community|\bpsk\b|api[-_ ]?key|private[-_ ]?key|access[-_ ]?key|auth[-_ ]?key)`

// rules find what looks like a secret in a text; what stands before it is kept.
// The value of a secret goes on to the end of its line: it may have spaces.
type rules struct{ keys, blocks, users, schemes, values *regexp.Regexp }

func newRules() rules {
	return rules{
		keys:    regexp.MustCompile(`(?i)` + secretWord),
		blocks:  regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`),
		users:   regexp.MustCompile(`(://[^\s/:@]*:)[^\s@]+(@)`),
		schemes: regexp.MustCompile(`(?i)\b(bearer|basic)(\s+)[A-Za-z0-9+/=._~-]{8,}`),
		values:  regexp.MustCompile(`(?i)(` + secretWord + `[\w.-]*["']?(?:\s*[:=]\s*|\s+is\s+|\s+))(\S[^\n]*)`),
	}
}

// Text returns a text without what looks like a secret in it, and how many
// places were taken out: the rest of a line after what a secret is called, as in
// "password: x", the password in a URL, and private keys in PEM (RFC 7468).
func Text(text string) (clean string, removed int) {
	r := newRules()
	return r.text(text)
}

func (r rules) text(text string) (clean string, removed int) {
	if strings.Contains(text, "PRIVATE KEY-----") {
		text = replace(text, r.blocks, gone, &removed)
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(r.line(line, &removed))
	}
	return out.String(), removed
}

// line is a line without secrets. Searching for words first is a hundred times
// faster than trying the expressions on everything.
func (r rules) line(line string, removed *int) string {
	lower := strings.ToLower(line)
	has := func(word string) bool { return strings.Contains(lower, word) }
	if has("://") {
		line = replace(line, r.users, "${1}"+gone+"${2}", removed)
	}
	if has("bearer") || has("basic") {
		line = replace(line, r.schemes, "${1}${2}"+gone, removed)
	}
	if slices.ContainsFunc([]string{"pass", "secret", "token", "credential", "cookie", "community", "psk", "key"}, has) {
		line = replace(line, r.values, "${1}"+gone, removed)
	}
	return line
}

func replace(text string, find *regexp.Regexp, with string, removed *int) string {
	n := len(find.FindAllStringIndex(text, -1))
	if n == 0 {
		return text
	}
	*removed += n
	return find.ReplaceAllString(text, with)
}

// JSON returns a JSON document without the values of keys that a secret is
// called by, and with its other texts as [Text] has them. It is indented and its
// keys are sorted.
func JSON(data []byte) (clean []byte, removed int, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, 0, err
	}
	r := newRules()
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(r.value(document, &removed))
	return out.Bytes(), removed, err
}

func (r rules) value(v any, removed *int) any {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if text, isText := child.(string); isText && r.keys.MatchString(key) && text != "" {
				v[key] = gone
				*removed++
				continue
			}
			v[key] = r.value(child, removed)
		}
	case []any:
		for i, child := range v {
			v[i] = r.value(child, removed)
		}
	case string:
		clean, n := r.text(v)
		*removed += n
		return clean
	}
	return v
}

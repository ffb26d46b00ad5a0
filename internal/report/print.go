// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The colours, as SGR parameters (ECMA-48, 8.3.117).
const (
	bold   = "1;"
	dim    = "2;"
	red    = "31;"
	green  = "32;"
	yellow = "33;"
)

// labelWidth is the width of a problem's field names.
const labelWidth = 12

// printer builds the text of a table.
type printer struct {
	style Style
	text  strings.Builder
}

// cell is text and its colour.
type cell struct{ text, color string }

func (p *printer) line(format string, args ...any) {
	p.text.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *printer) paint(color, text string) string {
	if !p.style.Color || color == "" || text == "" {
		return text
	}
	return "\x1b[" + strings.TrimSuffix(color, ";") + "m" + text + "\x1b[0m"
}

// title writes a coloured word and what it is about, wrapped.
func (p *printer) title(color, word, about string) {
	for i, part := range wrap(about, p.style.Width-len(word)-2) {
		if i == 0 {
			p.line("%s  %s", p.paint(color, word), part)
		} else {
			p.line("%s%s", strings.Repeat(" ", len(word)+2), part)
		}
	}
}

// field writes a name and its lines, wrapped, below each other.
func (p *printer) field(name string, lines ...string) {
	for _, line := range lines {
		if line == "" {
			continue
		}
		for _, part := range wrap(line, p.style.Width-labelWidth) {
			p.line("  %s%s", p.paint(dim, pad(name, labelWidth-2)), part)
			name = ""
		}
	}
}

// commands is like field for lines that are to be copied.
func (p *printer) commands(name string, lines []string) {
	for _, line := range lines {
		p.line("  %s%s", p.paint(dim, pad(name, labelWidth-2)), p.paint(bold, clean(line)))
		name = ""
	}
}

func (p *printer) reasons(title, color string, list []reason) {
	if len(list) == 0 {
		return
	}
	p.line("")
	p.line("%s", p.paint(color, title))
	for _, r := range list {
		text := r.text
		if len(r.affects) > 0 {
			text += " (" + brief(r.affects, 4) + ")"
		}
		p.item(color, text)
	}
}

// item writes a line of a list, wrapped.
func (p *printer) item(color, text string) {
	indent := "  "
	for _, part := range wrap(text, p.style.Width-4) {
		p.line("%s%s", indent, p.paint(color, part))
		indent = "    "
	}
}

// table writes rows with their columns aligned.
func (p *printer) table(rows [][]cell) {
	widths := map[int]int{}
	for _, row := range rows {
		for i, c := range row {
			row[i].text = clean(c.text)
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, c := range row {
			b.WriteString(p.paint(c.color, c.text))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		p.line("%s", b.String())
	}
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

// clean takes out what would steer a terminal, or turn the direction of its
// text: names come from others.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '?'
		}
		return r
	}, text)
}

// wrap breaks text between words into lines of at most width columns; a longer
// word keeps a line of its own. A width of zero or less breaks nothing.
func wrap(text string, width int) []string {
	text = clean(text)
	if width <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}

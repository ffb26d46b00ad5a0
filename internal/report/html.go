// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

//go:embed html/page.html html/page.css html/page.js
var htmlFiles embed.FS

// How much of a large site the page lists. What is cut is counted, and in the
// JSON form.
const (
	mostLines    = 40   // of one finding's evidence, leaks or guests
	mostFindings = 500  // groups of problems
	mostNICs     = 2000 // rows of the table of NICs
	mostRows     = 500  // of any other table
)

// HTML writes the report as one page that needs nothing else: no network, no
// other file. A Content-Security-Policy (W3C CSP Level 3) forbids it everything
// but its own style and script, which only add comfort: without the script
// every finding is still there.
//
// Everything in r is untrusted. Characters that steer the direction of text
// (Unicode TR 36, section 2.10.7) and control characters are replaced, so that
// no name can pretend to be another.
func HTML(w io.Writer, r Result) error {
	files, err := template.New("page.html").Funcs(template.FuncMap{
		"mark": func(status any) pageMark { return markOf(fmt.Sprint(status)) }, "took": took, "stamp": stamp, "upper": strings.ToUpper, "count": count,
	}).ParseFS(htmlFiles, "html/page.html")
	if err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	p, err := newPage(r)
	if err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	var text bytes.Buffer
	if err := files.Execute(&text, p); err != nil {
		return fmt.Errorf("HTML report: %w", err)
	}
	if _, err := w.Write(bytes.Map(tame, text.Bytes())); err != nil {
		return fmt.Errorf("write HTML report: %w", err)
	}
	return nil
}

// tame takes out what would change how the text around it reads.
func tame(r rune) rune {
	if r == '\n' || r == '\t' {
		return r
	}
	if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
		return unicode.ReplacementChar
	}
	return r
}

// page is everything that the template shows.
type page struct {
	Style  template.CSS
	Script template.JS
	Policy string

	Result
	Verdict     verify.Verdict
	Explanation string
	Summary     string
	Tiles       []pageTile

	Findings []pageFinding
	Waived   []pageFinding
	// MoreFindings is how many groups are not shown.
	MoreFindings int
	Gone         []history.Change
	Topology     drawing
	Matrix       pairMatrix
	NICs         nicTable
	Checks       checkTable
	Trends       trends
	Unsure       []reason
	Skipped      []reason
	Ladder       []rungCount
	Codes        []verify.CodeInfo
}

// pageTile is one number of the header, and where it leads.
type pageTile struct {
	Link, Number, Label, Detail string
	Class                       string
}

func newPage(r Result) (*page, error) {
	style, err := htmlFiles.ReadFile("html/page.css")
	if err != nil {
		return nil, err
	}
	script, err := htmlFiles.ReadFile("html/page.js")
	if err != nil {
		return nil, err
	}
	p := &page{
		Style: template.CSS(style), Script: template.JS(script), Policy: policy(style, script),
		Result: r, Verdict: r.Verdict(), Summary: summary(r),
		Topology: draw(r.Report), Matrix: newMatrix(r.Report), NICs: newNICTable(r.Report), Checks: newCheckTable(r.Report),
		Unsure: firstReasons(unsure(r)), Skipped: firstReasons(skipped(r)),
		Ladder: countRungs(r.Report), Codes: codesOf(r.Problems),
	}
	p.Explanation = explain(p.Verdict)
	p.addFindings(r)
	if r.Past != nil {
		p.Trends = newTrends(r)
	}
	p.Tiles = p.tiles()
	return p, nil
}

// policy allows the page's own style and script and nothing else.
func policy(style, script []byte) string {
	hash := func(text []byte) string {
		sum := sha256.Sum256(text)
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'", hash(style), hash(script))
}

func explain(v verify.Verdict) string {
	switch v {
	case verify.VerdictPass:
		return "Every guest has the network that the spec gives it."
	case verify.VerdictInconclusive:
		return "Nothing failed, but not everything could be told."
	case verify.VerdictFail:
		return "Something is not as the spec wants it."
	case verify.VerdictLeak:
		return "Traffic arrived where it must not."
	}
	return ""
}

func (p *page) tiles() []pageTile {
	nics := tallyStatus(p.Report.NICs, func(n verify.NICResult) verify.Status { return counted(n.Status, n.Waived) })
	checks := tallyStatus(p.Report.Checks, func(c verify.CheckResult) verify.Status { return counted(c.Status, c.Waived) })
	findings := pageTile{Link: "findings", Number: fmt.Sprint(len(p.Findings) + p.MoreFindings), Label: "findings", Class: "pass"}
	if len(p.Findings) > 0 {
		findings.Class, findings.Detail = "fail", countChanges(p.Findings)
	}
	if len(p.Waived) > 0 {
		findings.Detail = strings.TrimPrefix(findings.Detail+fmt.Sprintf(", %d waived", len(p.Waived)), ", ")
	}
	tiles := []pageTile{findings, {
		Link: "nics", Number: fmt.Sprintf("%d/%d", nics[verify.StatusPass], len(p.Report.NICs)), Label: "NICs fine",
		Detail: notFine(nics), Class: worstClass(nics),
	}}
	if p.Matrix.Tried > 0 {
		tiles = append(tiles, pageTile{
			Link: "pairs", Number: fmt.Sprintf("%d/%d", p.Matrix.Good(), p.Matrix.Tried), Label: "pairs as wanted",
			Detail: p.Matrix.notGood(), Class: p.Matrix.Worst.Class(),
		})
	}
	if len(p.Report.Checks) > 0 {
		tiles = append(tiles, pageTile{
			Link: "checks", Number: fmt.Sprintf("%d/%d", checks[verify.StatusPass], len(p.Report.Checks)), Label: "expectations met",
			Detail: notFine(checks), Class: worstClass(checks),
		})
	}
	return tiles
}

func tallyStatus[T any](list []T, status func(T) verify.Status) map[verify.Status]int {
	n := map[verify.Status]int{}
	for _, item := range list {
		n[status(item)]++
	}
	return n
}

// badToGood is the order in which results are named and sorted.
func badToGood() []verify.Status {
	return []verify.Status{
		verify.StatusLeak, verify.StatusFail, verify.StatusInconclusive, statusWaived,
		verify.StatusNotReached, verify.StatusSkip, verify.StatusPass,
	}
}

func notFine(n map[verify.Status]int) string {
	var parts []string
	for _, s := range badToGood() {
		if n[s] > 0 && s != verify.StatusPass {
			parts = append(parts, fmt.Sprintf("%d %s", n[s], statusWords(s)))
		}
	}
	return strings.Join(parts, ", ")
}

func worstClass(n map[verify.Status]int) string {
	for _, s := range badToGood() {
		if n[s] > 0 {
			return markOf(s).Class
		}
	}
	return markOf(verify.StatusNotReached).Class
}

// pageMark is how a result looks: never by its colour alone.
type pageMark struct{ Class, Symbol, Word string }

// markOf returns the mark of a [verify.Status] or [verify.Verdict].
func markOf[S ~string](s S) pageMark {
	switch verify.Status(s) {
	case verify.StatusPass:
		return pageMark{"pass", "✓", "pass"}
	case verify.StatusFail:
		return pageMark{"fail", "✗", "fail"}
	case verify.StatusLeak:
		return pageMark{"leak", "!", "leak"}
	case verify.StatusInconclusive:
		return pageMark{"unsure", "?", "inconclusive"}
	case statusWaived:
		return pageMark{"skip", "~", "waived"}
	case verify.StatusSkip:
		return pageMark{"skip", "○", "nothing to check"}
	case verify.StatusNotReached:
	}
	return pageMark{"none", "·", "not reached"}
}

func statusWords(s verify.Status) string {
	if s == verify.StatusLeak {
		return "leaking"
	}
	return markOf(s).Word
}

// took writes a duration with two or three digits.
func took(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func stamp(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }

// firstReasons bounds a list of reasons and the names in it.
func firstReasons(list []reason) []reason {
	if more := len(list) - mostRows; more > 0 {
		list = append(slices.Clone(list[:mostRows]), reason{text: fmt.Sprintf("and %d more reasons", more)})
	}
	return list
}

// Text and Names are for the template.
func (r reason) Text() string { return r.text }

// Names are the first of those that the reason is about.
func (r reason) Names() string { return brief(r.affects, 6) }

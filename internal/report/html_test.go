// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/html"

	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

// document is a page that was read.
type document struct{ *html.Node }

func render(t *testing.T, r report.Result) (document, []byte) {
	t.Helper()
	var text bytes.Buffer
	if err := report.HTML(&text, r); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(bytes.NewReader(text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return document{root}, text.Bytes()
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "script" && d.Parent.Data != "style" {
			b.WriteString(d.Data + " ")
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// elements are those of a name, and of a class unless that is empty.
func elements(root *html.Node, name, class string) iter.Seq[*html.Node] {
	return func(yield func(*html.Node) bool) {
		for n := range root.Descendants() {
			if n.Type == html.ElementNode && n.Data == name &&
				(class == "" || slices.Contains(strings.Fields(attr(n, "class")), class)) && !yield(n) {
				return
			}
		}
	}
}

// section returns a section of the page by its id, or nil.
func (d document) section(id string) *html.Node {
	for n := range elements(d.Node, "section", "") {
		if attr(n, "id") == id {
			return n
		}
	}
	return nil
}

func number(root *html.Node, name, class string) int {
	n := 0
	for range elements(root, name, class) {
		n++
	}
	return n
}

// has wants all of the words in a section.
func (d document) has(t *testing.T, id string, words ...string) {
	t.Helper()
	n := d.section(id)
	if n == nil {
		t.Errorf("there is no section %s", id)
		return
	}
	text := textOf(n)
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("section %s lacks %q:\n%s", id, w, text)
		}
	}
}

func TestHTMLHealthy(t *testing.T) {
	d, _ := render(t, healthySite())
	for n := range elements(d.Node, "h1", "") {
		if text := textOf(n); text != "PASS on hv1" {
			t.Errorf("the heading is %q", text)
		}
	}
	d.has(t, "findings", "Nothing was found wrong")
	d.has(t, "topology", "web1", "vnet6", "ovs0", "access 30", "eth1", "macvtap", "bond0", "fabric")
	d.has(t, "nics", "52:54:00:00:00:03", "10.0.30.13", "macvtap on eth1", "412 µs", "a macvtap has no forwarding table")
	for _, id := range []string{"unsure", "checks", "trends"} {
		if d.section(id) != nil {
			t.Errorf("there is a section %s, with nothing to say", id)
		}
	}
	if n := number(d.section("topology"), "circle", "break"); n > 0 {
		t.Errorf("%d breaks are drawn in a sound network", n)
	}
	if n := number(d.section("pairs"), "td", "pass"); n != 6 {
		t.Errorf("%d cells reach, want 6", n)
	}
}

func TestHTMLBroken(t *testing.T) {
	d, _ := render(t, brokenSite())
	d.has(t, "findings",
		"WRONG_VLAN guest web1, NIC vnet0", "access 20", "access 30", "virt-vnet repair web1",
		"web1 (red) -> db1 (blue): delivered as unicast and broadcast",
		"UPLINK_DOWN switch br0, uplink eno1", "6 guests", "eno1: admin up, operstate down, carrier 0",
		"GUEST_SILENT 3 NICs in network edge",
		"FIXED NO_ARP guest db3, NIC vnet40", "GONE NO_ARP guest old9, NIC vnet40",
		"by kim until 2026-12-23 02:30 UTC: the vendor's image")
	badges := map[string]string{}
	waived := 0
	for f := range elements(d.section("findings"), "article", "finding") {
		var states []string
		for b := range elements(f, "span", "badge") {
			if attr(b, "class") != "badge plain" {
				states = append(states, textOf(b))
			}
		}
		for c := range elements(f, "code", "code") {
			badges[textOf(c)] = strings.Join(states, " ")
		}
		if strings.HasPrefix(attr(f, "id"), "waived-") {
			waived++
			if text := textOf(f); !strings.HasPrefix(text, verify.CodePathMTU) {
				t.Errorf("waived: %s", text)
			}
		}
	}
	for code, want := range map[string]string{
		verify.CodeWrongVLAN: "NEW LEAK", verify.CodeLinkDown: "STILL since 2026-11-21 02:30 UTC", verify.CodeUplinkDown: "NEW",
		verify.CodeNotDelivered: "FLAPPING since 2026-11-18 02:30 UTC", verify.CodeGuestSilent: "NEW",
	} {
		if badges[code] != want {
			t.Errorf("%s has the badges %q, want %q", code, badges[code], want)
		}
	}
	if waived != 1 {
		t.Errorf("%d findings are waived, want 1", waived)
	}
	d.has(t, "unsure", "nft list ruleset: operation not permitted", "address: no address is known", "lab7 (lan)")
	d.has(t, "findings", "the waiver of LOSSY by kim has expired")
	d.has(t, "nics", "✗ fail waived shop")
	d.has(t, "checks", "web3 latency db1 < 1 ms", "2.9 ms", "site.yaml:44", "because of UPLINK_DOWN")
	d.has(t, "trends", "this run: leak", "run 99, 2026-11-21 02:30 UTC: fail", "times the usual")
	d.has(t, "ladder", "Is its link up", "WRONG_VLAN the port is a member of other VLANs")
	if n := number(d.section("pairs"), "td", "leak"); n != 2 {
		t.Errorf("%d cells leak, want 2", n)
	}
	if n := number(d.section("trends"), "svg", "spark"); n != 4 {
		t.Errorf("%d sparklines, want 4", n)
	}
	var breaks []string
	for g := range elements(d.section("topology"), "g", "") {
		if number(g, "circle", "break") > 0 {
			breaks = append(breaks, textOf(g))
		}
	}
	// What is waived is drawn and counted as that, and as nothing worse.
	d.has(t, "topology", "shop: waived", "vnet5 of shop in network blue: waived at pmtu")
	d.has(t, "pairs", "1 not as wanted, and waived")
	if n := number(d.section("pairs"), "td", "skip"); n != 1 {
		t.Errorf("%d cells are waived, want 1", n)
	}
	if slices.ContainsFunc(breaks, func(b string) bool { return strings.Contains(b, "shop") && strings.Contains(b, "fail") }) {
		t.Errorf("the waived NIC is drawn as failed: %q", breaks)
	}
	for _, want := range []string{"waived at pmtu", "vnet0 of web1 in network red: fail at vlan", "vnet10 of kiosk1 in network edge: fail at arp", "fail at uplink"} {
		if !slices.ContainsFunc(breaks, func(b string) bool { return strings.Contains(b, want) }) {
			t.Errorf("no break is drawn for %q, but for %q", want, breaks)
		}
	}
}

// TestHTMLLarge holds the page's size. The pairs alone are 250,000.
func TestHTMLLarge(t *testing.T) {
	d, text := render(t, largeSite())
	if len(text) > 5<<20 {
		t.Errorf("the page has %d bytes", len(text))
	}
	if n := number(d.section("topology"), "rect", ""); n > 100 {
		t.Errorf("500 guests are drawn as %d boxes", n)
	}
	d.has(t, "topology", "63 guests: guest", "63 ports")
	if n := number(d.section("pairs"), "button", ""); n != 7*7+1 {
		t.Errorf("%d pairs of networks have a button, want 50", n)
	}
	d.has(t, "pairs", "! 62")
	if n := number(d.section("nics"), "tr", ""); n != 501 {
		t.Errorf("the table of NICs has %d rows, want 501", n)
	}
	_, huge := render(t, siteOf(10000, 200))
	if len(huge) > 5<<20 {
		t.Errorf("the page of 10,000 guests has %d bytes", len(huge))
	}
}

// hostile are names as an attacker would choose them.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "javascript:alert(1)",
	"]]></title></style></script><script>alert(1)</script>", "<!--", "{{.Verdict}}", `\u003cscript\u003e`,
	"web1\u202egnp.1bew\u2066\u200f", "bell\x07esc\x1b[2J\x00", "invalid \xff utf-8", "</svg><svg onload=alert(1)>", "line\u2028line",
}

func TestHTMLTrustsNobody(t *testing.T) {
	evil := brokenSite()
	for i := range evil.NICs {
		name := hostile[i%len(hostile)]
		n := &evil.NICs[i]
		n.Guest, n.Network, n.Device, n.Switch, n.VLAN, n.Portgroup = name, name, name, name, name, name
		n.Rungs[0].Reason, n.Rungs[0].Evidence = name, []string{name}
		evil.Switches = append(evil.Switches, verify.SwitchResult{Name: name, Uplink: name})
		evil.Pairs = append(evil.Pairs, verify.PairResult{From: n.Endpoint, To: evil.NICs[0].Endpoint, Status: verify.StatusLeak, Reason: name, Cause: name, Delivered: []string{name}})
		evil.Checks = append(evil.Checks, verify.CheckResult{Name: name, Where: name, Reason: name, Value: name, Evidence: []string{name}})
		evil.Limits = append(evil.Limits, name)
	}
	for i := range evil.Problems {
		name := hostile[i%len(hostile)]
		p := &evil.Problems[i]
		p.Code, p.Subject, p.Want, p.Got, p.Fix, p.Network = name, name, name, name, name, name
		p.Evidence, p.Leaks = hostile, hostile
		p.Waived = &verify.Waived{Owner: name, Reason: name}
	}
	for i := range evil.Past.Trends {
		evil.Past.Trends[i].Guest = hostile[i]
	}
	evil.Host = hostile[0]
	large := siteOf(100, len(hostile))
	for i := range large.NICs {
		large.NICs[i].Guest, large.NICs[i].Network = hostile[i%len(hostile)], hostile[i%len(hostile)]
	}
	for i, p := range large.Pairs {
		p.From, p.To, p.Reason = large.NICs[i%100].Endpoint, large.NICs[i/100%100].Endpoint, hostile[i%len(hostile)]
		large.Pairs[i] = p
	}
	for name, r := range map[string]report.Result{"broken": evil, "large": large} {
		t.Run(name, func(t *testing.T) {
			d, text := render(t, r)
			steers := func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) && r != '\n' }
			if i := bytes.IndexFunc(text, steers); i >= 0 {
				t.Errorf("a character that steers: %q", text[max(0, i-20):i+20])
			}
			for n := range d.Descendants() {
				for _, a := range n.Attr {
					if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" {
						t.Errorf("<%s %s=%q>", n.Data, a.Key, a.Val)
					}
					if a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
						t.Errorf("a link to %q", a.Val)
					}
				}
			}
			scripts := 0
			for n := range elements(d.Node, "script", "") {
				if attr(n, "type") == "" {
					scripts++
				}
			}
			if images := number(d.Node, "img", ""); scripts != 1 || images != 0 {
				t.Errorf("%d scripts and %d images", scripts, images)
			}
			if styles, mains := number(d.Node, "style", ""), number(d.Node, "main", ""); styles != 1 || mains != 1 {
				t.Errorf("%d styles and %d mains", styles, mains)
			}
			if !strings.Contains(textOf(d.section("nics")), hostile[0]) {
				t.Error("the name itself is not shown")
			}
		})
	}
}

// TestHTMLPolicy holds that the policy names the style and the script as a
// browser reads them.
func TestHTMLPolicy(t *testing.T) {
	d, _ := render(t, brokenSite())
	var content string
	for n := range elements(d.Node, "meta", "") {
		if attr(n, "http-equiv") == "Content-Security-Policy" {
			content = attr(n, "content")
		}
	}
	if !strings.HasPrefix(content, "default-src 'none';") {
		t.Errorf("the policy is %q", content)
	}
	for _, name := range []string{"style", "script"} {
		found := false
		for n := range elements(d.Node, name, "") {
			if attr(n, "type") != "" {
				continue
			}
			sum := sha256.Sum256([]byte(n.FirstChild.Data))
			found = strings.Contains(content, name+"-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		}
		if !found {
			t.Errorf("the policy %q does not allow the page's own %s", content, name)
		}
	}
}

func TestHTMLWriteError(t *testing.T) {
	full := errors.New("disk full")
	if err := report.HTML(brokenWriter{full}, healthySite()); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
}

func TestHTMLOfNothing(t *testing.T) {
	d, _ := render(t, report.Result{Report: base()})
	d.has(t, "topology", "No NIC was checked")
	d.has(t, "nics", "No NIC was checked")
	for n := range elements(d.Node, "h1", "") {
		if text := textOf(n); text != "INCONCLUSIVE" {
			t.Errorf("the heading is %q", text)
		}
	}
}

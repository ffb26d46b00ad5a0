// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"bytes"
	"fmt"
	"image/color"
	"image/png"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/virt-vnet/virt-vnet/internal/report"
)

// TestHTMLInChromium opens each page as a file, in both schemes, wide and
// narrow: nothing may complain, be cut off sideways, or be hard to read. The
// pictures are in bin/, to be looked at.
func TestHTMLInChromium(t *testing.T) {
	ctx := browser(t)
	banner := map[string]color.RGBA{
		"healthy": {0x17, 0x69, 0x2f, 0xff}, "broken": {0x8a, 0x0f, 0x65, 0xff}, "large": {0x8a, 0x0f, 0x65, 0xff},
	}
	for name, site := range sites {
		file := writeSite(t, site())
		for _, l := range []look{{"light", 1280}, {"dark", 1280}, {"light", 400}, {"dark", 400}} {
			t.Run(fmt.Sprintf("%s %s %d", name, l.scheme, l.width), func(t *testing.T) {
				ctx, b := open(ctx, t, file, l)
				if over := eval[int64](ctx, t, "document.documentElement.scrollWidth") - l.width; over > 0 {
					t.Errorf("the page is %d pixels wider than its window", over)
				}
				for _, poor := range eval[[]string](ctx, t, "("+poorContrast+")()") {
					t.Errorf("hard to read: %s", poor)
				}
				picture := screenshot(ctx, t, fmt.Sprintf("report-%s-%s-%d.png", name, l.scheme, l.width))
				checkPicture(t, picture, banner[name])
				noComplaints(t, b)
			})
		}
	}
}

// poorContrast lists texts with less contrast than WCAG 2.2 wants for level AA
// (success criterion 1.4.3).
const poorContrast = `() => {
  const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { c: [r, g, b], a }; };
  const light = (c) => {
    const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    if (element.localName === "text") {
      const shape = element.parentElement.querySelector("rect, path, circle");
      if (shape && shape.parentElement.localName === "g" && !shape.parentElement.classList.contains("edges")) return rgb(getComputedStyle(shape).fill).c;
    }
    for (let e = element; e; e = e.parentElement) {
      const back = rgb(getComputedStyle(e).backgroundColor);
      if (back.a === 1) return back.c;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.body.querySelectorAll("*")) {
    if (["script", "style", "title"].includes(element.localName) || !element.checkVisibility()) continue;
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const style = getComputedStyle(element);
    const a = light(rgb(element.localName === "text" ? style.fill : style.color).c), b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.add(element.localName + "." + element.getAttribute("class") + " " + ratio.toFixed(2) + " " + element.textContent.trim().slice(0, 30));
  }
  return [...poor].slice(0, 20);
}`

// checkPicture wants more than a blank page, and the verdict's colour.
func checkPicture(t *testing.T, picture []byte, banner color.RGBA) {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[color.Color]int{}
	// Every eighth pixel is enough.
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y += 4 {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x += 2 {
			seen[color.RGBAModel.Convert(img.At(x, y))]++
		}
	}
	if len(seen) < 50 {
		t.Errorf("the picture has %d colours", len(seen))
	}
	if least := img.Bounds().Dx() * 40 / 8; seen[banner] < least {
		t.Errorf("%d pixels have the colour of the verdict, want %d", seen[banner], least)
	}
}

// TestHTMLChromiumComplains proves that the other tests would notice.
func TestHTMLChromiumComplains(t *testing.T) {
	var text strings.Builder
	if err := report.HTML(&text, healthySite()); err != nil {
		t.Fatal(err)
	}
	ctx := browser(t)
	for name, bad := range map[string]string{
		"a style":   `<p style="color: red">`,
		"a script":  `<script>document.title = "changed"</script>`,
		"a handler": `<p onclick="1" id="p"></p>`,
		"a picture": `<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">`,
		"a request": `<link rel="stylesheet" href="file:///nothing.css">`,
	} {
		file := writePage(t, strings.Replace(text.String(), "</main>", bad+"</main>", 1))
		ctx, b := open(ctx, t, file, look{"light", 1280})
		eval[any](ctx, t, `document.querySelector("#p")?.click()`)
		if len(b.all()) == 0 {
			t.Errorf("%s: nobody complains", name)
		}
	}
	ctx, _ = open(ctx, t, writePage(t, text.String()), look{"light", 400})
	eval[string](ctx, t, `document.querySelector(".summary").style.color = "#aaa"`)
	if poor := eval[[]string](ctx, t, "("+poorContrast+")()"); len(poor) != 1 {
		t.Errorf("grey on white: %q", poor)
	}
	eval[string](ctx, t, `document.querySelector(".summary").style.width = "1000px"`)
	if wide := eval[int64](ctx, t, "document.documentElement.scrollWidth"); wide < 1000 {
		t.Errorf("a page with something 1000 pixels wide is %d wide", wide)
	}
}

// TestHTMLPrinted prints each page, with the dark theme chosen: on paper it is
// light, nothing is cut off or folded, and what only a screen can use is gone.
func TestHTMLPrinted(t *testing.T) {
	ctx := browser(t)
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			ctx, b := open(ctx, t, writeSite(t, site()), look{"dark", 1280})
			eval[string](ctx, t, `document.documentElement.dataset.theme = "dark"`)
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: "print"})
			if err != nil {
				t.Fatal(err)
			}
			if got := eval[string](ctx, t, `getComputedStyle(document.documentElement).colorScheme`); got != "light" {
				t.Errorf("the colours are %s", got)
			}
			for _, poor := range eval[[]string](ctx, t, "("+poorContrast+")()") {
				t.Errorf("hard to read: %s", poor)
			}
			if seen := eval[[]string](ctx, t, `[...document.querySelectorAll("nav, .copy, #theme, .filter, #closer")].filter((e) => e.checkVisibility()).map((e) => e.outerHTML.slice(0, 40))`); len(seen) > 0 {
				t.Errorf("of no use on paper: %q", seen)
			}
			if folded := eval[int](ctx, t, `[...document.querySelectorAll(".finding details li")].filter((e) => !e.checkVisibility({contentVisibilityAuto: true})).length`); folded > 0 {
				t.Errorf("%d lines of evidence are folded", folded)
			}
			if cut := eval[int](ctx, t, `[...document.querySelectorAll(".scroll")].filter((e) => getComputedStyle(e).overflow !== "visible").length`); cut > 0 {
				t.Errorf("%d parts are cut off", cut)
			}
			paper, err := chromedp.Call(ctx, page.PrintToPDF, page.PrintToPDFParams{})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(paper.Data, []byte("%PDF-")) || len(paper.Data) < 10<<10 {
				t.Errorf("the PDF has %d bytes", len(paper.Data))
			}
			noComplaints(t, b)
		})
	}
}

// TestHTMLControls uses what the script adds.
func TestHTMLControls(t *testing.T) {
	ctx := browser(t)
	t.Run("theme", func(t *testing.T) {
		ctx, b := open(ctx, t, writeSite(t, brokenSite()), look{"light", 1280})
		background := func() string { return eval[string](ctx, t, "getComputedStyle(document.body).backgroundColor") }
		system := background()
		do(ctx, t, chromedp.Click(chromedp.CSS("#theme")))
		if got := background(); got != system {
			t.Errorf("chosen light is %s, the system's light %s", got, system)
		}
		do(ctx, t, chromedp.Click(chromedp.CSS("#theme")))
		if got := background(); got == system {
			t.Errorf("dark is %s too", got)
		}
		do(ctx, t, chromedp.Reload())
		if got := background(); got == system {
			t.Error("the choice is forgotten")
		}
		do(ctx, t, chromedp.Click(chromedp.CSS("#theme")))
		if got := background(); got != system {
			t.Errorf("as the system is %s, want %s", got, system)
		}
		noComplaints(t, b)
	})
	t.Run("filter", func(t *testing.T) {
		ctx, b := open(ctx, t, writeSite(t, brokenSite()), look{"light", 1280})
		shown := func() int {
			return eval[int](ctx, t, `document.querySelectorAll("#nic-table tbody tr:not([hidden])").length`)
		}
		before := shown()
		do(ctx, t, chromedp.SendKeys(chromedp.CSS("#filter"), "edge kiosk2"))
		if got := shown(); got != 1 || before <= 1 {
			t.Errorf("%d of %d rows are shown, want 1", got, before)
		}
		noComplaints(t, b)
	})
	t.Run("details and copy", func(t *testing.T) {
		ctx, b := open(ctx, t, writeSite(t, brokenSite()), look{"light", 1280})
		const visible = `document.querySelector(".finding details .lines li").checkVisibility()`
		if eval[bool](ctx, t, visible) {
			t.Error("the evidence is not folded")
		}
		do(ctx, t, chromedp.Click(chromedp.CSS(".finding summary")))
		if !eval[bool](ctx, t, visible) {
			t.Error("the evidence does not unfold")
		}
		do(ctx, t, chromedp.Click(chromedp.CSS(".copy")))
		says := poll(ctx, t, `document.querySelector(".copy").textContent`, "Copy")
		if says != "Copied" {
			t.Errorf("the button says %q", says)
		}
		noComplaints(t, b)
	})
	t.Run("closer look", func(t *testing.T) {
		ctx, b := open(ctx, t, writeSite(t, largeSite()), look{"dark", 1280})
		do(ctx, t, chromedp.Click(chromedp.CSS(`td.leak button`)), chromedp.WaitVisible(chromedp.CSS("#closer-canvas")), chromedp.Focus(chromedp.CSS("#closer-canvas")))
		for range 8 {
			do(ctx, t, chromedp.KeyEvent(kb.ArrowDown))
			do(ctx, t, chromedp.KeyEvent(kb.ArrowRight))
		}
		says := eval[string](ctx, t, `document.querySelector("#closer-says").textContent`)
		if !strings.Contains(says, " to guest") {
			t.Errorf("the pair says %q", says)
		}
		colours := eval[int](ctx, t, `(() => { const c = document.querySelector("#closer-canvas");
			const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
			return new Set(new Uint32Array(d.buffer)).size; })()`)
		if colours < 4 {
			t.Errorf("the canvas has %d colours", colours)
		}
		screenshot(ctx, t, "report-large-closer.png")
		noComplaints(t, b)
	})
	t.Run("keyboard in the matrix", func(t *testing.T) {
		ctx, b := open(ctx, t, writeSite(t, brokenSite()), look{"light", 1280})
		do(ctx, t, chromedp.Focus(chromedp.CSS(`#matrix td[tabindex="0"]`)), chromedp.KeyEvent(kb.ArrowRight))
		if says := eval[string](ctx, t, `document.querySelector("#matrix-says").textContent`); !strings.Contains(says, " to ") {
			t.Errorf("the matrix says %q", says)
		}
		noComplaints(t, b)
	})
}

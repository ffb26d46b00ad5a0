// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/report"
)

// browser starts a Chromium of its own, without a window, for the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	program := lab.NeedProgram(t, "chromium")
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // waits for its end, so that its files can go
	return ctx
}

// complaints are what the browser complained of.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (b *complaints) add(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, fmt.Sprintf(format, args...))
}

func (b *complaints) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list)
}

// look is how to look at a page.
type look struct {
	scheme string
	width  int64
}

// open opens a file in a new tab, and listens for errors, for what the policy
// forbids, and for requests.
func open(ctx context.Context, t *testing.T, file string, l look) (context.Context, *complaints) {
	t.Helper()
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	b := &complaints{}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			b.add("console: %s", e.Type)
		case *runtime.EventExceptionThrown:
			b.add("exception: %s", e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			b.add("log: %s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if e.Request.URL != address {
				b.add("request: %s", e.Request.URL)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	scheme := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}}
	// A tab behind others gets no clicks.
	focus := emulation.SetFocusEmulationEnabledParams{Enabled: true}
	for _, prepare := range []func() error{
		func() error { _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); return err },
		func() error { _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, scheme); return err },
		func() error { _, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, focus); return err },
		func() error { _, err := chromedp.Call(ctx, page.BringToFront, cdp.Empty{}); return err },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
	}
	do(ctx, t, chromedp.EmulateViewport(l.width, 900), chromedp.Navigate(address))
	return ctx, b
}

// do runs actions that must succeed.
func do(ctx context.Context, t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// eval returns the value of a JavaScript expression.
func eval[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// poll returns the first value of an expression that is not the old one.
func poll(ctx context.Context, t *testing.T, expression, old string) string {
	t.Helper()
	for range 100 {
		if value := eval[string](ctx, t, expression); value != old {
			return value
		}
		time.Sleep(50 * time.Millisecond)
	}
	return old
}

func writeSite(t *testing.T, r report.Result) string {
	t.Helper()
	var text bytes.Buffer
	if err := report.HTML(&text, r); err != nil {
		t.Fatal(err)
	}
	return writePage(t, text.String())
}

func writePage(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// screenshot takes a picture of the page, of its first 6000 pixels at most, and
// keeps it in bin/.
func screenshot(ctx context.Context, t *testing.T, name string) []byte {
	t.Helper()
	size := eval[[]float64](ctx, t, "[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
	beyond := true
	picture, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{
		CaptureBeyondViewport: &beyond,
		Clip:                  &page.Viewport{Width: size[0], Height: math.Min(size[1], 6000), Scale: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), picture.Data, 0o644); err != nil {
		t.Fatal(err)
	}
	return picture.Data
}

func noComplaints(t *testing.T, b *complaints) {
	t.Helper()
	for _, c := range b.all() {
		t.Error(c)
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

const ms = time.Millisecond

func TestMedian(t *testing.T) {
	for name, tc := range map[string]struct {
		list []time.Duration
		want time.Duration
	}{
		"nothing":         {nil, 0},
		"one":             {[]time.Duration{3}, 3},
		"outliers":        {[]time.Duration{1000 * ms, 2 * ms, 1, 3 * ms, 2 * ms}, 2 * ms},
		"even":            {[]time.Duration{4 * ms, 1 * ms, 2 * ms, 9 * ms}, 3 * ms},
		"order is kept":   {[]time.Duration{3, 1, 2}, 2},
		"two of the same": {[]time.Duration{5, 5}, 5},
	} {
		given := slices.Clone(tc.list)
		if got := median(tc.list); got != tc.want {
			t.Errorf("%s: median %v, want %v", name, got, tc.want)
		}
		if diff := cmp.Diff(given, tc.list); diff != "" {
			t.Errorf("%s: the list was changed (-want +got):\n%s", name, diff)
		}
	}
}

func TestJudge(t *testing.T) {
	for _, tc := range []struct {
		name       string
		budget     budget
		ours, peer time.Duration
		ratio      float64
		verdict    string
		text       string
	}{
		{"we took no time", atMost(2), 0, ms, 0, verdictMissed, "0.00x"},
		{"the peer took no time", fasterBy(2), ms, 0, 0, verdictMissed, "0.0x faster"},
		{"negative slope", within(ms), -ms, ms, 0, verdictMissed, "0.0x faster"},
		{"too slow", atMost(2.5), 26 * ms, 10 * ms, 2.6, verdictMissed, "2.60x"},
		{"not fast enough", fasterBy(20), ms, 19 * ms, 19, verdictMissed, "19.0x faster"},
		{"not as fast", asFastAs(0.9), 112 * ms, 100 * ms, 100.0 / 112, verdictMissed, "0.89x as fast"},
		{"just as fast", asFastAs(0.9), 100 * ms, 90 * ms, 0.9, verdictOK, "0.90x as fast"},
		{"slower, no budget", budget{}, 2 * ms, ms, 0.5, verdictNone, "2.0x slower"},
		{"over the limit", within(ms), 2 * ms, 9 * ms, 4.5, verdictMissed, "4.5x faster"},
		{"just", atMost(2.5), 25 * ms, 10 * ms, 2.5, verdictOK, "2.50x"},
		{"fast enough", fasterBy(8), ms, 8 * ms, 8, verdictOK, "8.0x faster"},
		{"within the limit", within(ms), ms, 2 * ms, 2, verdictOK, "2.0x faster"},
	} {
		ratio, verdict := tc.budget.judge(tc.ours, tc.peer)
		if ratio != tc.ratio || verdict != tc.verdict || tc.budget.ratioText(ratio) != tc.text {
			t.Errorf("%s: %v %s %q, want %v %s %q", tc.name, ratio, verdict, tc.budget.ratioText(ratio), tc.ratio, tc.verdict, tc.text)
		}
	}
}

// A contender that fails, or that did not do its job, must give no figures.
func TestInterleaveBad(t *testing.T) {
	fine := contender{name: "fine", run: func(context.Context) (time.Duration, error) { return ms, nil }}
	failing := errors.New("no")
	fails := func(context.Context) error { return failing }
	for name, c := range map[string]contender{
		"run":   {run: func(context.Context) (time.Duration, error) { return 0, failing }},
		"check": {run: fine.run, check: fails},
		"reset": {run: fine.run, reset: fails},
	} {
		m, err := interleave(t.Context(), effort{least: 1, most: 1}, fine, c)
		if !errors.Is(err, failing) || len(m.of) != 0 {
			t.Errorf("%s fails: %v, %v, want its error and nothing else", name, m, err)
		}
	}
	none := contender{run: func(context.Context) (time.Duration, error) { return 0, nil }}
	if _, err := interleave(t.Context(), effort{least: 1, most: 1}, none); err == nil {
		t.Error("a job that takes no time is measured")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := interleave(ctx, effort{least: 1, most: 1}, fine); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v, want context.Canceled", err)
	}
}

func TestInterleave(t *testing.T) {
	var order []string
	takes := func(name string, first time.Duration) contender {
		cost := first
		return contender{
			name:  name,
			reset: func(context.Context) error { order = append(order, "reset "+name); return nil },
			run: func(context.Context) (time.Duration, error) {
				order = append(order, name)
				cost /= 10
				return cost, nil
			},
		}
	}
	m, err := interleave(t.Context(), effort{least: 2, most: 9}, takes("a", 10*time.Second), takes("b", 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	want := medians{rounds: 2, of: map[string]time.Duration{"a": 55 * ms, "b": 110 * ms}} // without the first
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(medians{})); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	wantOrder := "reset a,a,reset b,b,reset b,b,reset a,a,reset a,a,reset b,b"
	if got := strings.Join(order, ","); got != wantOrder {
		t.Errorf("order %s, want %s", got, wantOrder)
	}
}

func TestRows(t *testing.T) {
	known := map[string]bool{}
	for _, g := range groups() {
		known[g.name] = true
	}
	seen := map[string]bool{}
	for _, r := range rows() {
		if !known[r.group] {
			t.Errorf("row %s: no group %q", r.name, r.group)
		}
		if key := r.name + r.peerIs; seen[key] {
			t.Errorf("row %s against %s is there twice", r.name, r.peerIs)
		} else {
			seen[key] = true
		}
	}
	if n := len(choose(rows(), regexp.MustCompile("OVS, 8 NICs.*per NIC"))); n != 1 {
		t.Errorf("%d rows chosen, want 1", n)
	}
}

func TestParseVLANs(t *testing.T) {
	for name, console := range map[string]string{
		"nothing":        "",
		"no JSON":        "vm: runs vlanobserve\n{oh no\n",
		"no rounds":      "{}\n",
		"half a round":   `{"observeNs":[1,2],"dumpNs":[1]}` + "\n",
		"not at the top": "  " + `{"observeNs":[1],"dumpNs":[1]}` + "\n",
	} {
		if m, err := parseVLANs(console); err == nil {
			t.Errorf("%s: %v, want an error", name, m)
		}
	}
	m, err := parseVLANs("[    0.1] boot\nvm: runs vlanobserve\n" + `{"observeNs":[30,10,20],"dumpNs":[5,7,6]}` + "\nvm: verdict pass\n")
	want := medians{rounds: 3, of: map[string]time.Duration{"observe": 20, "dump": 6}}
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(medians{})); err != nil || diff != "" {
		t.Errorf("error %v, medians (-want +got):\n%s", err, diff)
	}
}

func TestParseThrong(t *testing.T) {
	for name, out := range map[string]string{
		"nothing":    "",
		"no rounds":  "BenchmarkAsk/10-2 x 1 ms/asked\n",
		"no figure":  "BenchmarkAsk/10-2 9 x ms/asked\n",
		"no measure": "PASS\n",
	} {
		m := medians{of: map[string]time.Duration{}, megabytes: map[string]float64{}}
		if err := m.parseThrong(out); err == nil {
			t.Errorf("%s: %v, want an error", name, m)
		}
	}
	m := medians{of: map[string]time.Duration{}, megabytes: map[string]float64{}}
	for _, out := range []string{"BenchmarkAsk/10,dead-2 \t 9 \t 55 ns/op 1.5 ms/asked\t 3 ms/wire\n", "BenchmarkMemory-2 1 2 ns/op 70.5 MB/peak\n"} {
		if err := m.parseThrong(out); err != nil {
			t.Fatal(err)
		}
	}
	want := medians{
		rounds: 9, of: map[string]time.Duration{"10,dead asked": 1500 * time.Microsecond, "10,dead wire": 3 * ms},
		megabytes: map[string]float64{"Memory peak": 70.5},
	}
	if diff := cmp.Diff(want, m, cmp.AllowUnexported(medians{})); diff != "" {
		t.Errorf("medians (-want +got):\n%s", diff)
	}
	r := row{name: "memory", ours: "Memory peak", budget: megabytes(64)}
	if res := r.result(m, nil); res.Verdict != verdictMissed || res.OursMB != 70.5 {
		t.Errorf("%+v, want 70.5 MB and a missed budget", res)
	}
	if res := r.result(medians{}, nil); res.Verdict != verdictError {
		t.Errorf("without a figure: %+v, want an error", res)
	}
}

// A hundred whose first job fails gives no figure, and no guest is left out.
func TestPerPort(t *testing.T) {
	failing := errors.New("no")
	fails := func(context.Context, int) (time.Duration, error) { return ms, failing }
	if took, err := perPort(t.Context(), 0, fails); took != 0 || !errors.Is(err, failing) {
		t.Errorf("%v, %v, want its error and nothing else", took, err)
	}
	var met []int
	took, err := perPort(t.Context(), 900, func(_ context.Context, i int) (time.Duration, error) {
		met = append(met, i)
		return time.Duration(i), nil
	})
	if took != 949 || err != nil || len(met) != 100 || met[0] != 900 || met[99] != 999 {
		t.Errorf("%v, %v, guests %v", took, err, met)
	}
}

// The frame must be what a guard lets pass: IPv4, from the address of guest 0.
func TestRoadFrame(t *testing.T) {
	b := roadFrame()
	if len(b) != 60 || b[12] != 8 || b[13] != 0 || b[14] != 0x45 || b[17] != 46 {
		t.Errorf("% x: want an IPv4 frame of 60 bytes", b)
	}
	if !bytes.Equal(b[6:12], roadMAC(0)) || !bytes.Equal(b[26:30], address(0).AsSlice()) {
		t.Errorf("% x: want the sources %s and %s", b, roadMAC(0), address(0))
	}
	if sum := checksum(b[14:34]); sum != 0 {
		t.Errorf("% x: a checksum that is off by %x", b, sum)
	}
}

func TestOutput(t *testing.T) {
	few := []row{
		{"a", "g", "ours", "peer", "somebody", atMost(2)},
		{"a longer one", "g", "ours", "nobody", "nobody", within(300 * time.Microsecond)},
	}
	m := medians{rounds: 3, of: map[string]time.Duration{"ours": 3 * ms, "peer": 1250 * ms}}
	results := []result{few[0].result(m, nil), few[1].result(m, nil), few[0].result(medians{}, errors.New("no OVS"))}
	var out bytes.Buffer
	table := newTable(&out, few)
	for _, r := range results {
		table.line(r)
	}
	table.foot(results)
	want := "" +
		"a               3.00 ms     1.25 s          0.00x  <= 2x        ok      somebody\n" +
		"a longer one          -          -              -  <= 0.300 ms  error   nobody\n" +
		"a                     -          -              -  <= 2x        error   somebody\n" +
		"1 ok, 0 missed, 0 without a budget, 2 could not be measured\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	path := filepath.Join(t.TempDir(), "bin", "bench.json")
	if err := writeJSON(path, machine{Cores: 2}, results); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Version int
		Machine struct{ Cores int }
		Rows    []struct {
			Name, Verdict, Error, Budget string
			OursNs                       int64
		}
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || got.Machine.Cores != 2 || len(got.Rows) != 3 ||
		got.Rows[0].OursNs != 3_000_000 || got.Rows[0].Budget != "<= 2x" || got.Rows[2].Error != "no OVS" {
		t.Errorf("JSON: %s", data)
	}
}

// The guests must be what the hook takes for a guest of libvirt's.
func TestGuest(t *testing.T) {
	g, err := newGuest(7, ovsNICs(64))
	if err != nil {
		t.Fatal(err)
	}
	d, err := libvirtnet.ParseDomain(g.xml)
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != g.name || d.UUID != g.uuid || len(d.NICs) != 64 {
		t.Fatalf("guest %s, UUID %s, %d NICs", d.Name, d.UUID, len(d.NICs))
	}
	last := d.NICs[63]
	if last.Device != "vnet2-63" || last.MAC.String() != "52:54:00:00:00:3f" || last.Network != "red" || last.VirtualPort != "openvswitch" {
		t.Errorf("last NIC: %+v", last)
	}
}

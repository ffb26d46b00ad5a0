// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// reportsAreRead writes every form from real runs, a good one and one with a
// leak, and has those read them who are meant to.
func reportsAreRead(t *testing.T, h *host) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := []string{
		"verify", "-o", "nagios", "--write", "table=" + file("txt"), "--write", "json=" + file("json"),
		"--write", "junit=" + file("xml"), "--write", "prometheus=" + file("prom"),
	}
	port := h.device("web1", "red")
	for _, run := range []struct {
		tag  string
		code int
		want map[string]string
	}{
		{"20", 0, map[string]string{"txt": "PASS  ", "json": `"verdict": "pass"`, "prom": "virt_vnet_verify_success 1\n"}},
		{"30", 2, map[string]string{
			"txt": "\nWRONG_VLAN  guest web1, ", "json": `"verdict": "leak"`, "xml": `type="LEAK"`,
			"prom": `virt_vnet_problems{code="WRONG_VLAN"} 1`,
		}},
	} {
		h.vsctl("set", "port", port, "tag="+run.tag)
		line := h.must(run.code, write...)
		t.Log(line)
		if want := map[int]string{0: "VIRT-VNET OK - ", 2: "VIRT-VNET CRITICAL - LEAK: "}[run.code]; !strings.HasPrefix(line, want) {
			t.Errorf("the line is %q, want %q", line, want)
		}
		for name, want := range run.want {
			if data, err := os.ReadFile(file(name)); err != nil || !strings.Contains(string(data), want) {
				t.Errorf("tag %s, %s: %v, no %q in\n%s", run.tag, name, err, want, data)
			}
		}
		readers(t, h, file)
	}
	h.must(0, "repair", "web1")
	onTerminal(t, h)
}

// readers has each form read by the programs that it is made for.
func readers(t *testing.T, h *host, file func(string) string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), lab.NeedProgram(t, "xmllint"), "--noout", "--schema",
		"../internal/report/testdata/junit.xsd", file("xml")).CombinedOutput(); err != nil {
		t.Errorf("xmllint: %v\n%s", err, out)
	}
	metrics, err := os.Open(file("prom"))
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Close() //nolint:errcheck // it was only read
	promtool := exec.CommandContext(t.Context(), lab.NeedProgram(t, "promtool"), "check", "metrics")
	promtool.Stdin = metrics
	if out, err := promtool.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal([]byte(h.must(0, "schema", "--report")), &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file("json"))
	if err != nil {
		t.Fatal(err)
	}
	var document any
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(document); err != nil {
		t.Errorf("the report is not as its schema says: %v", err)
	}
}

// onTerminal runs verify as a person sees it: there is progress while it runs,
// and colour, and in the end nothing but the report.
func onTerminal(t *testing.T, h *host) {
	cmd := exec.CommandContext(t.Context(), lab.NeedProgram(t, "script"), "-qec", filepath.Join(h.bin, "virt-vnet")+" verify", "/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	progress, report, ok := strings.Cut(string(out), "\x1b[1;32mPASS")
	if !ok || !strings.Contains(progress, "finding addresses to ask from") || strings.Contains(progress, "\n") {
		t.Errorf("progress and then a report in colour are wanted, got\n%q", out)
	}
	lines := strings.Split(progress, "\r")
	if last := lines[len(lines)-1]; strings.TrimSpace(last) != "" || strings.Contains(report, "addresses to ask") {
		t.Errorf("the progress stays: %q", out)
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

func TestPrometheus(t *testing.T) {
	golden.Check(t, filepath.Join("testdata", "night.prom"), text(t, "prometheus", night(), report.Style{}))
}

// TestPrometheusIsValid has Prometheus' own linter and its own program read the
// metrics of every kind of report.
func TestPrometheusIsValid(t *testing.T) {
	promtool := lab.NeedProgram(t, "promtool")
	for name, r := range map[string]report.Result{
		"night": night(), "healthy": {Report: healthy()}, "nothing": {Report: base()}, "unsure": {Report: unsure()},
		"crowded": {Report: crowded()}, "evil": evil(),
	} {
		out := text(t, "prometheus", r, report.Style{})
		problems, err := promlint.New(strings.NewReader(out)).Lint()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: promlint: %s: %s", name, p.Metric, p.Text)
		}
		cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(out)
		if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s: promtool: %v\n%s", name, err, said)
		}
	}
}

// TestPrometheusKeepsNames gives back the names that mean something to the
// format, and never says that a NIC is down of which that is not known.
func TestPrometheusKeepsNames(t *testing.T) {
	r := evil()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text(t, "prometheus", r, report.Style{})))
	if err != nil {
		t.Fatal(err)
	}
	up := families["virt_vnet_nic_up"].GetMetric()
	if len(up) != 1 || up[0].GetGauge().GetValue() != 0 {
		t.Fatalf("virt_vnet_nic_up is %v, want 0 for the broken NIC alone", up)
	}
	want := strings.ToValidUTF8(r.NICs[0].Guest, "�")
	for _, label := range up[0].GetLabel() {
		if label.GetName() == "guest" && label.GetValue() != want {
			t.Errorf("guest %q, want %q", label.GetValue(), want)
		}
	}
}

// TestPrometheusTakesTheWorse of an expectation that the spec has twice.
func TestPrometheusTakesTheWorse(t *testing.T) {
	r := healthy()
	for _, s := range []verify.Status{verify.StatusPass, verify.StatusFail, verify.StatusPass, verify.StatusInconclusive} {
		r.Checks = append(r.Checks, verify.CheckResult{Name: "a reach b", Status: s})
	}
	out := text(t, "prometheus", report.Result{Report: r}, report.Style{})
	if !strings.Contains(out, "virt_vnet_check_success{check=\"a reach b\"} 0\n") {
		t.Errorf("got:\n%s", out)
	}
}

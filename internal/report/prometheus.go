// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// Metric is a metric of the Prometheus form. All are gauges.
type Metric struct {
	Name   string
	Labels []string
	Help   string

	// fill reads its samples off a result.
	fill func(r Result, set setter)
}

// setter sets the sample of these values of the labels.
type setter func(value float64, labels ...string)

// Prometheus writes the report as metrics in the text format (version 0.0.4),
// for the textfile collector of node_exporter. [Metrics] says what they are.
func Prometheus(w io.Writer, r Result) error {
	registry := prometheus.NewPedanticRegistry()
	for _, m := range Metrics() {
		gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m.Name, Help: m.Help}, m.Labels)
		if err := registry.Register(gauge); err != nil {
			return fmt.Errorf("metric %s: %w", m.Name, err)
		}
		m.fill(r, func(value float64, labels ...string) {
			for i := range labels {
				labels[i] = strings.ToValidUTF8(labels[i], "�")
			}
			gauge.WithLabelValues(labels...).Set(value)
		})
	}
	families, err := registry.Gather()
	if err != nil {
		return fmt.Errorf("gather metrics: %w", err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return fmt.Errorf("metric %s: %w", f.GetName(), err)
		}
	}
	if _, err := w.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}

// Metrics returns the metrics, those of the run first.
func Metrics() []Metric {
	list := append(runMetrics(), nicMetrics()...)
	return append(list, networkMetrics()...)
}

func runMetrics() []Metric {
	return []Metric{
		{
			"virt_vnet_verify_success", nil,
			"1 when the verdict of the last run was pass.",
			func(r Result, set setter) { set(truth(r.Verdict() == verify.VerdictPass)) },
		},
		{
			"virt_vnet_verify_verdict",
			[]string{"verdict"},
			"1 for the verdict of the last run, 0 for the others.",
			func(r Result, set setter) {
				for _, v := range []verify.Verdict{
					verify.VerdictPass, verify.VerdictInconclusive, verify.VerdictFail, verify.VerdictLeak,
				} {
					set(truth(r.Verdict() == v), string(v))
				}
			},
		},
		{
			"virt_vnet_verify_last_run_timestamp_seconds", nil,
			"When the last run began, in seconds since 1970.",
			func(r Result, set setter) { set(float64(r.Started.UnixMilli()) / 1000) },
		},
		{
			"virt_vnet_verify_duration_seconds", nil,
			"How long the last run took.",
			func(r Result, set setter) { set(r.Duration.Seconds()) },
		},
		{
			"virt_vnet_verify_limits", nil,
			"How many things the last run could not look at, such as for want of a privilege.",
			func(r Result, set setter) { set(float64(len(r.Limits))) },
		},
		{
			"virt_vnet_problems",
			[]string{"code"},
			"Problems that nobody has waived, by code; every code is there.",
			func(r Result, set setter) {
				codes := map[string]int{}
				for _, c := range verify.Codes() {
					codes[c.Code] = 0
				}
				open, _ := r.open()
				for _, p := range open {
					codes[p.Code]++
				}
				for code, n := range codes {
					set(float64(n), code)
				}
			},
		},
		{
			"virt_vnet_problems_waived", nil,
			"Problems that somebody has waived.",
			func(r Result, set setter) {
				_, waived := r.open()
				set(float64(len(waived)))
			},
		},
		{
			"virt_vnet_problem_changes",
			[]string{"state"},
			"Problems by how they compare with the runs before; missing where no history is kept.",
			setChanges,
		},
		{
			"virt_vnet_check_success",
			[]string{"check"},
			"1 when the expectation of the spec is met, 0 when it is not; missing when that could not be told or is waived.",
			setChecks,
		},
	}
}

func setChanges(r Result, set setter) {
	if r.Past == nil {
		return
	}
	states := map[history.State]int{
		history.StateNew: 0, history.StateStill: 0, history.StateFlapping: 0, history.StateFixed: 0, history.StateGone: 0,
	}
	for _, c := range r.Past.Changes {
		states[c.State]++
	}
	for state, n := range states {
		set(float64(n), string(state))
	}
}

// setChecks gives an expectation that the spec has twice the worse result.
func setChecks(r Result, set setter) {
	met := map[string]bool{}
	for _, c := range r.Checks {
		if up, known := outcome(counted(c.Status, c.Waived)); known {
			before, again := met[c.Name]
			met[c.Name] = up && (before || !again)
		}
	}
	for name, ok := range met {
		set(truth(ok), name)
	}
}

func nicMetrics() []Metric {
	labels := []string{"guest", "network", "mac"}
	each := func(value func(verify.NICResult) (float64, bool)) func(Result, setter) {
		return func(r Result, set setter) {
			for _, n := range r.NICs {
				if v, ok := value(n); ok {
					set(v, n.Guest, n.Network, n.MAC.String())
				}
			}
		}
	}
	return []Metric{
		{
			"virt_vnet_nic_up", labels,
			"1 when every check of the NIC passed, 0 when one failed; missing when that could not be told or is waived.",
			each(func(n verify.NICResult) (float64, bool) {
				up, known := outcome(counted(n.Status, n.Waived))
				return truth(up), known
			}),
		},
		{
			"virt_vnet_nic_rtt_seconds", labels,
			"Time to the first answer in a burst of probes: an upper bound, no latency.",
			each(func(n verify.NICResult) (float64, bool) { return n.RTT.Seconds(), n.RTT > 0 }),
		},
		{
			"virt_vnet_nic_latency_seconds", labels,
			"Median time to an ICMP echo answer, where it was measured.",
			each(func(n verify.NICResult) (float64, bool) {
				return latency(n, func(l verify.Latency) time.Duration { return l.Median })
			}),
		},
		{
			"virt_vnet_nic_latency_worst_seconds", labels,
			"Longest time to an ICMP echo answer, where it was measured.",
			each(func(n verify.NICResult) (float64, bool) {
				return latency(n, func(l verify.Latency) time.Duration { return l.Worst })
			}),
		},
		{
			"virt_vnet_nic_loss_ratio", labels,
			"Part of the ICMP echo requests that nothing answered, 0 to 1, where it was measured.",
			each(func(n verify.NICResult) (float64, bool) {
				if n.Latency == nil || n.Latency.Sent == 0 {
					return 0, false
				}
				return float64(n.Latency.Sent-n.Latency.Received) / float64(n.Latency.Sent), true
			}),
		},
		{
			"virt_vnet_nic_reachable_after_seconds", labels,
			"When a NIC that the run waited for was reachable: since the start of its guest where that is known, else since that of the wait.",
			each(func(n verify.NICResult) (float64, bool) { return n.ReachableAfter.Seconds(), n.ReachableAfter > 0 }),
		},
	}
}

func latency(n verify.NICResult, which func(verify.Latency) time.Duration) (float64, bool) {
	if n.Latency == nil || n.Latency.Received == 0 {
		return 0, false
	}
	return which(*n.Latency).Seconds(), true
}

func networkMetrics() []Metric {
	return []Metric{
		{
			"virt_vnet_nics",
			[]string{"network", "status"},
			"NICs of a network by result: pass, fail, inconclusive, or waived when it fails for a cause that is.",
			func(r Result, set setter) {
				type key struct {
					network string
					status  verify.Status
				}
				counts := map[key]int{}
				for _, n := range r.NICs {
					for _, s := range []verify.Status{verify.StatusPass, verify.StatusFail, verify.StatusInconclusive, statusWaived} {
						counts[key{n.Network, s}] += 0
					}
					counts[key{n.Network, counted(n.Status, n.Waived)}]++
				}
				for k, n := range counts {
					set(float64(n), k.network, string(k.status))
				}
			},
		},
		{
			"virt_vnet_pairs",
			[]string{"network", "expect", "status"},
			"Pairs of guests that were tried, by the sender's network, what is expected (reach or isolation) and the result, which is waived when it is bad for a cause that is.",
			func(r Result, set setter) {
				type key struct {
					network string
					expect  verify.Expectation
					status  verify.Status
				}
				counts := map[key]int{}
				for _, p := range r.Pairs {
					for _, s := range []verify.Status{
						verify.StatusPass, verify.StatusFail, verify.StatusLeak, verify.StatusInconclusive, verify.StatusNotReached, statusWaived,
					} {
						counts[key{p.From.Network, p.Expect, s}] += 0
					}
					counts[key{p.From.Network, p.Expect, counted(p.Status, p.Waived)}]++
				}
				for k, n := range counts {
					set(float64(n), k.network, string(k.expect), string(k.status))
				}
			},
		},
		{
			"virt_vnet_switch_up",
			[]string{"switch", "driver"},
			"1 when the switch can carry frames.",
			func(r Result, set setter) {
				for _, s := range r.Switches {
					set(truth(s.Up), s.Name, s.Driver.String())
				}
			},
		},
		{
			"virt_vnet_switch_uplink_up",
			[]string{"switch", "uplink"},
			"1 when the switch's uplink can carry frames; missing for a switch without one.",
			func(r Result, set setter) {
				for _, s := range r.Switches {
					if s.Uplink != "" {
						set(truth(s.UplinkUp), s.Name, s.Uplink)
					}
				}
			},
		},
	}
}

// outcome says whether something is fine, and whether that is known.
func outcome(s verify.Status) (fine, known bool) {
	switch s {
	case verify.StatusPass:
		return true, true
	case verify.StatusFail, verify.StatusLeak:
		return false, true
	case verify.StatusSkip, verify.StatusNotReached, verify.StatusInconclusive, statusWaived:
	}
	return false, false
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

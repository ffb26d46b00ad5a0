// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// healthyCount is how often a healthy site is verified.
const healthyCount = 200

// healthyRuns verifies the healthy site again and again while every CPU of the
// machine is busy. No run may fail. One that could not tell is no lie, but worth
// knowing of, and nobody would read what says so often.
func healthyRuns(t *testing.T, s *site) {
	for range runtime.NumCPU() {
		busy := exec.CommandContext(t.Context(), "sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = busy.Process.Kill()
			_ = busy.Wait()
		}()
	}
	count := map[verify.Verdict]int{}
	started := time.Now()
	for i := range healthyCount {
		r := s.verify(t)
		count[r.Verdict()]++
		if v := r.Verdict(); v == verify.VerdictFail || v == verify.VerdictLeak {
			t.Errorf("healthy run %d:\n%s", i+1, brief(r))
		} else if v == verify.VerdictInconclusive {
			t.Logf("healthy run %d:\n%s", i+1, brief(r))
		}
	}
	t.Logf("%d healthy runs under load: %d pass, %d inconclusive, %d fail, %v each", healthyCount, count[verify.VerdictPass],
		count[verify.VerdictInconclusive], count[verify.VerdictFail]+count[verify.VerdictLeak],
		(time.Since(started) / healthyCount).Round(time.Millisecond))
	if n := count[verify.VerdictInconclusive]; n > healthyCount/100 {
		t.Errorf("%d of %d runs could not tell", n, healthyCount)
	}
}

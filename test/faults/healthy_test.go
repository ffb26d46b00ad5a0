// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package faults

import (
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

const (
	// healthyCount is how often a healthy site is verified.
	healthyCount = 200
	// atOnce is how many do at the same time, as a timer and people may.
	atOnce = 4
)

// healthyRuns verifies the healthy site again and again while every CPU of the
// machine is busy, and returns how many runs did not fail. None may. One that
// could not tell is no lie, but worth knowing of, and nobody would read what says
// so often.
func healthyRuns(t *testing.T, s *site) int {
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
	started := time.Now()
	reports := make(chan verify.Report)
	var runners sync.WaitGroup
	for range atOnce {
		runners.Go(func() {
			for range healthyCount / atOnce {
				r, err := s.run(t.Context())
				if err != nil {
					t.Error(err)
					continue
				}
				reports <- r
			}
		})
	}
	go func() { runners.Wait(); close(reports) }()
	count := map[verify.Verdict]int{}
	done := 0
	for r := range reports {
		done++
		count[r.Verdict()]++
		if v := r.Verdict(); v == verify.VerdictFail || v == verify.VerdictLeak {
			t.Errorf("healthy run %d:\n%s", done, brief(r))
		} else if v == verify.VerdictInconclusive {
			t.Logf("healthy run %d:\n%s", done, brief(r))
		}
	}
	t.Logf("%d healthy runs under load, %d at once: %d pass, %d inconclusive, %d fail, %v each", done, atOnce,
		count[verify.VerdictPass], count[verify.VerdictInconclusive], count[verify.VerdictFail]+count[verify.VerdictLeak],
		(time.Since(started) / healthyCount).Round(time.Millisecond))
	if n := count[verify.VerdictInconclusive]; n > healthyCount/100 {
		t.Errorf("%d of %d runs could not tell", n, healthyCount)
	}
	return count[verify.VerdictPass] + count[verify.VerdictInconclusive]
}

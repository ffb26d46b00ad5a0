// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// RequireEnv names the environment variable which, set to 1, turns the skips of
// [Need] into failures.
const RequireEnv = "VIRT_VNET_REQUIRE_LAB"

// PatienceEnv names the environment variable which says how many times slower
// than a usual machine this one is, because it is emulated itself. Every time
// limit of the lab is as many times longer, and so are the pauses in its waits.
const PatienceEnv = "VIRT_VNET_LAB_PATIENCE"

// KVMEnv names the environment variable which, set to 1, has guests run by KVM.
// They are emulated without it, as not every /dev/kvm is good for guests: in a
// virtual machine it may be there, and guests hang.
const KVMEnv = "VIRT_VNET_LAB_KVM"

// patient returns the limit on this machine of what is over within limit on a
// usual one.
func patient(limit time.Duration) time.Duration {
	times, err := strconv.Atoi(os.Getenv(PatienceEnv))
	if err != nil || times < 1 {
		return limit
	}
	return time.Duration(times) * limit
}

// TB is the part of testing.TB that [Need] uses.
type TB interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
}

// Need skips the test, with the reason, unless it runs inside a lab on a
// machine that has what the parts need. With VIRT_VNET_REQUIRE_LAB=1 the test
// fails instead.
func Need(t TB, parts ...Part) {
	t.Helper()
	if reason := lacking(parts); reason != "" {
		unable(t, reason)
	}
}

// NeedProgram returns the path of a program that the test runs, in a lab or
// outside. Without it the test is skipped, or fails with VIRT_VNET_REQUIRE_LAB=1,
// as with [Need].
func NeedProgram(t TB, name string) string {
	t.Helper()
	path, err := program(name)
	if err != nil {
		unable(t, err.Error()+"; make setup brings it")
	}
	return path
}

func unable(t TB, reason string) {
	t.Helper()
	if os.Getenv(RequireEnv) == "1" {
		t.Fatal(reason + " (" + RequireEnv + "=1)")
	} else {
		t.Skip(reason)
	}
}

func lacking(parts []Part) string {
	if !Inside() {
		if reason := os.Getenv(reasonEnv); reason != "" {
			return reason
		}
		return "lab unavailable: the test does not run inside a lab (its TestMain does not call lab.Main)"
	}
	if len(parts) == 0 {
		return ""
	}
	var lacks []string
	for _, r := range Missing(parts...) {
		lacks = append(lacks, fmt.Sprintf("%s (package %s)", r.Wants, r.Package))
	}
	if len(lacks) == 0 {
		return ""
	}
	return "lab unavailable: missing " + strings.Join(lacks, ", ")
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package leftovers_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// scenarioEnv makes the test binary play a program that uses a lab.
const scenarioEnv = "VIRT_VNET_TEST_SCENARIO"

func TestMain(m *testing.M) {
	if name := os.Getenv(scenarioEnv); name != "" {
		os.Exit(play(context.Background(), name)) //nolint:forbidigo // this is the main of the scenarios
	}
	m.Run()
}

// play is a program that enters a lab and does what the scenario says.
func play(ctx context.Context, name string) int {
	inside, code, err := lab.Enter(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	if !inside {
		return code
	}
	scenarios := map[string]func(context.Context) error{
		"guest": runGuest,
		"ping":  pingGuest,
		"wait":  waitForSignal,
		"fail":  func(context.Context) error { return errors.New("as told") },
	}
	if err := scenarios[name](ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 42
	}
	return 0
}

// bootOne starts a guest with a leg in an OVS bridge and a macvtap, and a
// station at the far end of each.
func bootOne(ctx context.Context) (l *lab.Lab, gw, far *lab.Station, err error) {
	l, err = lab.Start(ctx, lab.Options{Libvirt: true, OVS: true})
	if err != nil {
		return nil, nil, nil, err
	}
	net := func(text string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(text)} }
	gw = &lab.Station{Name: "gw", Bridge: "br0", Addresses: net("10.0.0.1/24")}
	far = &lab.Station{Name: "far", Device: "up0", Addresses: net("10.9.0.1/24")}
	g := &lab.Guest{Name: "g", NICs: []lab.NIC{
		{Bridge: "br0", Addresses: net("10.0.0.11/24")}, {Uplink: "up0", Addresses: net("10.9.0.11/24")},
	}}
	return l, gw, far, errors.Join(l.AddOVSBridge(ctx, "br0"), l.AddStation(ctx, gw), l.AddStation(ctx, far),
		os.WriteFile("/etc/virt-vnet/lab.yaml", nil, 0o600), l.DefineGuest(ctx, g), l.StartGuest(ctx, "g"))
}

// runGuest says so when a guest runs, and then does nothing for long.
func runGuest(ctx context.Context) error {
	if _, _, _, err := bootOne(ctx); err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("running\n"); err != nil {
		return err
	}
	time.Sleep(time.Minute)
	return errors.New("nobody came to kill it")
}

func pingGuest(ctx context.Context) error {
	l, gw, far, err := bootOne(ctx)
	if err != nil {
		return err
	}
	return errors.Join(l.WaitUp(ctx, "g"),
		gw.WaitPing(ctx, netip.MustParseAddr("10.0.0.11"), 5*time.Second),
		far.WaitPing(ctx, netip.MustParseAddr("10.9.0.11"), 5*time.Second), l.Close(ctx))
}

// waitForSignal ends with an error of its own unless exactly one signal comes.
func waitForSignal(context.Context) error {
	got := make(chan os.Signal, 8)
	signal.Notify(got, syscall.SIGINT, syscall.SIGTERM)
	if _, err := os.Stdout.WriteString("running\n"); err != nil {
		return err
	}
	select {
	case <-got:
	case <-time.After(20 * time.Second):
		return errors.New("no signal came")
	}
	select {
	case s := <-got:
		return fmt.Errorf("a second signal came: %v", s)
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

// scenario is a command that plays the scenario in a process of its own.
func scenario(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), scenarioEnv+"="+name)
	return cmd
}

// need skips or fails like lab.Need, which is for tests inside.
func need(t *testing.T) {
	t.Helper()
	reason := ""
	if os.Geteuid() != 0 {
		reason = "needs root"
	}
	for _, r := range lab.Missing() {
		reason += fmt.Sprintf("missing %s (package %s) ", r.Wants, r.Package)
	}
	switch {
	case reason == "":
	case os.Getenv(lab.RequireEnv) == "1":
		t.Fatal(reason)
	default:
		t.Skip(reason)
	}
}

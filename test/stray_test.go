// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"context"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// unheardFile counts the frames which came in on eth0, since it exists, and which
// the kernel has no use for: nothing else that guests hear in these tests is of
// that kind. Frames count which waited in the host until there was a guest.
const unheardFile = "/sys/class/net/eth0/statistics/rx_dropped"

// addStray plugs two into br0 whom nobody gave a VLAN, so the kernel put them
// into VLAN 1: "stray", who shouts from before there are guests, and "echo", who
// shows that this is heard there.
func addStray(t *testing.T, h *host) {
	t.Helper()
	stray := &lab.Station{Name: "stray", Bridge: "br0", MAC: net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}}
	for _, s := range []*lab.Station{stray, {Name: "echo", Bridge: "br0"}} {
		if err := h.AddStation(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- shout(t.Context(), stray) }()
	t.Cleanup(func() { // when t's context has ended
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// shout broadcasts a frame every 50 ms until ctx ends. Its EtherType is one of
// those for experiments (IEEE 802), so nobody understands it.
func shout(ctx context.Context, s *lab.Station) error {
	everybody := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame := slices.Concat(everybody, s.MAC, []byte{0x88, 0xb5}, make([]byte, 46))
	for ctx.Err() == nil {
		if err := s.Inject(frame); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

// strayUnheard looks at what the guests have heard since their first moment.
func strayUnheard(t *testing.T, h *host) {
	control, err := exec.CommandContext(t.Context(), "ip", "netns", "exec", "echo", "cat", unheardFile).CombinedOutput()
	if n := number(t, string(control)); err != nil || n == 0 {
		t.Errorf("a neighbour in VLAN 1 has heard %d frames, %v: it should", n, err)
	} else {
		t.Logf("a neighbour in VLAN 1 has heard %d frames", n)
	}
	for _, g := range h.spec.Topology.Guests {
		out, err := h.Exec(t.Context(), g.Name, "cat "+unheardFile)
		if err != nil {
			t.Fatal(err)
		}
		if n := number(t, out); n > 0 {
			t.Errorf("%s has heard %d frames of VLAN 1", g.Name, n)
		} else {
			t.Logf("%s has heard none of them", g.Name)
		}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

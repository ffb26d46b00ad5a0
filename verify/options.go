// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Options are the wishes of one run. The zero Options, with Switches, checks
// everything.
type Options struct {
	// Switches lends vantages and forwarding databases. Nil means none: what
	// needs them is inconclusive.
	Switches Switches
	// Guests and Networks narrow the report to the guests and networks of
	// these names; empty means all. Pairs are reported when one end is.
	Guests   []string
	Networks []string
	// Full tries every pair of guests. Otherwise large networks are sampled:
	// every guest is source once and target once towards each group of alike
	// ports.
	Full bool
	// Conflicts asks everybody for the address of every guest, to hear whether
	// two have it. [vnet.ToggleLeave] does in segments of up to 256 NICs, and
	// with Full in all: each such question is heard by the whole segment. Who
	// uses a guest's address while the run listens is noticed anyway.
	Conflicts vnet.Toggle
	// Latency measures how long ICMP echo takes, in a slow pass of its own, of
	// Echoes per guest (default 10).
	Latency bool
	Echoes  int
	// Resolve looks up the DNS names of expectations. Nil means the host's
	// resolver.
	Resolve func(ctx context.Context, name string) ([]netip.Addr, error)
	// DHCP asks for an address over DHCP (RFC 2131) where guests have none, to
	// see whether a server offers one. None is requested or used.
	DHCP bool
	// Inside looks into guests that fail, by running a few commands in them that
	// change nothing. Nil looks into none.
	Inside Inside
	// Timing is how long to wait for answers.
	Timing Timing
	// Log takes the decisions of the run, for debugging. Nil drops them.
	Log *slog.Logger
	// Now is the clock of the report. Nil means [time.Now].
	Now func() time.Time
	// Progress, if any, is told what the run is about to do.
	Progress func(stage string)

	// survey looks just far enough to tell who is up: see [Wait].
	survey bool
}

// Timing is how long a run waits for answers. A zero field means its default.
type Timing struct {
	// Window bounds the first pass, in which each target is asked three times
	// (default 200 ms to 1 s: it grows with the slowest answer).
	WindowMin, WindowMax time.Duration
	// Confirm are the windows of the slow passes that silent targets get
	// before they are called dead (default 1 s and 2 s).
	Confirm []time.Duration
	// DHCP is how long offers may take (default 6 s: servers look first whether
	// an address is free).
	DHCP time.Duration
	// Discover is how long a guest without an address is listened to for its
	// asking for one over DHCP (default 5 s: RFC 2131 has a client that is
	// offered none ask again within 3 to 5 s at first, later up to
	// [DiscoverPause]).
	Discover time.Duration
}

// DiscoverPause is how long a DHCP client without an offer pauses at most (RFC
// 2131 section 4.1), and a little more.
const DiscoverPause = 66 * time.Second

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if o.Echoes == 0 {
		o.Echoes = 10
	}
	if o.Resolve == nil {
		o.Resolve = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	t := &o.Timing
	if t.WindowMin == 0 {
		t.WindowMin = 200 * time.Millisecond
	}
	if t.WindowMax == 0 {
		t.WindowMax = time.Second
	}
	if t.Confirm == nil {
		t.Confirm = []time.Duration{time.Second, 2 * time.Second}
	}
	if t.DHCP == 0 {
		t.DHCP = 6 * time.Second
	}
	if t.Discover == 0 {
		t.Discover = 5 * time.Second
	}
}

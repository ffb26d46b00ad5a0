// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Collect looks at libvirt and the switches now: at the guests of these names
// only, or at all when there are none.
type Collect func(ctx context.Context, guests []string) (Inventory, error)

// How long Wait pauses between two looks: it doubles from the first to the
// last, give or take a fifth, so that many of these do not look all at once.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
)

// bootLimit is how old a guest's start may be for its time until it was
// reachable to be counted from there. Guests that hung for days did not boot
// that long.
const bootLimit = 10 * time.Minute

// Wait looks at the guests until none has a problem that a boot explains, or
// limit is over, and then checks them all as [Run] does.
//
// A boot explains that a guest does not run yet, or is paused by libvirt, that its link is down, that
// spanning tree still listens, that it has no address, or that it, its gateway
// or the uplink is silent. Whatever else is wrong is not waited for. Only guests
// that are waited for are looked at again. They alone are sent to, except that
// their gateway is looked for as they would.
//
// Of the NICs that it waited for and that came up the report says after which
// time. Options.Switches must serve what collect returned last. The errors are
// those of collect and of Run; Progress is told who is waited for.
func Wait(ctx context.Context, collect Collect, opts Options, limit time.Duration) (Report, error) {
	opts.defaults()
	w := &waiting{limit: limit, progress: opts.Progress, reached: map[nicID]time.Duration{}}
	w.look = func(ctx context.Context, guests []string) (sight, error) { return survey(ctx, collect, opts, guests) }
	if err := w.wait(ctx, opts.Guests); err != nil {
		return Report{}, err
	}
	inv, err := collect(ctx, nil)
	if err != nil {
		return Report{}, err
	}
	report, err := Run(ctx, inv, opts)
	w.note(&report)
	return report, err
}

// nicID names a NIC also before it has a device.
type nicID struct {
	guest, network string
	mac            vnet.MAC
}

func (e Endpoint) id() nicID { return nicID{e.Guest, e.Network, e.MAC} }

// sight is what one look showed.
type sight struct {
	// pending are the NICs that may come up by themselves, each with what it
	// lacks.
	pending map[nicID]string
	// started is when guests began to run, as far as it is known.
	started map[string]time.Time
	// guests is how many were looked at.
	guests int
}

// waiting is the state of one call of Wait.
type waiting struct {
	look     func(ctx context.Context, guests []string) (sight, error)
	limit    time.Duration
	progress func(string)

	began   time.Time
	guests  int
	pending map[nicID]string
	reached map[nicID]time.Duration
}

func (w *waiting) wait(ctx context.Context, guests []string) error {
	w.began = time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		now, err := w.look(ctx, guests)
		if err != nil {
			return err
		}
		w.compare(now)
		left := w.limit - time.Since(w.began)
		if len(w.pending) == 0 || left <= 0 {
			return nil
		}
		guests = w.names()
		w.progress(w.String())
		if err := sleep(ctx, min(left, pause*8/10+rand.N(pause*4/10))); err != nil {
			return err
		}
	}
}

// compare takes a look to the one before.
func (w *waiting) compare(now sight) {
	w.guests = max(w.guests, now.guests)
	for id := range w.pending {
		if _, still := now.pending[id]; !still {
			w.reached[id] = w.since(now.started[id.guest])
		}
	}
	for id := range now.pending {
		delete(w.reached, id) // it was there for a moment only
	}
	w.pending = now.pending
}

// since is the time since the guest began to run, if that is known and was not
// long ago, or since the waiting began.
func (w *waiting) since(started time.Time) time.Duration {
	waited := time.Since(w.began)
	if age := time.Since(started); !started.IsZero() && age > 0 && age < waited+bootLimit {
		return age
	}
	return waited
}

// names are the guests that are waited for.
func (w *waiting) names() []string {
	var names []string
	for id := range w.pending {
		names = append(names, id.guest)
	}
	return sortedUnique(names)
}

// String says who is waited for and why, in one line.
func (w *waiting) String() string {
	const most = 4
	reasons := map[string][]string{}
	for id, reason := range w.pending {
		reasons[id.guest] = append(reasons[id.guest], reason)
	}
	var parts []string
	names := w.names()
	for _, name := range names[:min(most, len(names))] {
		parts = append(parts, fmt.Sprintf("%s (%s)", name, strings.Join(sortedUnique(reasons[name]), ", ")))
	}
	if more := len(names) - most; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("waiting for %d of %d guests: %s", len(names), w.guests, strings.Join(parts, ", "))
}

// note puts what the waiting showed into the report.
func (w *waiting) note(report *Report) {
	for i, n := range report.NICs {
		report.NICs[i].ReachableAfter = w.reached[n.id()]
	}
	for i := range report.Problems {
		p := &report.Problems[i]
		waited := func(e Endpoint) bool { _, ok := w.pending[e.id()]; return ok }
		if slices.ContainsFunc(p.Affects, waited) {
			p.Evidence = append(p.Evidence, fmt.Sprintf("waited %v for it", w.limit))
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// survey takes one look at guests.
func survey(ctx context.Context, collect Collect, opts Options, guests []string) (sight, error) {
	inv, err := collect(ctx, guests)
	if err != nil {
		return sight{}, err
	}
	opts.Guests, opts.survey, opts.Progress = guests, true, func(string) {}
	report, err := Run(ctx, inv, opts)
	switch {
	case err != nil && report.Version == 0:
		return sight{}, err
	case err != nil:
		opts.Log.Warn("verify: a look while waiting left something behind", "err", err)
	}
	now := sight{pending: pending(inv, report), started: map[string]time.Time{}}
	for _, g := range inv.Guests {
		now.started[g.Ref.Name] = g.Started
	}
	var names []string
	for _, n := range report.NICs {
		names = append(names, n.Guest)
	}
	now.guests = len(sortedUnique(names))
	return now, nil
}

// survey asks the guests once, where that tells enough without an address of our
// own, and their gateways, silent ones as the guests too.
func (r *run) survey(ctx context.Context) error {
	used := r.usedAddresses()
	err := r.each(func(s *segment) error { return s.survey(ctx, used) })
	r.noteGateways()
	r.learn(ctx, true)
	r.climbLive()
	if err == nil && slices.ContainsFunc(r.nics, (*nic).gatewayDead) {
		err = r.sendAsGuests(ctx)
		r.climbLive()
	}
	return cmp.Or(err, ctx.Err())
}

func (s *segment) survey(ctx context.Context, used func(netip.Addr) bool) error {
	if s.prober.unseen { // what answers ARP is the switch, so that an echo must tell
		if err := s.settle(ctx, used); err != nil {
			return err
		}
		return s.first(ctx)
	}
	// One that has not spoken may be booting, and what is sent to it fills its queue.
	if err := s.discover(ctx, slices.DeleteFunc(s.unknown(), (*nic).unlearned)); err != nil {
		return err
	}
	s.noICMP = "it was not asked while waiting for it"
	return s.first(ctx)
}

// pending returns the NICs whose trouble a boot explains, with what each lacks.
func pending(inv Inventory, report Report) map[nicID]string {
	lacks := map[nicID]string{}
	for _, n := range report.NICs {
		if n.Rung(RungAddress).Status == StatusInconclusive && n.Rung(RungMAC).Status == StatusInconclusive {
			lacks[n.id()] = lackNoAddress // and it never spoke
		}
		if n.Rung(RungDomain).Status == StatusInconclusive {
			lacks[n.id()] = "paused by libvirt"
		}
	}
	for _, p := range report.Problems {
		lack := lackOf(p.Code)
		for _, e := range p.Affects {
			if lack != "" && mayComeUp(inv, p.Code, e) {
				lacks[e.id()] = lack
			}
		}
	}
	return lacks
}

const lackNoAddress = "no address yet"

// lackOf says in a few words what a NIC with a problem of this code still
// lacks, or "" when waiting does not mend it.
func lackOf(code string) string {
	switch code {
	case CodeDomainDown:
		return "not running yet"
	case CodeLinkDown:
		return "link down"
	case CodeSTPBlocked:
		return "spanning tree listens"
	case CodeNoAddress, CodeNoDHCPOffer:
		return lackNoAddress
	case CodeMACNotLearned, CodeGuestSilent:
		return "silent"
	case CodeNoARP, CodeNoND, CodeICMPFiltered, CodeUnreachable: // an echo is asked where nothing else tells
		return "no answer yet"
	case CodeUplinkDown:
		return "uplink down"
	case CodeGatewayUnreachable:
		return "no answer from its gateway"
	}
	return ""
}

// mayComeUp leaves out what somebody set so: a link that is down in libvirt, a
// guest that libvirt does not know, or that crashed, and one that answers ARP and
// not the echo. On OVN it may not have booted: the switch answers ARP for it.
func mayComeUp(inv Inventory, code string, e Endpoint) bool {
	for _, g := range inv.Guests {
		if g.Ref.Name != e.Guest {
			continue
		}
		is := func(n NIC) bool { return n.Want.MAC == e.MAC && n.Want.Network == e.Network }
		switch code {
		case CodeDomainDown:
			return g.Ref.UUID != "" && g.State != "crashed"
		case CodeLinkDown:
			return !slices.ContainsFunc(g.NICs, func(n NIC) bool { return is(n) && n.LinkDown })
		case CodeICMPFiltered:
			return slices.ContainsFunc(g.NICs, func(n NIC) bool { return is(n) && inv.overlay(n.Want.Switch) })
		}
		return true
	}
	return false
}

// overlay reports whether the switch is one of OVN.
func (inv Inventory) overlay(name string) bool {
	return slices.ContainsFunc(inv.Switches, func(sw Switch) bool { return sw.Name == name && sw.Driver == vnet.DriverOVN })
}

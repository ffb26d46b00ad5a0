// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// closeLimit bounds the clean-up, which is done also when the run's own time is
// over.
const closeLimit = 10 * time.Second

// run is the state of one call of Run.
type run struct {
	opts      Options
	inventory Inventory
	id        uint32
	host      links
	nics      []*nic

	segments []*segment
	pairs    []*pair
	checks   []*check
	// traces is how many packets were traced.
	traces int
	// blind is whether frames at the ports went by unseen.
	blind  bool
	limits []string
	// insideNotes say which guests could not be looked into.
	insideNotes []string
}

// Run checks the guests of inv and returns what it found, good or bad.
//
// It needs CAP_NET_RAW and CAP_NET_ADMIN in the network namespace of the
// switches, and CAP_BPF (before Linux 5.8 CAP_SYS_ADMIN) to send as the guests.
// What cannot be done without is named in the report, and everything else is
// still done. The error says that nothing could be told at all, or that ctx
// ended; or, with a complete report, which has a Version, that something of the
// run's own could not be removed.
func Run(ctx context.Context, inv Inventory, opts Options) (Report, error) {
	opts.defaults()
	started, clock := opts.Now(), time.Now()
	host, err := dumpLinks()
	if err != nil {
		return Report{}, err
	}
	r := &run{opts: opts, inventory: inv, host: host, nics: newNICs(inv, host, opts), limits: slices.Clone(inv.Limits)}
	if len(r.nics) > maxNICs {
		return Report{}, fmt.Errorf("%d NICs are too many for one run: name guests or networks, at most %d", len(r.nics), maxNICs)
	}
	if r.id, err = newRunID(); err != nil {
		return Report{}, err
	}
	err, left := r.examine(ctx), r.close(ctx)
	if err != nil {
		return Report{}, errors.Join(err, left)
	}
	report := r.report()
	report.Started, report.Duration = started, time.Since(clock)
	return report, left
}

// newRunID makes a number that tells our frames from those of other runs.
func newRunID() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("number of the run: %w", err)
	}
	return binary.BigEndian.Uint32(b[:]) & (1<<runBits - 1), nil
}

// examine does the whole work on r.nics and r.pairs.
func (r *run) examine(ctx context.Context) error {
	r.climbStatic()
	r.opts.Progress("what the switches have learned")
	r.learn(ctx, false)
	r.noteOverlays()
	r.limit("left-over vantages", sweepSiblings(r.host))
	r.segments = group(r.nics)
	r.opts.Progress("opening vantages")
	r.openSegments(ctx)
	if r.opts.survey {
		return r.survey(ctx)
	}
	if err := r.lookAtDHCP(ctx, r.probe); err != nil {
		return err
	}
	if err := r.findConflicts(ctx); err != nil {
		return err
	}
	if err := r.noteVanished(); err != nil {
		return err
	}
	if err := r.confirmLosses(ctx); err != nil {
		return err
	}
	r.climbLive()
	for _, n := range r.nics {
		n.pardon()
	}
	r.joinProblems()
	if err := r.lookInside(ctx); err != nil {
		return err
	}
	return r.holdTalks(ctx)
}

// probe asks the guests, lets them speak to each other, and measures.
func (r *run) probe(ctx context.Context) error {
	for _, pass := range []func(context.Context) error{
		r.settle, r.ask, r.askForRivals, r.tryFullLength, r.climbOnce, r.crossTraffic, r.measureLatency,
	} {
		if err := pass(ctx); err != nil {
			return err
		}
	}
	return nil
}

// climbOnce says, as far as is known by now, whose name frames may be sent in.
func (r *run) climbOnce(ctx context.Context) error {
	r.learn(ctx, true)
	r.climbLive()
	return ctx.Err()
}

// climbStatic compares what was collected of every NIC with what is wanted.
func (r *run) climbStatic() {
	steps := staticSteps()
	var last *nic
	for _, n := range r.nics {
		n.climb(steps, last)
		last = n
	}
}

// climbLive judges what the probes have shown by now.
func (r *run) climbLive() {
	steps := liveSteps()
	var last *nic
	for _, n := range r.nics {
		n.climbLive(steps, last)
		last = n
	}
}

// limit notes what could not be looked at.
func (r *run) limit(what string, err error) {
	if err != nil {
		r.opts.Log.Info("verify: limited", "what", what, "err", err)
		r.limits = append(r.limits, fmt.Sprintf("%s: %v", what, err))
	}
}

const capNetAdmin = "CAP_NET_ADMIN"

// lacking adds to an error for want of a privilege which one is wanted
// (capabilities(7)).
func lacking(err error, capability string) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: needs %s", err, capability)
	}
	return err
}

// openSegments opens the vantages of one switch in turn, and those of all
// switches at once: on one with spanning tree it may take a minute.
func (r *run) openSegments(ctx context.Context) {
	errs := make([]error, len(r.segments))
	bySwitch := map[string][]int{}
	for i, s := range r.segments {
		bySwitch[s.sw] = append(bySwitch[s.sw], i)
	}
	var wait sync.WaitGroup
	for _, own := range bySwitch {
		wait.Go(func() {
			for _, i := range own {
				errs[i] = r.segments[i].open(ctx, r, i)
			}
		})
	}
	wait.Wait()
	for i, s := range r.segments {
		if err := errs[i]; err != nil {
			err = fmt.Errorf("no vantage in %s: %w", s, err)
			if s.selected() { // else the report is not about it
				r.limit("guests are not probed", err)
			}
			for _, n := range s.nics {
				n.probe.reason = err.Error()
			}
		}
	}
}

func (r *run) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	for _, s := range r.segments {
		if s.prober != nil && s.prober.defence != nil {
			s.prober.defence.stop()
		}
	}
	var errs []error
	for _, s := range r.segments {
		errs = append(errs, s.close(ctx, r))
	}
	return errors.Join(errs...)
}

// settle prepares all segments to be asked.
func (r *run) settle(ctx context.Context) error {
	r.opts.Progress("finding addresses to ask from")
	used := r.usedAddresses()
	return r.each(func(s *segment) error { return s.settle(ctx, used) })
}

// ask probes all segments at once, and those who were silent again.
func (r *run) ask(ctx context.Context) error {
	r.opts.Progress("asking the guests")
	if err := r.each(func(s *segment) error { return s.first(ctx) }); err != nil {
		return err
	}
	if !slices.ContainsFunc(r.segments, (*segment).silent) {
		r.noteGateways()
		return nil
	}
	r.opts.Progress("asking the silent ones again")
	err := r.tracing(ctx, r.silent(), func(ctx context.Context) error {
		return r.watchWhile(ctx, func(ctx context.Context) error {
			return r.each(func(s *segment) error { return s.confirm(ctx, r.opts.Timing.Confirm) })
		})
	})
	r.noteGateways()
	if err == nil {
		r.traceSilent(ctx)
	}
	return err
}

// each calls f for every segment that has a vantage, at the same time.
func (r *run) each(f func(*segment) error) error {
	errs := make([]error, len(r.segments))
	var wait sync.WaitGroup
	for i, s := range r.segments {
		if s.prober != nil {
			wait.Go(func() { errs[i] = f(s) })
		}
	}
	wait.Wait()
	return errors.Join(errs...)
}

// usedAddresses returns the addresses that are not free for us.
func (r *run) usedAddresses() func(netip.Addr) bool {
	used := make([]netip.Addr, 0, len(r.inventory.Networks)+len(r.nics))
	for _, network := range r.inventory.Networks {
		used = append(used, network.Gateway)
	}
	for _, n := range r.nics {
		for _, a := range n.Addresses {
			used = append(used, a.Addr)
		}
	}
	slices.SortFunc(used, netip.Addr.Compare)
	return func(a netip.Addr) bool {
		_, found := slices.BinarySearchFunc(used, a, netip.Addr.Compare)
		return found
	}
}

func (r *run) noteGateways() {
	for _, s := range r.segments {
		for _, n := range s.nics {
			if s.gateway != nil {
				n.gateway.asked, n.gateway.answered, n.gateway.icmp = true, s.gateway.arp, s.gateway.icmp
			}
		}
	}
}

// joinProblems makes one problem of one cause, before others follow from it.
func (r *run) joinProblems() {
	joinGuests(r.nics)
	joinPorts(r.nics)
	for _, n := range r.nics {
		if n.problem != nil {
			r.waive(n.problem)
		}
	}
	for _, s := range r.segments {
		s.unite()
		s.blameGateway()
	}
}

// report puts together what was found about the selected NICs.
func (r *run) report() Report {
	report := Report{
		Version: ReportVersion, NICs: make([]NICResult, 0, len(r.nics)), Switches: r.switchResults(),
		Limits: sortedUnique(r.limits), GuestsUnknown: r.inventory.GuestsUnknown, Notes: slices.Concat(r.notes(), r.noteAway(), r.insideNotes),
	}
	var problems []*Problem
	for _, n := range r.nics {
		if !n.selected {
			continue
		}
		report.NICs = append(report.NICs, n.result())
		if n.problem != nil {
			problems = append(problems, n.problem)
		}
	}
	pairs, more := r.judgePairs()
	checks, others := r.judgeChecks(pairs)
	report.Pairs, report.Checks = pairs, checks
	report.Problems = gather(slices.Concat(problems, r.controlProblems(), more, others))
	return report
}

func (n *nic) result() NICResult {
	out := NICResult{
		Endpoint:  n.endpoint(),
		Host:      n.away,
		Portgroup: n.Want.Portgroup, Switch: n.Want.Switch, VLAN: n.vlan(), Lower: n.lower,
		Status: n.status(), Waived: n.problem.waived(),
		Address: n.address.Addr, AddressSource: n.address.Source,
		RTT:     n.probe.target.rtt,
		Latency: n.latency,
		Rungs:   n.rungs,
	}
	if !out.Address.IsValid() {
		out.Address, out.AddressSource, out.RTT = n.address6.Addr, n.address6.Source, n.probe6.target.rtt
	}
	return out
}

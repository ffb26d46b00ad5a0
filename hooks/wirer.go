// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Wirer brings the ports of one guest to what the records of its networks say.
// It reads the records of those networks only, so that its time does not grow
// with their number. Its methods are safe for concurrent use by any number of
// processes.
type Wirer struct {
	Store state.Store
	// Open returns a driver for the switch, which the Wirer closes.
	Open func(context.Context, vnet.Switch) (switchcfg.Driver, error)
	// StartUnit starts an instance of a unit of systemd, as the function of that
	// name does, for the check after a guest's start. Nil means that there is
	// none.
	StartUnit func(ctx context.Context, template, instance string) error
	// Log gets a line for each guest that was wired or released. Nil discards
	// it.
	Log *slog.Logger
	// Now is the clock of the records. Nil means [time.Now].
	Now func() time.Time
}

// Handler returns the Wirer as the handler of [Main].
func (w *Wirer) Handler() Handler {
	return Handler{
		Prepare:     w.prepareGuest,
		Migrate:     w.Migrate,
		Start:       w.Start,
		Started:     w.Started,
		Stopped:     w.Stopped,
		Reconnect:   w.reconnect,
		Network:     w.learn,
		PortCreated: w.Preflight,
	}
}

// Migrate notes that the guest is about to come from another host, where it runs
// until it runs here.
func (w *Wirer) Migrate(_ context.Context, dom libvirtnet.Domain) error {
	if !slices.ContainsFunc(w.legs(dom), spanning) {
		return nil
	}
	return w.Store.PutIncoming(dom.UUID, w.now())
}

// Start is Wire for a guest that is about to run, and on no other host unless it
// comes from there.
func (w *Wirer) Start(ctx context.Context, dom libvirtnet.Domain) error {
	legs := w.legs(dom)
	if slices.ContainsFunc(legs, spanning) {
		incoming, err := w.Store.TakeIncoming(dom.UUID, w.now())
		if err != nil {
			return byPolicy(strictest(legs), err)
		}
		for i := range legs {
			legs[i].port.Starts = !incoming
		}
	}
	_, err := w.wire(ctx, dom, legs)
	return err
}

// Stopped is Unwire for a guest that has ended here, or that was about to come
// and has not.
func (w *Wirer) Stopped(ctx context.Context, dom libvirtnet.Domain) error {
	return errors.Join(w.Store.DropIncoming(dom.UUID), w.Unwire(ctx, dom.UUID))
}

// spanning reports whether the leg is in a network that spans hosts.
func spanning(l leg) bool { return l.sw.Driver == vnet.DriverOVN }

// reconnect is Wire for a guest that has been running for a while: libvirt may
// have forgotten the networks of its NICs.
func (w *Wirer) reconnect(ctx context.Context, dom libvirtnet.Domain) error {
	return w.Wire(ctx, Recall(w.Store, dom))
}

func (w *Wirer) log() *slog.Logger {
	if w.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return w.Log
}

func (w *Wirer) now() time.Time {
	if w.Now == nil {
		return time.Now()
	}
	return w.Now()
}

// leg is one NIC of a guest with what its network makes of it.
type leg struct {
	nic libvirtnet.DomainNIC
	// managed says that the NIC is in a network of ours.
	managed bool
	// port is what the NIC's port should be; its Switch, and sw, are empty
	// when there is nothing to wire. note says why, or why it is not ours.
	port vnet.Port
	sw   vnet.Switch
	note string
	// err is why nothing can be said about the NIC.
	err error
	// torn says that it is because the record of its network is damaged.
	torn      bool
	onFailure vnet.FailurePolicy
}

// wired reports whether the leg's port is to be brought to a state of ours.
func (l leg) wired() bool { return l.sw.Name != "" }

// lookup is the record of one network, or why there is none.
type lookup struct {
	record state.Network
	err    error
}

// legs looks up the networks of the guest's NICs, each once.
func (w *Wirer) legs(dom libvirtnet.Domain) []leg { return w.legsKnowing(dom, map[string]lookup{}) }

// legsKnowing is legs that looks up only what is not known yet.
func (w *Wirer) legsKnowing(dom libvirtnet.Domain, known map[string]lookup) []leg {
	legs := make([]leg, len(dom.NICs))
	spec := &specLookup{store: w.Store, guest: dom.Name, carried: dom.Record}
	for i, nic := range dom.NICs {
		found, ok := known[nic.Network]
		if !ok && nic.Network != "" {
			found.record, found.err = w.Store.Network(nic.Network)
			known[nic.Network] = found
		}
		legs[i] = legOf(dom.Ref(), nic, found, spec)
	}
	return legs
}

// specLookup is what the spec says of one guest, read when it is first needed,
// which most guests never do.
type specLookup struct {
	store state.Store
	guest string
	// carried is what the guest itself has with it, from another machine. A
	// record of this one goes before.
	carried string
	done    bool
	nics    []vnet.NIC // those that are not taken yet
	err     error
}

// read returns the NICs that the spec has.
func (s *specLookup) read() ([]vnet.NIC, error) {
	record, err := s.store.GuestSpec(s.guest)
	if !errors.Is(err, fs.ErrNotExist) || s.carried == "" {
		return record.Guest.NICs, err
	}
	var g vnet.Guest
	if err := json.Unmarshal([]byte(s.carried), &g); err != nil {
		return nil, fmt.Errorf("the record in its metadata: %w: %w", state.ErrDamaged, err)
	}
	return g.NICs, nil
}

// word returns what the spec says of a NIC.
func (s *specLookup) word(nic libvirtnet.DomainNIC) (vnet.NIC, error) {
	if !s.done {
		s.done = true
		s.nics, s.err = s.read()
	}
	if errors.Is(s.err, fs.ErrNotExist) {
		return vnet.NIC{}, nil
	}
	if s.err != nil {
		return vnet.NIC{}, fmt.Errorf("addresses of guest %s: %w: %s", s.guest, s.err, rewrite(s.err))
	}
	var want vnet.NIC
	want, s.nics, _ = vnet.TakeNIC(s.nics, nic.MAC, nic.Network)
	return want, nil
}

// rewrite is what helps against a record that cannot be used.
func rewrite(err error) string {
	if errors.Is(err, state.ErrNewer) {
		return "update the hook with that version's: virt-vnet hooks install"
	}
	return "write it anew with: virt-vnet repair"
}

func legOf(guest vnet.GuestRef, nic libvirtnet.DomainNIC, network lookup, spec *specLookup) leg {
	l := leg{nic: nic}
	if nic.Network == "" {
		l.note = fmt.Sprintf("not managed: not in a libvirt network (interface type %s)", nic.Type)
		return l
	}
	record, err := network.record, network.err
	if errors.Is(err, fs.ErrNotExist) {
		l.note = fmt.Sprintf("not managed: network %s is not virt-vnet's", nic.Network)
		return l
	}
	l.managed = true
	if err != nil {
		// Whether the network lets a failure pass is in the record, too.
		l.err = fmt.Errorf("network %s: %w: %s", nic.Network, err, rewrite(err))
		l.torn = errors.Is(err, state.ErrDamaged)
		return l
	}
	n := record.Network
	l.onFailure = n.OnFailure
	policy, ok := n.PolicyFor(nic.Portgroup)
	if !ok {
		l.err = fmt.Errorf("network %s: no portgroup %s: add it to the spec, then: virt-vnet apply", n.Name, nic.Portgroup)
		return l
	}
	// What the guest's own XML says is more special, or, with isolation, more
	// strict, than what the network says.
	policy.Isolated = policy.Isolated || nic.Isolated && n.Mode != vnet.ModeMacvtap
	l.port = vnet.Port{
		Device: nic.Device, Guest: guest, MAC: nic.MAC, Network: n.Name,
		Portgroup: nic.Portgroup, MTU: n.MTU, Policy: policy, LibvirtQoS: nic.Limited, InterfaceID: nic.InterfaceID,
	}
	if policy.AntiSpoof || record.Switch.Driver == vnet.DriverOVN {
		l.specified(spec, policy)
	}
	if nic.MTU != 0 {
		l.port.MTU = nic.MTU
	}
	l.attach(record)
	return l
}

// specified fills in what the spec says of the NIC.
func (l *leg) specified(spec *specLookup, policy vnet.Policy) {
	word, err := spec.word(l.nic)
	l.err = err
	l.port.Address = word.Address
	if policy.AntiSpoof {
		l.port.Own = word.Sources()
	}
}

// attach says which switch the port is on, if there is one to wire.
func (l *leg) attach(record state.Network) {
	switch n := record.Network; n.Mode {
	case vnet.ModeBridge:
		l.sw = record.Switch
		if l.nic.MACTable {
			l.err = fmt.Errorf("network %s: it has macTableManager='libvirt', with which libvirt sets up the ports of %s for itself: "+
				"take it out with: virt-vnet apply", n.Name, l.sw.Name)
		}
		if l.sw.Name == "" || l.sw.Driver == 0 {
			l.err = fmt.Errorf("network %s: %w: it has no switch: write it anew with: virt-vnet apply", n.Name, state.ErrDamaged)
		}
	case vnet.ModeNAT, vnet.ModeIsolated:
		// Libvirt makes the bridge, with all it needs for a plain network.
		switch {
		case plain(l.port):
			l.note = "nothing to wire: libvirt's own bridge does all that the network asks for"
		case l.nic.Bridge == "":
			l.note = "wired at start: libvirt's own bridge is not known before"
		default:
			l.sw = vnet.Switch{Name: l.nic.Bridge, Driver: vnet.DriverLinux}
		}
	case vnet.ModeMacvtap:
		l.note = fmt.Sprintf("nothing to wire: macvtap on %s, without a switch of the host", n.Device)
	default:
		l.err = fmt.Errorf("network %s: %w: it has no mode: write it anew with: virt-vnet apply", n.Name, state.ErrDamaged)
	}
	l.port.Switch = l.sw.Name
}

// plain reports whether the port asks for nothing of its switch that libvirt
// does not do by itself.
func plain(p vnet.Port) bool { return p.Policy.IsPlain() }

// byPolicy is err as the networks concerned want it taken.
func byPolicy(policy vnet.FailurePolicy, err error) error {
	if policy == vnet.FailureWarn && err != nil {
		return &Warning{Err: err}
	}
	return err
}

// combine makes one error of several: a [Warning] if all are.
func combine(errs []error) error {
	var refused, warned []error
	for _, err := range errs {
		if warning, ok := errors.AsType[*Warning](err); ok {
			warned = append(warned, warning.Err)
		} else {
			refused = append(refused, err)
		}
	}
	if len(refused) > 0 {
		return errors.Join(append(refused, warned...)...)
	}
	return byPolicy(vnet.FailureWarn, errors.Join(warned...))
}

// strictest is the policy for failures that concern all of the legs.
func strictest(legs []leg) vnet.FailurePolicy {
	refuses := func(l leg) bool { return l.managed && l.onFailure == vnet.FailureRefuse }
	if slices.ContainsFunc(legs, refuses) {
		return vnet.FailureRefuse
	}
	return vnet.FailureWarn
}

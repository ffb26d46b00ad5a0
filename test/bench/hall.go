// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The bridge that fills up.
const (
	hallBridge = "br3"
	hallPrefix = "vnet4-"
	hallSize   = 1000
	hundred    = 100
	lastFrom   = hallSize - hundred
	// hallGroup is the link group (ip-link(8)) of the first hundred ports: links
	// of a group are removed at once, a thousand one by one take minutes.
	hallGroup = 10
)

// hall is a Linux bridge to which guests of one NIC each come one by one, so
// that what a port costs shows whether it grows with those that are there.
type hall struct {
	b       *bench
	wirer   *hooks.Wirer
	guests  []guest
	domains []libvirtnet.Domain
	// guarded says that their network keeps them from pretending, and that the
	// spec has their addresses.
	guarded bool
	// made is how many guests' taps are there, wired how many of them are wired.
	made, wired int
}

// newHall makes the bridge and the guests, without a port yet.
func newHall(ctx context.Context, b *bench, guarded bool) (*hall, error) {
	if err := b.lab.AddLinuxBridge(ctx, hallBridge); err != nil {
		return nil, err
	}
	h := &hall{b: b, wirer: &hooks.Wirer{Store: b.store, Open: drivers.Open}, guarded: guarded}
	network := lan(hallBridge)
	network.Network.Name = "hall"
	network.Network.Policy.AntiSpoof = guarded
	if err := b.store.PutNetwork(network); err != nil {
		return nil, err
	}
	for i, n := range newNICs(network.Network.Name, hallBridge, hallPrefix, hallSize) {
		g, err := newGuest(10_000+i, []nic{n})
		if err != nil {
			return nil, err
		}
		dom, err := libvirtnet.ParseDomain(g.xml)
		if err != nil {
			return nil, err
		}
		h.guests, h.domains = append(h.guests, g), append(h.domains, dom)
		if err := h.declare(dom); guarded && err != nil {
			return nil, err
		}
	}
	return h, nil
}

// address is the IPv4 address of the i-th of many guests.
func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 4, byte(i >> 8), byte(i)}) }

// declare puts the guest's address into the spec.
func (h *hall) declare(dom libvirtnet.Domain) error {
	n := dom.NICs[0]
	return h.b.store.PutGuestSpec(state.GuestSpec{Guest: vnet.Guest{
		Name: dom.Name, NICs: []vnet.NIC{{Network: n.Network, MAC: n.MAC, Address: address(len(h.guests) - 1)}},
	}})
}

// close leaves nothing of the hall.
func (h *hall) close(ctx context.Context) error {
	errs := []error{h.clear(ctx)}
	for _, g := range h.guests {
		errs = append(errs, h.b.store.RemoveGuestSpec(g.name))
	}
	_, err := tool(ctx, nil, "ip", "link", "delete", hallBridge)
	return errors.Join(append(errs, err)...)
}

// addPorts makes taps until there are those of count guests.
func (h *hall) addPorts(ctx context.Context, count int) error {
	var nics []nic
	var groups []string
	for i := h.made; i < count; i++ {
		n := h.guests[i].nics[0]
		nics = append(nics, n)
		groups = append(groups, fmt.Sprintf("link set dev %s group %d", n.Device, hallGroup+i/hundred))
	}
	if len(nics) == 0 {
		return nil
	}
	if err := addTaps(ctx, nics); err != nil {
		return err
	}
	_, err := tool(ctx, groups, "ip", "-batch", "-")
	h.made = count
	return err
}

// removePorts removes the taps of all guests but the first count hundreds.
func (h *hall) removePorts(ctx context.Context, count int) error {
	for ; h.made > count*hundred; h.made -= hundred {
		group := fmt.Sprint(hallGroup + h.made/hundred - 1)
		if _, err := tool(ctx, nil, "ip", "link", "delete", "group", group); err != nil {
			return err
		}
	}
	h.wired = min(h.wired, h.made)
	return nil
}

// clear removes all ports, and everything about them, by means that are not
// ours.
func (h *hall) clear(ctx context.Context) error {
	errs := []error{h.removePorts(ctx, 0), noGuards(ctx)}
	for _, g := range h.guests {
		errs = append(errs, h.b.store.RemoveGuest(g.uuid))
	}
	return errors.Join(errs...)
}

// noGuards removes our nftables table, if it is there.
func noGuards(ctx context.Context) error {
	_, err := tool(ctx, []string{"table bridge virt_vnet", "delete table bridge virt_vnet", ""}, "nft", "-f", "-")
	return err
}

// fill makes it so that count guests are wired, which is whole hundreds.
func (h *hall) fill(ctx context.Context, count int) error {
	if h.wired > count && count == 0 {
		return h.clear(ctx)
	}
	for i := count; i < h.wired; i++ {
		if _, err := h.byUnwire(ctx, i); err != nil {
			return err
		}
	}
	if err := h.removePorts(ctx, count/hundred); err != nil {
		return err
	}
	if err := h.addPorts(ctx, count); err != nil {
		return err
	}
	for ; h.wired < count; h.wired++ {
		if err := h.wirer.Wire(ctx, h.domains[h.wired]); err != nil {
			return err
		}
	}
	return nil
}

// job is what is done to one guest, and its cost.
type job func(ctx context.Context, i int) (time.Duration, error)

// byHook wires a guest as libvirt has it done. The cost is CPU time: most of it
// is the start of a process, whose wall time is the machine's business, and the
// one hundred is measured a while after the other.
func (h *hall) byHook(ctx context.Context, i int) (time.Duration, error) {
	p, err := newProcess(ctx, h.b.hook, h.guests[i])
	if err != nil {
		return 0, err
	}
	if err := p.cmd.Start(); err != nil {
		return 0, errors.Join(err, p.stdin.Close())
	}
	err = p.wait()
	return p.cpu(), err
}

// byWirer does the same without a new process, whose start would hide a growth
// of the rest, and takes the wall time.
func (h *hall) byWirer(ctx context.Context, i int) (time.Duration, error) {
	begun := time.Now()
	err := h.wirer.Wire(ctx, h.domains[i])
	return time.Since(begun), err
}

// byUnwire releases a guest's port.
func (h *hall) byUnwire(ctx context.Context, i int) (time.Duration, error) {
	begun := time.Now()
	err := h.wirer.Unwire(ctx, h.guests[i].uuid)
	return time.Since(begun), err
}

// byRepair puts the port of a guest back.
func (h *hall) byRepair(ctx context.Context, i int) (time.Duration, error) {
	begun := time.Now()
	changed, err := h.wirer.Repair(ctx, h.domains[i])
	took := time.Since(begun)
	if err == nil && (len(changed) != 1 || len(changed[0].Changes) != 1) {
		err = fmt.Errorf("guest %s: %d switches changed, want one, and one port of it", h.guests[i].name, len(changed))
	}
	return took, err
}

// perPort is the median of what do costs for the hundred guests from the one
// given.
func perPort(ctx context.Context, from int, do job) (time.Duration, error) {
	costs := make([]time.Duration, hundred)
	for i := range costs {
		var err error
		if costs[i], err = do(ctx, from+i); err != nil {
			return 0, err
		}
	}
	return median(costs), nil
}

// comers is a hundred guests that come when so many are there.
func (h *hall) comers(name string, from int, wire job) contender {
	return contender{
		name: name,
		reset: func(ctx context.Context) error {
			if err := h.fill(ctx, from); err != nil {
				return err
			}
			return h.addPorts(ctx, from+hundred)
		},
		run: func(ctx context.Context) (time.Duration, error) {
			took, err := perPort(ctx, from, wire)
			h.wired = from + hundred
			return took, err
		},
		check: h.check,
	}
}

// goers is the last hundred guests of so many, that go one by one.
func (h *hall) goers(name string, from int) contender {
	return contender{
		name:  name,
		reset: func(ctx context.Context) error { return h.fill(ctx, from+hundred) },
		run: func(ctx context.Context) (time.Duration, error) {
			took, err := perPort(ctx, from, h.byUnwire)
			h.wired = from
			return took, err
		},
		check: func(ctx context.Context) error {
			if from == 0 {
				return nil // nothing is left, not even the table
			}
			return h.check(ctx)
		},
	}
}

// broken is a hundred guests that are repaired when so many of all thousand are
// already.
func (h *hall) broken(name string, from int) contender {
	return contender{
		name: name,
		reset: func(ctx context.Context) error {
			if err := h.fill(ctx, hallSize); err != nil {
				return err
			}
			for _, g := range h.guests {
				if err := h.attack(g.nics[0].Device); err != nil {
					return err
				}
			}
			return h.repair(ctx, 0, from)
		},
		run: func(ctx context.Context) (time.Duration, error) { return perPort(ctx, from, h.byRepair) },
		check: func(ctx context.Context) error {
			return errors.Join(h.repair(ctx, from+hundred, hallSize), h.check(ctx))
		},
	}
}

// attack gives a port back what libvirt left it with, but for our mark.
func (h *hall) attack(device string) error {
	return portState{"mtu": "1500", "brport/isolated": "0", "brport/bpdu_guard": "0"}.set(device)
}

// repair puts the ports of some guests back.
func (h *hall) repair(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		if _, err := h.byRepair(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// check finds out whether every port that is to be wired is, and nftables has
// the addresses of as many if they are guarded.
func (h *hall) check(ctx context.Context) error {
	mark := ""
	if h.guarded {
		mark = " guarded"
	}
	var errs []error
	for _, g := range h.guests[:h.wired] {
		n := g.nics[0]
		want := lanPort()
		want["ifalias"] = fmt.Sprintf("virt-vnet guest=%s mac=%s%s network=%s", g.uuid, n.MAC, mark, n.Network)
		errs = append(errs, want.check(n.Device, n.Bridge), h.b.checkRecord(g))
	}
	if h.guarded {
		errs = append(errs, checkGuards(ctx, h.wired))
	}
	return errors.Join(errs...)
}

// checkGuards counts the IPv4 addresses that nftables binds ports to.
func checkGuards(ctx context.Context, want int) error {
	text, err := tool(ctx, nil, "nft", "-j", "list", "set", "bridge", "virt_vnet", "ipv4")
	if got := strings.Count(text, `"concat"`); err == nil && got != want {
		err = fmt.Errorf("nftables guards %d addresses, want %d", got, want)
	}
	return err
}

// oneByOne measures the first and the last hundred of a thousand guests that
// come one by one, by the hook and by what is in it.
func oneByOne(ctx context.Context, b *bench, guarded bool) (m medians, err error) {
	h, err := newHall(ctx, b, guarded)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close(ctx)) }()
	return interleave(
		ctx, effort{least: 4, most: 21, limit: 20 * time.Second},
		h.comers("first", 0, h.byHook), h.comers("first, wiring", 0, h.byWirer),
		h.comers("last", lastFrom, h.byHook), h.comers("last, wiring", lastFrom, h.byWirer),
	)
}

// release measures the last hundred of a thousand guests, and of a hundred, that
// go one by one.
func release(ctx context.Context, b *bench) (m medians, err error) {
	h, err := newHall(ctx, b, true)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close(ctx)) }()
	return interleave(
		ctx, effort{least: 3, most: 21, limit: 15 * time.Second},
		h.goers("first", 0), h.goers("last", lastFrom),
	)
}

// repairAll measures the first and the last hundred of a thousand guests that
// are repaired together.
func repairAll(ctx context.Context, b *bench) (m medians, err error) {
	h, err := newHall(ctx, b, true)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close(ctx)) }()
	return interleave(
		ctx, effort{least: 5, most: 21, limit: 20 * time.Second},
		h.broken("first", 0), h.broken("last", lastFrom),
	)
}

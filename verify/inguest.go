// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Inside looks into running guests, through the agents in them. It is called from
// several goroutines at a time.
type Inside interface {
	// Interfaces returns the guest's network interfaces.
	Interfaces(ctx context.Context, guest vnet.GuestRef) ([]GuestInterface, error)
	// Exec runs a program of the guest, given without a directory, and returns
	// what it prints. No shell comes in between.
	Exec(ctx context.Context, guest vnet.GuestRef, program string, args ...string) (string, error)
}

// GuestInterface is a network interface as the guest has it.
type GuestInterface struct {
	Name      string
	MAC       vnet.MAC
	Addresses []netip.Prefix
}

// What looking into guests may take: all of them together, one of them, and how
// many are looked into at a time.
const (
	insideLimit = 10 * time.Second
	guestLimit  = 3 * time.Second
	insideMany  = 5
)

// maxOwn is how many interfaces of a guest that have the NIC's MAC address are
// looked at: a bridge, a bond or VLAN interfaces on top of it have it too.
const maxOwn = 4

// lookInside adds to problems that the guest itself may explain what can be seen
// in the guest. It changes no verdict. Of problems that many guests share, a few
// are looked into.
func (r *run) lookInside(ctx context.Context) error {
	nics := r.mayExplain()
	if r.opts.Inside == nil || len(nics) == 0 {
		return nil
	}
	r.opts.Progress("looking into guests that fail")
	limited, cancel := context.WithTimeout(ctx, insideLimit)
	defer cancel()
	seen := make([][]string, len(nics))
	errs := make([]error, len(nics))
	var looking errgroup.Group
	looking.SetLimit(insideMany)
	for i, n := range nics {
		looking.Go(func() error {
			mine, done := context.WithTimeout(limited, guestLimit)
			defer done()
			seen[i], errs[i] = n.lookInside(mine, r.opts.Inside)
			return nil
		})
	}
	_ = looking.Wait() // no error comes
	failed := map[string][]string{}
	for i, n := range nics {
		for _, line := range seen[i] {
			n.problem.Evidence = append(n.problem.Evidence, "in guest "+n.guest.Name+": "+line)
		}
		if errs[i] != nil {
			why := errs[i].Error()
			if errors.Is(errs[i], context.DeadlineExceeded) {
				why = "no agent answers in time"
			}
			failed[why] = append(failed[why], n.guest.Name)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(failed)) {
		r.insideNotes = append(r.insideNotes, fmt.Sprintf("what could be seen inside of %s is not in the evidence, or not all of it: %s",
			strings.Join(sortedUnique(failed[why]), ", "), why))
	}
	return ctx.Err()
}

// mayExplain are the selected NICs with a problem of the guest, of each problem
// a few.
func (r *run) mayExplain() []*nic {
	type key struct{ code, subject string }
	asked := map[key]int{}
	var out []*nic
	for _, n := range r.nics {
		p := n.problem
		if !n.selected || n.away != "" || p == nil || p.Waived != nil || !n.running || !p.inside() {
			continue
		}
		if k := (key{p.Code, p.Subject}); asked[k] < shownAlike {
			asked[k]++
			out = append(out, n)
		}
	}
	return out
}

// inside reports whether the cause may be seen in the guest.
func (p *Problem) inside() bool {
	return p.unanswered() || slices.Contains([]string{CodeDHCPNotTaken, CodeGuardDrops, CodeGatewayUnreachable, CodePathMTU}, p.Code)
}

// lookInside returns what can be seen of the NIC's problem in its guest. With an
// error it may be part of it.
func (n *nic) lookInside(ctx context.Context, in Inside) ([]string, error) {
	interfaces, err := in.Interfaces(ctx, n.guest)
	if err != nil {
		return nil, err
	}
	own := slices.DeleteFunc(interfaces, func(i GuestInterface) bool { return i.MAC != n.Want.MAC })
	if len(own) == 0 {
		return []string{"no interface has the MAC address " + n.Want.MAC.String()}, nil
	}
	own = own[:min(len(own), maxOwn)]
	var seen []string
	for _, i := range own {
		if !validInterface(i.Name) {
			continue
		}
		text, err := in.Exec(ctx, n.guest, "ip", "link", "show", "dev", i.Name)
		if err != nil {
			return append(seen, n.ownAddresses(own)...), err
		}
		seen = append(seen, linkState(i.Name, text)...)
	}
	more, err := n.lookFurther(ctx, in)
	return slices.Concat(seen, n.ownAddresses(own), more), err
}

// lookFurther looks at what only some problems may come from.
func (n *nic) lookFurther(ctx context.Context, in Inside) ([]string, error) {
	gw := n.network.Gateway
	switch {
	case n.problem.Code == CodeICMPFiltered && n.address.Addr.IsValid():
		text, err := in.Exec(ctx, n.guest, "cat", "/proc/sys/net/ipv4/icmp_echo_ignore_all")
		if err == nil && strings.TrimSpace(text) == "1" {
			return []string{"it ignores ICMP echo: sysctl net.ipv4.icmp_echo_ignore_all is 1"}, nil
		}
		return nil, err
	case n.problem.Code == CodeGatewayUnreachable:
		family := choose(gw.Is6(), "-6", "-4")
		routes, err := in.Exec(ctx, n.guest, "ip", family, "route", "show", "default")
		if err != nil {
			return nil, err
		}
		neighbours, err := in.Exec(ctx, n.guest, "ip", family, "neigh", "show", "to", gw.String())
		return slices.Concat(defaultRoute(routes), neighbour(neighbours, gw)), err
	}
	return nil, nil
}

// validInterface reports whether a guest's name of an interface is one, and not
// an option of a program.
func validInterface(name string) bool {
	return name != "" && len(name) <= 15 && !strings.HasPrefix(name, "-") && !strings.ContainsAny(name, "/ \t\n")
}

// ownAddresses says which addresses the interfaces have, and whether the one is
// among them that the guest is asked at.
func (n *nic) ownAddresses(own []GuestInterface) []string {
	is6 := n.problem.Code == CodeNoND || !n.address.Addr.IsValid() && n.address6.Addr.IsValid()
	want, kind := n.address.Addr, "IPv4"
	if is6 {
		want, kind = n.address6.Addr, "IPv6"
	}
	var names, lines []string
	for _, i := range own {
		names = append(names, i.Name)
		var has []string
		for _, p := range i.Addresses {
			if p.Addr() == want {
				return []string{i.Name + " has " + p.String()}
			}
			if p.Addr().Is6() == is6 {
				has = append(has, p.String())
			}
		}
		if len(has) > 0 {
			lines = append(lines, i.Name+" has "+strings.Join(has, ", "))
		}
	}
	if len(lines) == 0 {
		return []string{strings.Join(names, ", ") + " has no " + kind + " address"}
	}
	if want.IsValid() {
		lines = append(lines, "it does not have "+want.String())
	}
	return lines
}

// linkState reads what iproute2's and busybox's "ip link show dev DEVICE" print:
//
//	2: eth0: <BROADCAST,MULTICAST,NOARP,UP,LOWER_UP> mtu 1500 qdisc ...
func linkState(device, text string) []string {
	_, rest, _ := strings.Cut(text, "<")
	list, rest, ok := strings.Cut(rest, ">")
	if !ok {
		return nil
	}
	flags := strings.Split(list, ",")
	has := func(flag string) bool { return slices.Contains(flags, flag) }
	state := device + " is up"
	switch {
	case !has("UP"):
		state = device + " is down"
	case has("NO-CARRIER"):
		state = device + " is up and has no carrier"
	}
	if words := strings.Fields(rest); len(words) > 1 && words[0] == "mtu" {
		state += ", with MTU " + words[1]
	}
	if has("NOARP") {
		return []string{state, "ARP is off at " + device + " (NOARP)"}
	}
	return []string{state}
}

// defaultRoute reads what "ip route show default" prints.
func defaultRoute(text string) []string {
	first, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if first == "" {
		return []string{"it has no default route"}
	}
	return []string{"it has the route " + strings.TrimSpace(first)}
}

// neighbour reads out of what "ip neigh show" prints what the guest knows of the
// gateway, if anything:
//
//	10.0.20.1 dev eth0 lladdr 52:54:00:00:00:01 REACHABLE
func neighbour(text string, gateway netip.Addr) []string {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if addr, err := netip.ParseAddr(words[0]); err == nil && addr == gateway {
			return []string{"its neighbour table has " + strings.Join(words, " ")}
		}
	}
	return []string{"its neighbour table does not have " + gateway.String()}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"fmt"
	"slices"
)

// noteVanished looks at the devices once more. What was found about one that
// went away meanwhile, or about guests behind a vantage that did, is worth
// nothing.
func (r *run) noteVanished() error {
	host, err := dumpLinks()
	if err != nil {
		return err
	}
	for _, n := range r.nics {
		if n.vanished = n.lostFrom(host); n.hasLink && n.vanished == "" {
			now := host[n.Want.Device]
			n.counted, n.in, n.out = true, now.in.since(n.link.in), now.out.since(n.link.out)
		}
	}
	for _, s := range r.segments {
		if now := host[s.device]; s.prober == nil || now.index == s.prober.device && now.up {
			continue
		}
		err := fmt.Errorf("the vantage %s in %s vanished during the run", s.device, s)
		r.limit("guests are not probed", err)
		for _, n := range s.nics {
			n.probe, n.probe6 = probe{reason: err.Error()}, probe{}
			n.gateway.asked, n.swept, n.conflict, n.length = false, false, nil, lengthProbe{}
		}
	}
	return nil
}

// lostFrom says what has become of the NIC's device since the run began, or ""
// when it is there as it was.
func (n *nic) lostFrom(host links) string {
	device := "its device " + n.Want.Device
	now, there := host[n.Want.Device]
	switch {
	case !n.hasLink:
	case !there:
		return device + " vanished during the run"
	case now.index != n.link.index:
		return device + " was replaced during the run"
	case n.link.up && !now.up || n.link.carrier && !now.carrier:
		return device + " went down during the run"
	}
	return ""
}

// noteVanished looks at the devices of the talks once more, now that they have
// been held. What was found before about the NICs themselves remains.
func (c *conversation) noteVanished() error {
	host, err := dumpLinks()
	if err != nil {
		return err
	}
	for _, t := range c.talks {
		for _, n := range t.ends() {
			if lost := n.lostFrom(host); lost != "" && t.vanished == "" {
				t.vanished = n.guest.Name + ": " + lost
			}
		}
	}
	return nil
}

// pardon takes back what was found about a device that is not there any more,
// unless it was so before the first probe.
func (n *nic) pardon() {
	known := slices.ContainsFunc(staticSteps(), func(s step) bool { return s.name == n.broken() })
	if n.vanished == "" || known {
		return
	}
	n.problem = nil
	for i, r := range n.rungs {
		switch r.Name {
		case RungDomain:
		case RungNIC:
			n.rungs[i] = &Rung{Name: r.Name, Status: StatusInconclusive, Reason: n.vanished}
		default:
			n.rungs[i] = &Rung{Name: r.Name, Status: StatusNotReached}
		}
	}
}

// pardon does the same for a pair, and takes back that nothing arrives at a guest
// that may have been gone by then. What was delivered remains.
func (p *pair) pardon(result *PairResult) {
	for _, n := range []*nic{p.from, p.to} {
		proved := n == p.to && p.expect == ExpectIsolation && result.Status == StatusPass
		if n.vanished != "" && (proved || result.Status == StatusFail) {
			result.Status, result.Reason, result.Control = StatusInconclusive, n.guest.Name+": "+n.vanished, ""
		}
	}
}

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
		now, there := host[n.Want.Device]
		switch {
		case !n.hasLink:
		case !there:
			n.vanished = "its device " + n.Want.Device + " vanished during the run"
		case now.index != n.link.index:
			n.vanished = "its device " + n.Want.Device + " was replaced during the run"
		case n.link.up && !now.up || n.link.carrier && !now.carrier:
			n.vanished = "its device " + n.Want.Device + " went down during the run"
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
			n.rungs[i] = Rung{Name: r.Name, Status: StatusInconclusive, Reason: n.vanished}
		default:
			n.rungs[i] = Rung{Name: r.Name, Status: StatusNotReached}
		}
	}
}

// pardon does the same for a pair. What was delivered remains.
func (p *pair) pardon(result *PairResult) {
	for _, n := range []*nic{p.from, p.to} {
		if n.vanished != "" && result.Status == StatusFail {
			result.Status, result.Reason = StatusInconclusive, n.guest.Name+": "+n.vanished
		}
	}
}

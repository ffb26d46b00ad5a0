// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import "slices"

// maxAskers is how many guests a silent gateway is asked as.
const maxAskers = 3

// chooseAskers picks a few guests that answer, if the gateway does not answer the
// vantage.
func (s *segment) chooseAskers() {
	for _, n := range s.nics {
		if len(s.askers) == maxAskers {
			return
		}
		if n.gatewayDead() && n.asksGateway() && (n.probe.target.arp || n.probe6.target.arp) {
			s.askers = append(s.askers, n)
		}
	}
}

// answered is one of the askers that the gateway answered, or nil.
func (s *segment) answered() *nic {
	for _, n := range s.askers {
		if n.gateway.heard {
			return n
		}
	}
	return nil
}

// asksAs reports whether a gateway that does not answer the vantage is to be
// asked as the guest: as a few of them, and as all when one of those is answered.
func (s *segment) asksAs(n *nic) bool {
	return slices.Contains(s.askers, n) || s.answered() != nil && n.asksGateway()
}

// gatewayDead reports whether the NIC's gateway does not answer the vantage.
func (n *nic) gatewayDead() bool { return n.gateway.asked && !n.gateway.answered }

// asksGateway reports whether the NIC has a gateway that can be asked as the
// guest, and a ladder that goes on to there.
func (n *nic) asksGateway() bool {
	gw := n.network.Gateway
	own := n.own(gw.Is6())
	return gw.IsValid() && own.IsValid() && own != gw && n.sound() && !n.dropsEcho() && n.speaks()
}

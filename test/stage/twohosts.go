// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package stage

import (
	"fmt"
	"os"
	"strings"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TwoHosts returns the text of a spec that is about the hosts kvm1 and kvm2 and
// the northbound database at 192.0.2.10, such as that of the example
// ovn-two-hosts, with the names of a cluster's hosts and database in their place.
func TwoHosts(c *lab.Cluster, specFile string) (string, error) {
	text, err := os.ReadFile(specFile)
	if err != nil {
		return "", err
	}
	var replace []string
	for i, h := range c.Hosts {
		name := fmt.Sprintf("kvm%d", i+1)
		replace = append(replace, "qemu+ssh://"+name+"/system", h.URI(), name, h.Name)
	}
	return strings.NewReplacer(append(replace, "tcp:192.0.2.10:6641", c.Central.NBTCP())...).Replace(string(text)), nil
}

// Mobile returns the guests of the topology as [Guests] does, fit for OVN: they
// ask for their address, and their NICs have an id of their own, which they keep
// when they move. The n-th is for the host n, counted around.
func Mobile(t vnet.Topology, hosts int) [][]*lab.Guest {
	places := make([][]*lab.Guest, hosts)
	for i, g := range Guests(t) {
		for n := range g.NICs {
			nic := &g.NICs[n]
			nic.Addresses, nic.DHCP = nil, true
			nic.InterfaceID = lab.UUIDFor(fmt.Sprintf("%s/%d", g.Name, n))
		}
		places[i%hosts] = append(places[i%hosts], g)
	}
	return places
}

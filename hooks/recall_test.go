// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// forgetful is the guest's XML after somebody changed a NIC of it: libvirt says
// only which bridge it is on.
func forgetful(dom libvirtnet.Domain) libvirtnet.Domain {
	nics := make([]libvirtnet.DomainNIC, len(dom.NICs))
	for i, nic := range dom.NICs {
		nic.Network, nic.Portgroup = "", ""
		nics[i] = nic
	}
	dom.NICs = nics
	return dom
}

// When libvirt restarts, the ports of such a guest must not be released.
func TestReconnectRecalls(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	s.plug(devices)
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	want := s.host.String()
	s.switches["br0"].setMTU(1234)
	if err := s.Handler().Reconnect(t.Context(), forgetful(dom)); err != nil {
		t.Fatal(err)
	}
	s.checkHost(t, want)
	s.checkRecord(t, true, "vnet0", "vnet1", "vnet2")
}

func TestRecall(t *testing.T) {
	s := newSite(t)
	dom, devices := twoSwitches()
	if diff := cmp.Diff(forgetful(dom), hooks.Recall(s.Store, forgetful(dom))); diff != "" {
		t.Errorf("without a record (-want +got):\n%s", diff)
	}
	s.plug(devices)
	if err := s.Wire(t.Context(), dom); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(dom, hooks.Recall(s.Store, forgetful(dom))); diff != "" {
		t.Errorf("with a record (-want +got):\n%s", diff)
	}
	other := dom
	other.NICs = []libvirtnet.DomainNIC{nic(1, "", "vnet7"), nic(9, "", "vnet0"), nic(2, "blue", "vnet1")}
	if diff := cmp.Diff(other, hooks.Recall(s.Store, other)); diff != "" {
		t.Errorf("other NICs (-want +got):\n%s", diff)
	}
}

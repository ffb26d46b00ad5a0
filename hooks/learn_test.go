// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// call has libvirt call the network hook with a definition.
func (s *site) call(t *testing.T, operation, definition string) (exitCode int, said string) {
	t.Helper()
	var stderr bytes.Buffer
	_, network, _ := strings.Cut(definition, "<name>")
	name, _, _ := strings.Cut(network, "</name>")
	code := hooks.Main(t.Context(), hooks.Env{
		Args:   []string{"/etc/libvirt/hooks/network", name, operation, "begin", "-"},
		Stdin:  strings.NewReader("<hookData>" + definition + "</hookData>"),
		Stderr: &stderr,
		Now:    time.Now,
		Record: s.Store.PutRun,
	}, s.Handler())
	return code, stderr.String()
}

func TestLearn(t *testing.T) {
	s := newSite(t)
	ovs := vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS, Database: vnet.Endpoints{{Transport: vnet.TransportTCP, Address: "192.0.2.1:6640"}}}
	n := vnet.Network{Name: "new", Mode: vnet.ModeBridge, Switch: "ovs0", Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}, AntiSpoof: true}}
	text := func(n vnet.Network) string {
		t.Helper()
		plain, err := libvirtnet.NetworkXML(n, ovs, 9_000_000)
		if err != nil {
			t.Fatal(err)
		}
		record, err := hooks.Carry(n, ovs)
		if err != nil {
			t.Fatal(err)
		}
		return libvirtnet.WithRecord(plain, record)
	}
	port := `<networkport><uuid>%[1]s</uuid><owner><name>g1</name><uuid>%[1]s</uuid></owner><mac address="52:54:00:00:00:01"/></networkport>`
	port = fmt.Sprintf(port, uuid1)
	check := func(what string, want vnet.VLANID) {
		t.Helper()
		r, err := s.Store.Network("new")
		if err != nil || r.Network.Policy.VLAN.Access != want || !r.Network.Policy.AntiSpoof || r.Switch.Database.String() != "tcp:192.0.2.1:6640" {
			t.Errorf("%s: the record is %+v, %v", what, r, err)
		}
	}

	if code, said := s.call(t, "started", text(n)); code != 0 {
		t.Fatal(said)
	}
	check("started", 20)
	n.Policy.VLAN.Access = 21
	if code, said := s.call(t, "started", text(n)); code != 0 {
		t.Fatal(said)
	}
	check("started anew", 21)
	// One that has been running for longer than the record is old.
	n.Policy.VLAN.Access = 20
	s.call(t, "port-created", text(n)+port)
	check("a port of an older definition", 21)
	if err := s.Store.RemoveNetwork("new"); err != nil {
		t.Fatal(err)
	}
	s.call(t, "port-created", text(n)+port)
	check("a port without a record", 20)
}

func TestLearnNothing(t *testing.T) {
	s := newSite(t)
	for name, definition := range map[string]string{
		"foreign":   `<network><name>new</name><metadata><network>{"network":{"name":"new"}}</network></metadata></network>`,
		"no record": `<network><name>new</name><metadata><v:network xmlns:v="` + libvirtnet.Namespace + `" format="1"/></metadata></network>`,
	} {
		if code, said := s.call(t, "started", definition); code != 0 || said != "" {
			t.Errorf("%s: exit code %d: %s", name, code, said)
		}
	}
	mark := `<metadata><v:network xmlns:v="` + libvirtnet.Namespace + `" format="1">%s</v:network></metadata>`
	for record, want := range map[string]string{
		`{"network":{"name":"red"}}`: `network new: the record in its definition is of network "red"`,
		`{"network":`:                "network new: the record in its definition: unexpected end",
	} {
		code, _ := s.call(t, "started", "<network><name>new</name>"+fmt.Sprintf(mark, record)+"</network>")
		run, err := s.Store.LastError()
		if code != 0 || err != nil || !strings.HasPrefix(run.Error, want) || run.Result != state.ResultWarned {
			t.Errorf("exit code %d, last error %+v, %v, want %s", code, run, err, want)
		}
	}
	if _, err := s.Store.Network("new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a record: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestRemoteDatabase has the driver pass its tests over tcp and ssl. The
// control socket of ovs-vswitchd is the host's own all the same.
func TestRemoteDatabase(t *testing.T) {
	l := start(t)
	certs := lab.CertificatesIn(t.TempDir())
	if err := certs.Write("lab", netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	vsctl(t, l, "set-ssl", certs.ServerKey, certs.Server, certs.CA)
	vsctl(t, l, "set-manager", "ptcp:6640:127.0.0.1", "pssl:6641:127.0.0.1")
	for _, endpoint := range []string{"tcp:127.0.0.1:6640", "ssl:127.0.0.1:6641"} {
		t.Run(endpoint, func(t *testing.T) {
			f := fixture(l)
			f.Switch.TLS = vnet.TLS{Key: certs.ClientKey, Certificate: certs.Client, CA: certs.CA}
			if err := f.Switch.Database.UnmarshalText([]byte(endpoint)); err != nil {
				t.Fatal(err)
			}
			switchtest.Conformance(t, f)
			d, err := ovs.Open(t.Context(), f.Switch)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // it was only read from
			if _, err := d.Inspect(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := d.Learned(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wrong := ovs0
	wrong.TLS = vnet.TLS{Key: certs.ClientKey, Certificate: certs.Client, CA: certs.WrongCA}
	wrong.Database = vnet.Endpoints{{Transport: vnet.TransportSSL, Address: "127.0.0.1:6641"}}
	if d, err := ovs.Open(t.Context(), wrong); !errors.Is(err, switchcfg.ErrPermission) {
		t.Errorf("with the wrong CA: got %v, %v", d, err)
	}
}

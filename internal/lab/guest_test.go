// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

const natNetwork = `<network><name>nat</name><forward mode='nat'/><bridge name='virbr7'/>
<ip address='192.168.77.1' netmask='255.255.255.0'><dhcp><range start='192.168.77.50' end='192.168.77.60'/></dhcp></ip></network>`

// TestGuests boots one guest of each kind of attachment at the same time and
// looks at all of them from outside and from inside.
func TestGuests(t *testing.T) {
	lab.Need(t, lab.Guests, lab.OVS)
	ctx := t.Context()
	l := labtest.Start(t, lab.Options{Libvirt: true, OVS: true})
	must(t, l.AddOVSBridge(ctx, "br0"))
	must(t, l.AddLinuxBridge(ctx, "lan0"))
	red := &lab.Station{Name: "red", Bridge: "br0", VLAN: 20, Addresses: prefixes("10.0.20.1/24")}
	blue := &lab.Station{Name: "blue", Bridge: "br0", VLAN: 30, Addresses: prefixes("10.0.20.1/24")}
	lan := &lab.Station{Name: "lan", Bridge: "lan0", Addresses: prefixes("10.1.0.1/24", "fd00:1::1/64")}
	far := &lab.Station{Name: "far", Device: "uplink0", Addresses: prefixes("10.2.0.1/24")}
	for _, s := range []*lab.Station{red, blue, lan, far} {
		must(t, l.AddStation(ctx, s))
	}
	defineNAT(t, l)
	begin := time.Now()
	must(t, l.Boot(ctx,
		&lab.Guest{Name: "ovs", NICs: []lab.NIC{{
			Bridge: "br0", VLAN: 20,
			Addresses: prefixes("10.0.20.11/24"), Gateway: netip.MustParseAddr("10.0.20.1"),
		}}},
		&lab.Guest{Name: "lan", NICs: []lab.NIC{
			{Bridge: "lan0", Model: "e1000", MTU: 1400, Addresses: prefixes("10.1.0.11/24", "fd00:1::11/64")},
			{Bridge: "lan0", Model: "rtl8139", VLANs: []lab.SubInterface{{ID: 40, Address: prefixes("10.40.0.11/24")[0]}}},
			{Network: "nat", DHCP: true},
		}},
		&lab.Guest{Name: "tap", NICs: []lab.NIC{{Uplink: "uplink0", Addresses: prefixes("10.2.0.11/24")}}},
	))
	t.Logf("three guests up after %v", time.Since(begin))

	t.Run("ping", func(t *testing.T) {
		for addr, from := range map[string]*lab.Station{"10.0.20.11": red, "10.1.0.11": lan, "fd00:1::11": lan, "10.2.0.11": far} {
			must(t, from.WaitPing(ctx, netip.MustParseAddr(addr), 5*time.Second))
		}
		if err := blue.Ping(ctx, netip.MustParseAddr("10.0.20.11")); !errors.Is(err, lab.ErrNoAnswer) {
			t.Errorf("ping from the wrong VLAN: got %v, want no answer", err)
		}
	})
	t.Run("exec", func(t *testing.T) { testExec(t, l) })
	t.Run("tcp", func(t *testing.T) { testTCP(t, l, red) })
}

func defineNAT(t *testing.T, l *lab.Lab) {
	t.Helper()
	must(t, l.DefineNetwork(t.Context(), natNetwork))
	if out, err := l.Virsh(t.Context(), "net-list", "--name"); err != nil || out != "nat" {
		t.Fatalf("active networks: got %q, %v, want nat", out, err)
	}
}

func testExec(t *testing.T, l *lab.Lab) {
	for _, tt := range []struct{ guest, command, want string }{
		{"ovs", "ping -c1 -W2 10.0.20.1", "1 packets received"},
		{"ovs", "ip route", "default via 10.0.20.1"},
		{"tap", "ping -c1 -W2 10.2.0.1", "1 packets received"},
		{"lan", "ip addr", "inet 10.40.0.11/24"},
		{"lan", "ip addr", "inet 192.168.77."},
		{"lan", "ip link", "mtu 1400"},
		{"lan", "echo one; echo two >&2; exit 0", "one\ntwo"},
	} {
		out, err := l.Exec(t.Context(), tt.guest, tt.command)
		if err != nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s: %s: got %q, %v, want %q", tt.guest, tt.command, out, err, tt.want)
		}
	}
	var failed *lab.ExecError
	out, err := l.Exec(t.Context(), "ovs", "echo no; exit 3")
	if !errors.As(err, &failed) || failed.Status != 3 || out != "no" {
		t.Errorf("failing command: got %q, %v, want status 3", out, err)
	}
}

// testTCP sends enough for many full frames: a wrong checksum or an oversized
// frame on the userspace datapath shows here and not in ping.
func testTCP(t *testing.T, l *lab.Lab, s *lab.Station) {
	var listener net.Listener
	must(t, s.Do(func() (err error) {
		listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "10.0.20.1:7000")
		return err
	}))
	defer listener.Close() //nolint:errcheck // the second time
	received := make(chan int64, 1)
	go func() {
		defer close(received)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // it was only read from
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	}()
	out, err := l.Exec(t.Context(), "ovs", "dd if=/dev/zero bs=1000 count=200 2>/dev/null | nc -w 5 10.0.20.1 7000")
	must(t, err)
	must(t, listener.Close())
	if n := <-received; n != 200_000 {
		t.Errorf("received %d bytes, want 200000; guest said %q", n, out)
	}
}

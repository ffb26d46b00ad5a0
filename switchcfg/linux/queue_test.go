// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// tap makes a tap as QEMU has it, and returns a function that reads what waits
// in it: whether a frame is there.
func tap(t *testing.T, name string) (waits func(frame []byte) bool) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatal(err)
	}
	return func(frame []byte) bool {
		t.Helper()
		found := false
		for buf := make([]byte, 9216); ; {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EAGAIN) {
				return found
			}
			if err != nil {
				t.Fatal(err)
			}
			found = found || bytes.HasPrefix(buf[:n], frame)
		}
	}
}

// TestVLANChangeEmptiesQueue checks that a guest never reads what was flooded in
// the VLAN that its tap was in before it was wired.
func TestVLANChangeEmptiesQueue(t *testing.T) {
	l := start(t)
	if !canFilter(t) {
		return // TestVLANTraffic sees to it that the driver says so
	}
	ip(t, "link", "set", "br0", "type", "bridge", "vlan_filtering", "1")
	stray := station(t, l, "stray", 1)
	waits := tap(t, "vnet0")
	ip(t, "link", "set", "vnet0", "master", "br0", "up")
	d := openBR0(t)
	port := vnet.Port{Device: "vnet0", Switch: "br0", Network: "red", Guest: vnet.GuestRef{UUID: "u1"}, Policy: vnet.Policy{VLAN: vnet.VLANSet{Access: 20}}}
	noise := frame(broadcast, stray.MAC, experimental, 'n')
	flood := func() {
		t.Helper()
		for range 20 {
			if err := stray.Inject(noise); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(100 * time.Millisecond) // for all to be there
	}
	flood()
	if !waits(noise) {
		t.Fatal("nothing waits in the tap: the probe shows nothing")
	}
	flood()
	wirePort(t, d, br0, port)
	if waits(noise) {
		t.Error("frames of VLAN 1 wait for a guest of VLAN 20")
	}
	flood()
	if waits(noise) {
		t.Error("VLAN 1 reaches a guest of VLAN 20")
	}
	wire(t, d, stray, vnet.Policy{VLAN: vnet.VLANSet{Access: 20}})
	flood()
	if !waits(noise) {
		t.Error("VLAN 20 does not reach a guest of VLAN 20")
	}
	prove(t, "access VLAN", "a guest reads frames of its VLAN", "frames that came in the default VLAN before it was wired it never reads")
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package guardtest

import (
	stdbytes "bytes"
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// Wire is a bridge with a guest and one who listens.
type Wire struct {
	// Port is the guest's, and Index the number that the kernel knows it by.
	Port  string
	Index int

	guest    end
	listener end
	sent     uint64 // markers
}

// NewWire plugs both into a bridge of the lab.
func NewWire(t *testing.T, l *lab.Lab, bridge string) *Wire {
	t.Helper()
	// A frame and the one behind it stay in order on one processor only.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(one) * 64 {
		if old.IsSet(cpu) && one.Count() == 0 {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.SchedSetaffinity(0, &old) })
	w := &Wire{}
	w.guest = newEnd(t, l, &lab.Station{Name: "a", Bridge: bridge, MAC: GuestMAC.HardwareAddr()})
	w.listener = newEnd(t, l, &lab.Station{Name: "b", Bridge: bridge, MAC: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}})
	port, err := net.InterfaceByName("to-a")
	if err != nil {
		t.Fatal(err)
	}
	w.Port, w.Index = port.Name, port.Index
	return w
}

// end is a station's packet(7) socket.
type end struct{ fd, index int }

func newEnd(t *testing.T, l *lab.Lab, s *lab.Station) (e end) {
	t.Helper()
	if err := l.AddStation(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	all := int(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)))
	err := s.Do(func() (err error) {
		if e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		e.index = eth0.Index
		timeout := unix.NsecToTimeval((5 * time.Second).Nanoseconds())
		return errors.Join(
			unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: e.index}),
			unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(e.fd) })
	return e
}

func (e end) send(t *testing.T, frame []byte) {
	t.Helper()
	if err := unix.Sendto(e.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: e.index}); err != nil {
		t.Fatal(err)
	}
}

// Passes sends a frame from the guest, and behind it a marker that no guard
// holds back, and reports whether the frame came through before the marker.
func (w *Wire) Passes(t *testing.T, frame []byte) (arrived bool) {
	t.Helper()
	const localExperimental = 0x88b5 // IEEE 802
	w.sent++
	marker := Ether(GuestMAC, localExperimental, binary.BigEndian.AppendUint64(nil, w.sent))
	w.guest.send(t, frame)
	w.guest.send(t, marker)
	b := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(w.listener.fd, b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			t.Fatalf("the marker behind the frame does not arrive: %v", err)
		}
		if stdbytes.Equal(b[:n], marker) {
			return arrived
		}
		arrived = arrived || sameFrame(b[:n], frame)
	}
}

// Arrives sends a frame from the guest and reports whether it comes within a
// second, with what the switch does to its tags. It is for switches that would
// not let a marker through either.
func (w *Wire) Arrives(t *testing.T, frame []byte) bool {
	t.Helper()
	w.guest.send(t, frame)
	b := make([]byte, 2048)
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		n, _, err := unix.Recvfrom(w.listener.fd, b, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			time.Sleep(time.Millisecond)
		case err != nil && !errors.Is(err, unix.EINTR):
			t.Fatal(err)
		case err == nil && stdbytes.Equal(b[:6], frame[:6]) && stdbytes.HasSuffix(b[:n], frame[len(frame)-5:]):
			return true
		}
	}
	return false
}

// sameFrame compares what a packet socket got, which the kernel took the outer
// tag off, with what was sent.
func sameFrame(got, sent []byte) bool {
	if stdbytes.Equal(got, sent) {
		return true
	}
	kind := binary.BigEndian.Uint16(sent[12:])
	return (kind == unix.ETH_P_8021Q || kind == unix.ETH_P_8021AD) &&
		stdbytes.Equal(got, bytes(sent[:12], sent[16:]))
}

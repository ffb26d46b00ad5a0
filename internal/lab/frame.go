// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxFrame is more than any frame of a test has.
const maxFrame = 9216

// Inject sends Ethernet frames out of the station's eth0 as they are.
func (s *Station) Inject(frames ...[]byte) error {
	fd, index, err := s.packetSocket(0)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		err = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		if err != nil {
			break
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// Listener receives what reaches a station.
type Listener struct{ fd int }

// Listen starts to keep what reaches the station's eth0.
func (s *Station) Listen() (*Listener, error) {
	fd, _, err := s.packetSocket(unix.ETH_P_ALL)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &Listener{fd}, nil
}

// Close stops listening.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Sees waits until a frame has come that matches, and reports whether one has.
// Frames have their VLAN tag where it was on the wire.
func (l *Listener) Sees(match func(frame []byte) bool, limit time.Duration) (bool, error) {
	for end := time.Now().Add(limit); ; {
		left := unix.NsecToTimeval(max(time.Until(end), time.Microsecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(l.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left); err != nil {
			return false, err
		}
		frame, err := l.next()
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return false, err
		case match(frame):
			return true, nil
		}
	}
}

func (l *Listener) next() ([]byte, error) {
	buf, control := make([]byte, maxFrame), make([]byte, 64)
	n, size, _, _, err := unix.Recvmsg(l.fd, buf, control, 0)
	if err != nil {
		return nil, err
	}
	frame := buf[:n]
	messages, err := unix.ParseSocketControlMessage(control[:size])
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= int(unsafe.Sizeof(unix.TpacketAuxdata{})) && n > 12 {
			aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
			if aux.Status&unix.TP_STATUS_VLAN_VALID != 0 {
				tag := binary.BigEndian.AppendUint16(nil, aux.Vlan_tpid)
				frame = slices.Insert(frame, 12, binary.BigEndian.AppendUint16(tag, aux.Vlan_tci)...)
			}
		}
	}
	return frame, nil
}

// packetSocket opens a packet socket (packet(7)) on the station's eth0. One for
// protocol 0 receives nothing.
func (s *Station) packetSocket(protocol uint16) (fd, index int, err error) {
	err = s.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		index = eth0.Index
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8, Ifindex: index})
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("lab: station %s: packet socket: %w", s.Name, err)
	}
	return fd, index, err
}

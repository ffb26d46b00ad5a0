// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batch = 64
	// snapLength is how much of a frame we look at: ours are shorter.
	snapLength = 128
	// receiveBuffer holds some ten thousand small frames, in kernel terms.
	receiveBuffer = 8 << 20
	// controlLength has room for a timestamp (cmsg(3)).
	controlLength = 64
	// maxQueued is longer than any frame waits for us to read it.
	maxQueued = time.Second
)

// socket is a packet socket (packet(7)) that moves frames in batches: with a
// system call for each, the calls would cost as much as the frames.
type socket struct {
	file *os.File
	// mark is the SO_MARK in force.
	mark uint32

	// out and in are apart, so that one goroutine may send while another receives.
	out, in  messages
	controls [batch][controlLength]byte
	frames   [batch]seen
	// buffers take a frame each, of which snap bytes are looked at.
	buffers []byte
	listening
}

// listening is what a socket receives.
type listening struct {
	// device is where from, or 0 for all.
	device int
	// inOnly leaves out what leaves through the device.
	inOnly bool
	// filter lets a frame in, as far as it is looked at, and snap is that
	// length again.
	filter []unix.SockFilter
	snap   int
	// raw hands on frames also when they are none that we know, all as bytes.
	raw bool
}

// messages are what sendmmsg(2) and recvmmsg(2) work on.
type messages struct {
	headers [batch]mmsghdr
	iovecs  [batch]unix.Iovec
	names   [batch]unix.RawSockaddrLinklayer
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// packet is a frame to be sent out of a device, with a mark on it for the
// injector (socket(7), SO_MARK).
type packet struct {
	device int
	mark   uint32
	data   []byte
}

// seen is a frame that passed a device.
type seen struct {
	frame

	device int
	// outgoing is true for a frame that left the host's stack through the
	// device. On a guest's tap that is towards the guest.
	outgoing bool
	// at is when the kernel saw it, in the terms of our own monotonic clock.
	at time.Time
	// raw is the frame's bytes, on a socket that wants them. They are the
	// socket's own.
	raw []byte
}

// openSocket opens a packet socket that receives ARP, ICMP and neighbour
// discovery that come in at one device. What a socket sends it never receives.
func openSocket(device int) (*socket, error) {
	return listen(listening{device: device, inOnly: true, filter: receiveFilter(), snap: snapLength})
}

// listen opens a packet socket that receives what l says.
func listen(l listening) (*socket, error) {
	s, err := openSender()
	if err != nil {
		return nil, err
	}
	s.listening, s.buffers = l, make([]byte, batch*l.snap)
	if ctlErr := s.control(func(fd uintptr) { err = l.configure(int(fd)) }); ctlErr != nil || err != nil {
		return nil, errors.Join(ctlErr, err, s.close())
	}
	return s, nil
}

// openSender opens a packet socket that receives nothing.
func openSender() (*socket, error) {
	// Protocol 0 is none, until the socket is bound to another.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, lacking(fmt.Errorf("open packet socket: %w", err), "CAP_NET_RAW")
	}
	return &socket{file: os.NewFile(uintptr(fd), "packet socket")}, nil
}

func (l listening) configure(fd int) error {
	program := unix.SockFprog{Len: uint16(len(l.filter)), Filter: &l.filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("packet socket: attach filter: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		// Without CAP_NET_ADMIN as much as rmem_max allows must do.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// Linux before 5.1 does not know it; then a frame is as late as we read it.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	if l.inOnly {
		// Linux before 4.20 does not know it; then such frames are passed over
		// one by one.
		_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: l.device}); err != nil {
		return fmt.Errorf("packet socket: bind: %w", err)
	}
	return nil
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// send sends packets in their order. A device that is down or gone loses them
// silently: the answers say what arrived.
func (s *socket) send(packets []packet) error {
	for len(packets) > 0 {
		n := min(len(packets), batch)
		for i, p := range packets[:n] {
			if p.mark != packets[0].mark {
				n = i
				break
			}
			s.out.prepare(i, p.data, p.device)
		}
		if err := s.setMark(packets[0].mark); err != nil {
			return err
		}
		sent, err := s.sendBatch(n)
		if err != nil {
			return fmt.Errorf("send on device %d: %w", packets[0].device, err)
		}
		packets = packets[sent:]
	}
	return nil
}

func (s *socket) setMark(mark uint32) error {
	if mark == s.mark {
		return nil
	}
	var err error
	if ctlErr := s.control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	}); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return lacking(fmt.Errorf("packet socket: mark frames: %w", err), capNetAdmin)
	}
	s.mark = mark
	return nil
}

// prepare points the i-th message at data and at the device.
func (m *messages) prepare(i int, data []byte, device int) *unix.Msghdr {
	m.iovecs[i].Base = &data[0]
	m.iovecs[i].SetLen(len(data))
	m.names[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(device), Halen: 6}
	m.headers[i] = mmsghdr{}
	h := &m.headers[i].header
	h.Name = (*byte)(unsafe.Pointer(&m.names[i]))
	h.Namelen = unix.SizeofSockaddrLinklayer
	h.Iov = &m.iovecs[i]
	h.SetIovlen(1)
	return h
}

// sendBatch sends the first n prepared messages and returns how many are done.
func (s *socket) sendBatch(n int) (int, error) {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sent int
	var errno unix.Errno
	err = conn.Write(func(fd uintptr) bool {
		r, _, e := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&s.out.headers[0])), uintptr(n), 0, 0, 0)
		sent, errno = int(r), e
		return e != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno == unix.EINTR:
		return 0, nil
	case errno == unix.ENOBUFS, errno == unix.ENETDOWN, errno == unix.ENXIO, errno == unix.ENODEV, errno == unix.EMSGSIZE:
		return 1, nil // lost on this device; the others still count
	case errno != 0:
		return 0, errno
	}
	return sent, nil
}

// receive hands frames, some at a time, to handle until deadline, until handle
// returns false, or until ctx ends, which is the only error besides a broken
// socket. The slice is the socket's own.
func (s *socket) receive(ctx context.Context, deadline time.Time, handle func([]seen) bool) error {
	if err := s.file.SetReadDeadline(deadline); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		frames, err := s.receiveBatch(true)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if len(frames) > 0 && !handle(frames) {
			return nil
		}
	}
}

// poll hands the frames that are there already, but no more than a batch, to
// handle. The slice is the socket's own.
func (s *socket) poll(handle func([]seen)) error {
	frames, err := s.receiveBatch(false)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	handle(frames)
	return nil
}

// drain hands the frames that are there already, as many as wait at most, to
// handle.
func (s *socket) drain(handle func([]seen)) error {
	more := true
	for left := receiveBuffer / snapLength / batch; more && left > 0; left-- {
		if err := s.poll(func(frames []seen) {
			more = len(frames) > 0
			handle(frames)
		}); err != nil {
			return err
		}
	}
	return nil
}

// receiveBatch returns the frames of a batch that are known to us. It waits for
// one frame at least, or takes what is there.
func (s *socket) receiveBatch(wait bool) ([]seen, error) {
	n, err := s.fill(wait)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	frames := s.frames[:0]
	for i := range n {
		if f, ok := s.decode(i, now); ok {
			frames = append(frames, f)
		}
	}
	return frames, nil
}

// fill reads a batch of frames into the buffers and returns how many they are.
func (s *socket) fill(wait bool) (int, error) {
	for i := range batch {
		h := s.in.prepare(i, s.buffers[i*s.snap:(i+1)*s.snap], 0)
		h.Control = &s.controls[i][0]
		h.SetControllen(controlLength)
	}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var errno unix.Errno
	read := func(fd uintptr) bool {
		r, _, e := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.in.headers[0])), batch,
			unix.MSG_DONTWAIT, 0, 0)
		n, errno = int(r), e
		return e != unix.EAGAIN
	}
	if wait {
		err = conn.Read(read)
	} else {
		err = conn.Control(func(fd uintptr) { _ = read(fd) })
	}
	switch {
	case err != nil:
		return 0, err
	case errno == unix.EINTR, errno == unix.ENETDOWN, errno == unix.EAGAIN:
		// The device went down for a moment, or for good: then nobody answers.
		return 0, nil
	case errno != 0:
		return 0, errno
	}
	return n, nil
}

func (s *socket) decode(i int, now time.Time) (seen, bool) {
	b := s.buffers[i*s.snap:][:min(int(s.in.headers[i].length), s.snap)]
	f, ok := decode(b)
	out := seen{
		frame:    f,
		device:   int(s.in.names[i].Ifindex),
		outgoing: s.in.names[i].Pkttype == unix.PACKET_OUTGOING,
		at:       s.stamp(i, now),
	}
	if s.raw {
		out.raw = b
	}
	return out, ok || s.raw
}

// stamp is when the kernel saw the i-th frame.
func (s *socket) stamp(i int, now time.Time) time.Time {
	b := s.controls[i][:s.in.headers[i].header.Controllen]
	if len(b) == 0 {
		return now
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(b)
	if err != nil || h.Level != unix.SOL_SOCKET || h.Type != unix.SO_TIMESTAMPNS_NEW || len(data) < 16 {
		return now
	}
	return onOurClock(now, time.Unix(
		int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:]))))
}

// onOurClock turns a moment of the wall clock, a little before now, into one of
// the monotonic clock that now has. When the wall clock was set in between, it
// is now.
func onOurClock(now, wall time.Time) time.Time {
	age := now.Round(0).Sub(wall)
	if age < 0 || age > maxQueued {
		return now
	}
	return now.Add(-age)
}

// lost returns how many frames the kernel dropped since the last call because
// we were too slow to read them.
func (s *socket) lost() int {
	var stats *unix.TpacketStats
	_ = s.control(func(fd uintptr) {
		stats, _ = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if stats == nil {
		return 0
	}
	return int(stats.Drops)
}

func (s *socket) control(f func(fd uintptr)) error {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Control(f)
}

func (s *socket) close() error { return s.file.Close() }

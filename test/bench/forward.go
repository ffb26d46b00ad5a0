// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The bridge that frames go through: from one station to another, past a
// thousand ports that are idle but for that of the sender.
const (
	roadBridge = "br4"
	roadPrefix = "vnet5-"
	roadPorts  = 1000
	roadSender = "sender"
	roadTarget = "target"
)

// A burst is so short that most of them have a core to themselves also when
// others want it, and that the kernel has room for all of its frames
// (netdev_max_backlog); and so long that reading the counter does not count.
const (
	atATime = 64 // frames that go into one system call
	calls   = 8
	burst   = atATime * calls
	bursts  = 501
	// burstLimit is when frames that have not come yet are given up, spinLimit
	// when whoever may have to bring them gets the core.
	burstLimit = 500 * time.Millisecond
	spinLimit  = 10 * time.Millisecond
	// mostLost is how many bursts of a turn may be lost.
	mostLost = 5
)

// road is that bridge.
type road struct {
	sw             vnet.Switch
	ports          []vnet.Port
	sender, target *lab.Station
	frame          []byte
	guarded        int // ports
}

// Hosts have other MAC addresses than their stations' interfaces, which throw
// the frames away at once then.
func roadMAC(last byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 1, 0, last} }

// newRoad makes the bridge and its ports, of which none is guarded.
func newRoad(ctx context.Context, b *bench) (*road, error) {
	if err := b.lab.AddLinuxBridge(ctx, roadBridge); err != nil {
		return nil, err
	}
	nics := newNICs(linuxNetwork, roadBridge, roadPrefix, roadPorts)
	if err := addTaps(ctx, nics[1:]); err != nil {
		return nil, err
	}
	if err := noIPTables(); err != nil {
		return nil, err
	}
	r := &road{
		sender: &lab.Station{Name: roadSender, Bridge: roadBridge, Device: nics[0].Device},
		target: &lab.Station{Name: roadTarget, Bridge: roadBridge},
	}
	err := errors.Join(b.lab.AddStation(ctx, r.sender), b.lab.AddStation(ctx, r.target))
	if err != nil {
		return nil, err
	}
	nics[0].MAC = roadMAC(0).String()
	network := lan(roadBridge)
	network.Network.MTU, network.Network.Policy = 0, vnet.Policy{} // the frames may pass
	r.sw, r.frame = network.Switch, roadFrame()
	r.ports, err = portsOf(network, nics)
	return r, err
}

// portsOf are the ports that as many guests have in a network.
func portsOf(network state.Network, nics []nic) ([]vnet.Port, error) {
	guests, err := guestsOf(nics)
	if err != nil {
		return nil, err
	}
	ports := make([]vnet.Port, len(guests))
	for i, g := range guests {
		ports[i] = vnet.Port{
			Device: g.NICs[0].Device, Switch: network.Switch.Name, MAC: g.NICs[0].MAC, Network: network.Network.Name,
			Guest: g.Ref(), MTU: network.Network.MTU, Policy: network.Network.Policy,
		}
	}
	return ports, nil
}

// wire brings all ports to what they should be.
func (r *road) wire(ctx context.Context) (err error) {
	driver, err := drivers.Open(ctx, r.sw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, driver.Close()) }()
	drift, err := switchtest.Plan(ctx, driver, r.sw, r.ports...)
	if err != nil {
		return err
	}
	_, err = driver.Apply(ctx, drift)
	return err
}

// noIPTables keeps bridges from passing frames to iptables, which Debian's do
// not: it takes time that would make a guard's look small.
func noIPTables() error {
	const call = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	err := os.WriteFile(call, []byte("0\n"), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // they cannot
	}
	return err
}

// roadFrame is the shortest frame with a UDP packet from the first guest, which
// may send it.
func roadFrame() []byte {
	const ethernet, ip, size, port = 14, 20, 46, 4000
	target := netip.AddrFrom4([4]byte{10, 5, 0, 1})
	header := []byte{0x45, 0, 0, size, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	header = slices.Concat(header, address(0).AsSlice(), target.AsSlice())
	// Bridges that pass frames to iptables drop those whose checksum is wrong.
	binary.BigEndian.PutUint16(header[10:], checksum(header))
	b := slices.Concat(roadMAC(1), roadMAC(0), []byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}, header)
	for _, field := range []uint16{port, port, size - ip, 0} {
		b = binary.BigEndian.AppendUint16(b, field)
	}
	return append(b, make([]byte, ethernet+size-len(b))...)
}

// checksum is that of an IPv4 header (RFC 1071).
func checksum(header []byte) uint16 {
	sum := uint32(0)
	for word := range slices.Chunk(header, 2) {
		sum += uint32(binary.BigEndian.Uint16(word))
	}
	return ^uint16(sum + sum>>16)
}

// guard makes it so that the first count ports are guarded, and that there is
// no nftables table of ours when none is. The bridge learns where the target is.
func (r *road) guard(ctx context.Context, count int) error {
	for i := range r.ports {
		r.ports[i].Policy.AntiSpoof = i < count
		r.ports[i].Own = vnet.Allow{}
		if i < count {
			r.ports[i].Own.Addresses = []netip.Addr{address(i)}
		}
	}
	if err := r.wire(ctx); err != nil {
		return err
	}
	r.guarded = count
	if count == 0 {
		if err := noGuards(ctx); err != nil {
			return err
		}
	}
	hello := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, roadMAC(1), []byte{0x88, 0xb5}, make([]byte, 46))
	return r.target.Inject(hello)
}

// check finds out whether so many ports are guarded, and that none is bypassed:
// the sender cannot send as somebody else.
func (r *road) check(ctx context.Context) error {
	if r.guarded == 0 {
		return nil
	}
	counter, err := openCounter("to-" + roadTarget)
	if err != nil {
		return err
	}
	defer counter.close()
	before, err := counter.read()
	if err != nil {
		return err
	}
	forged := slices.Clone(r.frame)
	copy(forged[6:], roadMAC(2)) // the source
	if err := r.sender.Inject(slices.Repeat([][]byte{forged}, burst)...); err != nil {
		return err
	}
	after, err := counter.read()
	if err == nil && after-before >= burst/2 { // others send a frame now and then
		err = errors.New("frames from another MAC address pass")
	}
	return errors.Join(err, checkGuards(ctx, r.guarded))
}

// contender sends with so many ports guarded.
func (r *road) contender(count int) contender {
	return contender{
		name:  fmt.Sprint(count),
		reset: func(ctx context.Context) error { return r.guard(ctx, count) },
		check: r.check,
		run: func(ctx context.Context) (took time.Duration, err error) {
			err = r.sender.Do(func() error {
				took, err = r.blast(ctx)
				return err
			})
			return took, err
		},
	}
}

// blast returns the median of how long a burst takes to arrive. It runs in the
// sender's namespace.
func (r *road) blast(ctx context.Context) (took time.Duration, err error) {
	s, err := openBlaster("eth0", r.frame)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	counter, err := openCounter("to-" + roadTarget)
	if err != nil {
		return 0, err
	}
	defer counter.close()
	costs := make([]time.Duration, bursts)
	lost := 0
	for i := range costs {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if costs[i], err = s.burst(counter); err != nil {
			return 0, err
		}
		if costs[i] >= burstLimit {
			lost++
		}
		if lost > mostLost {
			return 0, fmt.Errorf("%d of %d bursts did not arrive", lost, i+1)
		}
	}
	return median(costs), nil
}

// blaster sends the same frame again and again.
type blaster struct {
	fd       int
	frame    []byte
	messages []mmsghdr
}

// mmsghdr is struct mmsghdr of sendmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	sent   uint32
}

// openBlaster opens a packet socket (packet(7)) that receives nothing, on a
// device of this thread's namespace.
func openBlaster(device string, frame []byte) (*blaster, error) {
	link, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index}))
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	s := &blaster{fd: fd, frame: frame, messages: make([]mmsghdr, atATime)}
	part := &unix.Iovec{Base: &frame[0]}
	part.SetLen(len(frame))
	for i := range s.messages {
		s.messages[i].header.Iov = part
		s.messages[i].header.SetIovlen(1)
	}
	return s, nil
}

func (s *blaster) close() error { return unix.Close(s.fd) }

// burst sends a burst and returns the time until it has arrived. That frames
// are lost costs as much more as if all had to be sent until all arrive.
func (s *blaster) burst(arrived *counter) (time.Duration, error) {
	before, err := arrived.read()
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	for range calls {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&s.messages[0])), atATime, 0, 0, 0)
		if errno != 0 || n != atATime {
			return 0, fmt.Errorf("sendmmsg: %d frames of %d: %w", n, atATime, errno)
		}
	}
	got, took := 0, time.Duration(0)
	for got < burst && time.Since(begun) < burstLimit {
		now, err := arrived.read()
		if err != nil {
			return 0, err
		}
		if now-before != got {
			got, took = min(now-before, burst), time.Since(begun) // others send a frame now and then
		}
		if time.Since(begun) > spinLimit {
			time.Sleep(time.Millisecond)
		}
	}
	if got == 0 {
		return burstLimit, nil
	}
	return took * burst / time.Duration(got), nil
}

// counter is how many frames a device of the lab has handed to its far end.
type counter struct{ fd int }

func openCounter(device string) (*counter, error) {
	path := sysfs(device, "statistics/tx_packets")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &counter{fd}, nil
}

func (c *counter) read() (int, error) {
	var text [24]byte
	n, err := unix.Pread(c.fd, text[:], 0)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text[:n])))
}

func (c *counter) close() { _ = unix.Close(c.fd) }

// forwarding measures how long frames of a guarded port take with many other
// guarded ports, with few, and without any guard.
func forwarding(ctx context.Context, b *bench) (medians, error) {
	r, err := newRoad(ctx, b)
	if err != nil {
		return medians{}, err
	}
	return interleave(
		ctx, effort{least: 5, most: 15, limit: 30 * time.Second},
		r.contender(roadPorts), r.contender(10), r.contender(0),
	)
}

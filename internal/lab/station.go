// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Station is something at the far end of a cable: a gateway, a server, a
// neighbour. It is a network namespace of its own (`ip netns exec NAME ...`
// finds it) with one interface, eth0, whose kernel answers ARP, ND and ping.
// The near end of the cable is in the lab: a port of a bridge, or an uplink.
type Station struct {
	Name string

	// Bridge gets the near end, whether it is an OVS or a Linux bridge. Empty
	// leaves the near end alone and up, to be used as an uplink by macvtap.
	Bridge string

	// Device is the near end's name. Empty means "to-" and the station's name.
	Device string

	// VLAN is the access VLAN on a bridge that has VLANs (see
	// [Lab.AddVLANBridge]). 0 means untagged, in none of its own.
	VLAN uint16

	// MAC of eth0. nil leaves the choice to the kernel.
	MAC net.HardwareAddr

	// Addresses of eth0, IPv4 and IPv6.
	Addresses []netip.Prefix

	at *place
	ns netns.NsHandle
}

// AddStation builds the station and plugs it in. It fills in Device, and keeps
// s until Close.
func (l *Lab) AddStation(ctx context.Context, s *Station) error {
	if s.Device == "" {
		s.Device = "to-" + s.Name
	}
	s.at = l.at
	if err := s.makeNamespace(); err != nil {
		return fmt.Errorf("lab: station %s: make namespace: %w", s.Name, err)
	}
	l.mu.Lock()
	l.stations = append(l.stations, s)
	l.mu.Unlock()
	if err := s.build(ctx); err != nil {
		return fmt.Errorf("lab: station %s: %w", s.Name, err)
	}
	return nil
}

func (s *Station) build(ctx context.Context) error {
	if err := s.at.do(s.plugIn); err != nil {
		return err
	}
	if err := s.Do(s.configure); err != nil || s.Bridge == "" {
		return err
	}
	return s.at.do(func() error { return attach(ctx, s.Device, s.Bridge, s.VLAN) })
}

// plugIn makes the cable.
func (s *Station) plugIn() error {
	cable := netlink.NewVeth(attrs(s.Device))
	cable.PeerName, cable.PeerNamespace, cable.PeerHardwareAddr = "eth0", netlink.NsFd(s.ns), s.MAC
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("add veth %s: %w", s.Device, err)
	}
	return linkUp(s.Device)
}

func (s *Station) makeNamespace() error {
	return s.at.thread(func() (err error) {
		s.ns, err = netns.NewNamed(s.Name)
		return err
	})
}

// configure runs inside the station's namespace.
func (s *Station) configure() error {
	if err := linkUp("lo"); err != nil {
		return err
	}
	// Frames leave without a checksum otherwise, which the userspace datapath
	// does not fill in: ping works and TCP does not.
	if err := txChecksumOff("eth0"); err != nil {
		return err
	}
	for _, p := range s.Addresses {
		if err := addAddress("eth0", p); err != nil {
			return err
		}
	}
	return linkUp("eth0")
}

// Do calls f on a thread that is in the station's network namespace. f must
// not start goroutines that should be there too.
func (s *Station) Do(f func() error) error {
	return s.at.thread(func() error {
		if err := netns.Set(s.ns); err != nil {
			return fmt.Errorf("enter the namespace of %s: %w", s.Name, err)
		}
		return f()
	})
}

// Run executes a program in the station's network namespace and returns what
// it printed.
func (s *Station) Run(ctx context.Context, argv ...string) (out string, err error) {
	err = s.Do(func() error {
		out, err = run(ctx, argv...)
		return err
	})
	return out, err
}

// Ping asks addr for one ICMP echo, and waits one second for it. The error is
// [ErrNoAnswer] when there was none.
func (s *Station) Ping(ctx context.Context, addr netip.Addr) error {
	_, err := s.Run(ctx, "busybox", "ping", "-c1", "-W1", addr.String())
	var exit *exec.ExitError
	if errors.As(err, &exit) && strings.Contains(err.Error(), "packet loss") {
		return fmt.Errorf("%s pings %s: %w", s.Name, addr, ErrNoAnswer)
	}
	return err
}

// ErrNoAnswer says that a ping was sent and not answered.
var ErrNoAnswer = errors.New("no answer")

// WaitPing pings once a second until there is an answer or limit has passed.
func (s *Station) WaitPing(ctx context.Context, addr netip.Addr, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return poll(ctx, func(ctx context.Context) error { return s.Ping(ctx, addr) })
}

func (s *Station) close() error {
	return errors.Join(s.ns.Close(), s.at.do(func() error { return netns.DeleteNamed(s.Name) }))
}

// onThread runs f on a thread of its own and then puts the thread back into
// its network namespace, so that whatever f did is never seen by others.
func onThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		here, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		err = f()
		// A thread that cannot be put back stays locked: it ends with this goroutine.
		if back := netns.Set(here); back == nil {
			runtime.UnlockOSThread()
		} else {
			err = errors.Join(err, back)
		}
		result <- errors.Join(err, here.Close())
	}()
	return <-result
}

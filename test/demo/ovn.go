// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// ovnStory is one network on two hosts.
type ovnStory struct {
	*story
	*lab.Cluster
	spec   *config.Spec
	guests [][]*lab.Guest // by the host that they start on
}

// showOVN builds two hosts with OVN and plays the story on them.
func showOVN(ctx context.Context) (err error) {
	s := &ovnStory{story: newStory()}
	s.say("virt-vnet: one spec, two hosts, four real guests in one network of OVN",
		"This runs on private hosts of its own: two libvirtds, two Open vSwitches with ovn-controller, OVN's databases and",
		"real QEMU guests, in namespaces that vanish in the end. We are the administrator, on a third machine.")
	done := s.wait("starting two hosts and OVN")
	s.Cluster, err = lab.StartCluster(ctx, lab.ClusterOptions{Hosts: 2, Each: lab.Options{Libvirt: true}, OVN: &lab.OVNOptions{}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(ctx)) }()
	done()
	for _, chapter := range []func(context.Context) error{s.define, s.hooks, s.boot, s.talk, s.move, s.check} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	s.say("That was it.", "Everything above is gone with this process, but for the report. examples/ovn-two-hosts shows the same on your own hosts.")
	return nil
}

func (s *ovnStory) define(ctx context.Context) error {
	text, err := stage.TwoHosts(s.Cluster, "examples/ovn-two-hosts/spec.yaml")
	if err != nil {
		return err
	}
	site := filepath.Join(config.Dir, "site.yaml")
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(site, []byte(text), 0o644); err != nil {
		return err
	}
	if s.spec, err = config.Load(site); err != nil {
		return err
	}
	s.say("1. The spec", "What both hosts should be like, in one file: "+site)
	s.quote(text)
	s.guests = stage.Mobile(s.spec.Topology, len(s.Hosts))
	for i, guests := range s.guests {
		for _, g := range guests {
			if err := s.Hosts[i].DefineGuest(ctx, g); err != nil {
				return err
			}
		}
	}
	s.say("2. Defining the network, in OVN and on both hosts at the same time")
	return s.all(
		s.run(ctx, codeOK, "virt-vnet", "plan"),
		s.run(ctx, codeOK, "virt-vnet", "apply"),
		s.run(ctx, codeOK, "ovn-nbctl", "show"),
	)
}

func (s *ovnStory) hooks(ctx context.Context) error {
	s.say("3. Installing the hooks, on each host")
	for _, h := range s.Hosts {
		if err := s.on(ctx, h, codeOK, "virt-vnet", "hooks", "install", "--reload")(); err != nil {
			return err
		}
	}
	return nil
}

func (s *ovnStory) boot(ctx context.Context) error {
	s.say("4. Booting four guests, two on each host", "The hook makes each guest's port in OVN, and waits until its flows are in.")
	group, groupCtx := errgroup.WithContext(ctx)
	for i, guests := range s.guests {
		for _, g := range guests {
			if err := s.run(ctx, codeOK, "virsh", "-c", s.Hosts[i].URI(), "start", g.Name)(); err != nil {
				return err
			}
		}
	}
	done := s.wait("waiting for the guests' own kernels to boot, and for OVN's DHCP to give them their addresses")
	for i, guests := range s.guests {
		for _, g := range guests {
			group.Go(func() error { return s.Hosts[i].WaitUp(groupCtx, g.Name) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	done()
	return s.all(s.run(ctx, codeOK, "ovn-nbctl", "show"), s.in(ctx, s.Hosts[0], "web1", "ip -4 addr show eth0"))
}

func (s *ovnStory) talk(ctx context.Context) error {
	s.say("5. From host to host, through the tunnel")
	return s.all(
		s.in(ctx, s.Hosts[0], "web1", "ping -c 3 -i 0.2 10.0.20.22"),
		func() error {
			s.say("   And not with somebody else's address")
			return nil
		},
		s.in(ctx, s.Hosts[0], "web1", "ip addr add 10.0.20.99/24 dev eth0; ping -c 3 -i 0.2 -W 1 -I 10.0.20.99 10.0.20.22; ip addr del 10.0.20.99/24 dev eth0"),
	)
}

func (s *ovnStory) move(ctx context.Context) error {
	from, to := s.Hosts[0], s.Hosts[1]
	s.say("6. Moving web1 to "+to.Name, "db2 pings it 20 times a second meanwhile.")
	address, _ := s.spec.Topology.Guest("web1")
	ping, err := to.StartPing(ctx, "db2", address.NICs[0].Address, time.Second/20)
	if err != nil {
		return err
	}
	err = s.run(ctx, codeOK, "virsh", "-c", from.URI(), "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "web1", to.URI())()
	if err != nil {
		return err
	}
	loss, err := to.StopPing(ctx, ping)
	if err != nil {
		return err
	}
	s.quote(loss.String() + "\n")
	return s.run(ctx, codeOK, "virt-vnet", "plan")()
}

func (s *ovnStory) check(ctx context.Context) error {
	s.say("7. Proving it, on " + s.Hosts[1].Name)
	site := filepath.Join(config.Dir, "site.yaml")
	text, err := os.ReadFile(site)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.Hosts[1].Path(site), text, 0o644); err != nil {
		return err
	}
	path, err := filepath.Abs(page) // what runs on a host begins in its root
	if err != nil {
		return err
	}
	return s.on(ctx, s.Hosts[1], codeOK, "virt-vnet", "verify", "--write", "html="+path)()
}

// on runs a command on a host.
func (s *ovnStory) on(ctx context.Context, h *lab.Host, want int, name string, args ...string) func() error {
	return func() error {
		s.say("   on " + h.Name)
		argv := h.Command(append([]string{program(name)}, args...)...)
		return s.run(ctx, want, argv[0], argv[1:]...)()
	}
}

// in shows a command in a guest, and what it says.
func (s *ovnStory) in(ctx context.Context, h *lab.Host, guest, command string) func() error {
	return func() error {
		out, _ := h.Exec(ctx, guest, command) // what it says is the point
		s.quote(guest + "# " + strings.TrimSpace(command) + "\n" + strings.TrimSpace(out) + "\n")
		return nil
	}
}

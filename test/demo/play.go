// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/test/stage"
)

// Exit codes of virt-vnet that the story expects.
const (
	codeOK          = 0
	codeCheckFailed = 4
	codeLeak        = 5
)

// play tells the story, chapter by chapter. Each stops it when virt-vnet does
// not do what it says.
func (s *story) play(ctx context.Context, l *lab.Lab, spec *config.Spec, specFile string) error {
	for _, chapter := range []func(context.Context, *lab.Lab, *config.Spec) error{
		func(ctx context.Context, _ *lab.Lab, _ *config.Spec) error { return s.define(ctx, specFile) },
		s.hooks, s.boot, s.prove, s.breakTwo, s.mend,
	} {
		if err := chapter(ctx, l, spec); err != nil {
			return err
		}
	}
	s.say("That was it.", "Everything above is gone with this process, but for the report. README.md shows the same on your own host.")
	return nil
}

func (s *story) define(ctx context.Context, specFile string) error {
	s.say("1. The spec", "What the host should be like, in one file: "+config.Dir+"/site.yaml")
	text, err := os.ReadFile(specFile)
	if err != nil {
		return err
	}
	site := filepath.Join(config.Dir, "site.yaml")
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(site, text, 0o644); err != nil {
		return err
	}
	s.quote(string(text))
	s.say("2. Defining the networks in libvirt")
	return s.all(
		s.run(ctx, codeOK, "virt-vnet", "plan"),
		s.run(ctx, codeOK, "virt-vnet", "apply"),
		s.run(ctx, codeOK, "virsh", "net-list", "--all"),
	)
}

func (s *story) hooks(ctx context.Context, _ *lab.Lab, _ *config.Spec) error {
	s.say("3. Installing the hooks", "From now on libvirt runs virt-vnet-hook whenever a guest starts or stops.")
	return s.all(
		s.run(ctx, codeOK, "virt-vnet", "hooks", "install", "--reload"),
		s.run(ctx, codeOK, "virt-vnet", "hooks", "status"),
	)
}

func (s *story) boot(ctx context.Context, l *lab.Lab, spec *config.Spec) error {
	s.say("4. Booting three guests", "Debian's kernel in QEMU, without KVM. Before a guest runs its first instruction, its ports are wired.")
	guests := stage.Guests(spec.Topology)
	for _, g := range guests {
		if err := l.DefineGuest(ctx, g); err != nil {
			return err
		}
		if err := s.run(ctx, codeOK, "virsh", "start", g.Name)(); err != nil {
			return err
		}
	}
	done := s.wait("waiting for the guests' own kernels to boot")
	group, groupCtx := errgroup.WithContext(ctx)
	for _, g := range guests {
		group.Go(func() error { return l.WaitUp(groupCtx, g.Name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	done()
	s.say("   The ports as the hook wired them")
	return s.run(ctx, codeOK, "virt-vnet", "list", "ports")()
}

func (s *story) prove(ctx context.Context, _ *lab.Lab, _ *config.Spec) error {
	s.say("5. Proving who can talk", "Nothing runs inside the guests for this. Isolation is not assumed: a frame is sent as if by a guest of one",
		"network, seen entering its port, and must not arrive at any port of the other.")
	return s.run(ctx, codeOK, "virt-vnet", "verify")()
}

// breakTwo breaks one VLAN tag and one link behind virt-vnet's back.
func (s *story) breakTwo(ctx context.Context, l *lab.Lab, _ *config.Spec) error {
	web1, err := device(ctx, l, "web1", "red")
	if err != nil {
		return err
	}
	s.lan, err = device(ctx, l, "db1", "lan")
	if err != nil {
		return err
	}
	s.say("6. Breaking two things on purpose", "Somebody moves web1's port to the VLAN of blue by hand, and unplugs db1 from lan.")
	return s.all(
		s.run(ctx, codeOK, "ovs-vsctl", "set", "port", web1, "tag=30"),
		s.run(ctx, codeOK, "virsh", "domif-setlink", "db1", s.lan, "down"),
		s.run(ctx, codeLeak, "virt-vnet", "verify"),
	)
}

func (s *story) mend(ctx context.Context, _ *lab.Lab, _ *config.Spec) error {
	s.say("7. Repairing them", "Setting a link makes libvirt take the port off its bridge and put it back, which loses db1's BPDU guard:",
		"repair finds that as well.")
	return s.all(
		s.run(ctx, codeOK, "virsh", "domif-setlink", "db1", s.lan, "up"),
		s.run(ctx, codeOK, "virt-vnet", "repair"),
		s.run(ctx, codeOK, "virt-vnet", "verify", "--write", "html="+page),
	)
}

// device is the host's device of a guest's NIC in a network.
func device(ctx context.Context, l *lab.Lab, guest, network string) (string, error) {
	xml, err := l.Virsh(ctx, "dumpxml", guest)
	if err != nil {
		return "", err
	}
	domain, err := libvirtnet.ParseDomain([]byte(xml))
	if err != nil {
		return "", err
	}
	for _, nic := range domain.NICs {
		if nic.Network == network {
			return nic.Device, nil
		}
	}
	return "", fmt.Errorf("guest %s has no NIC in network %s", guest, network)
}

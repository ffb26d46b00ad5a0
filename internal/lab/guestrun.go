// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// upLimit bounds the wait for one guest. Many guests on few CPUs are slow.
const upLimit = 90 * time.Second

// DefineGuest fills in what g leaves open and defines the domain.
func (l *Lab) DefineGuest(ctx context.Context, g *Guest) error {
	text, err := l.DomainXML(ctx, g)
	if err != nil {
		return err
	}
	return l.at.do(func() error {
		path := guestDir + "/" + g.Name + ".xml"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("lab: guest %s: %w", g.Name, err)
		}
		if _, err := virsh(ctx, "define", path); err != nil {
			return fmt.Errorf("lab: guest %s: %w", g.Name, err)
		}
		return nil
	})
}

// DomainXML fills in what g leaves open and returns the domain XML that
// DefineGuest would define.
func (l *Lab) DomainXML(ctx context.Context, g *Guest) (string, error) {
	k, err := l.guestKernel(ctx)
	if err != nil {
		return "", err
	}
	if err := g.complete(); err != nil {
		return "", err
	}
	if g.Agent {
		if err := l.boot.withAgent(ctx); err != nil {
			return "", err
		}
	}
	var text string
	err = l.at.do(func() error {
		text, err = g.domainXML(k)
		return err
	})
	return text, err
}

// StartGuest starts a defined guest, hooks and all, and returns when QEMU
// runs, long before the guest's userspace does (see [Lab.WaitUp]).
func (l *Lab) StartGuest(ctx context.Context, name string) error {
	return l.at.do(func() error {
		if err := os.Remove(consolePath(name)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("lab: guest %s: %w", name, err)
		}
		if _, err := virsh(ctx, "start", name); err != nil {
			return fmt.Errorf("lab: guest %s: %w", name, err)
		}
		return nil
	})
}

// DestroyGuest pulls the guest's plug. The definition stays.
func (l *Lab) DestroyGuest(ctx context.Context, name string) error {
	if _, err := l.Virsh(ctx, "destroy", name); err != nil {
		return fmt.Errorf("lab: guest %s: %w", name, err)
	}
	return nil
}

// Boot defines and starts guests and returns when all of them are up. They
// boot at the same time.
func (l *Lab) Boot(ctx context.Context, guests ...*Guest) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, guest := range guests {
		g.Go(func() error {
			if err := l.DefineGuest(gctx, guest); err != nil {
				return err
			}
			if err := l.StartGuest(gctx, guest.Name); err != nil {
				return err
			}
			return l.WaitUp(gctx, guest.Name)
		})
	}
	return g.Wait()
}

// WaitUp waits until the guest has configured its interfaces. The error holds
// the last part of its console.
func (l *Lab) WaitUp(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patient(upLimit))
	defer cancel()
	err := poll(ctx, func(context.Context) error {
		text, err := l.Serial(name)
		switch {
		case err != nil:
			return err
		case strings.Contains(text, "vnet-guest: ready"):
			return nil
		case strings.Contains(text, "Kernel panic"):
			cancel()
			return errors.New("its kernel panicked")
		default:
			return errors.New("not ready")
		}
	})
	if err != nil {
		text, _ := l.Serial(name) // no console is in err already
		return fmt.Errorf("lab: guest %s: wait until it is up: %w; its console:\n%s", name, err, tail(text))
	}
	return nil
}

// Serial returns what the guest has printed on its console since its start.
func (l *Lab) Serial(name string) (string, error) {
	var text []byte
	err := l.at.do(func() (err error) {
		text, err = os.ReadFile(consolePath(name))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("lab: guest %s: console: %w", name, err)
	}
	return string(text), nil
}

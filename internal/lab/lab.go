// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

// Options says what a lab starts with.
type Options struct {
	Libvirt bool // libvirtd, at qemu:///system
	OVS     bool // ovsdb-server and ovs-vswitchd, at the usual socket
}

// Lab is a running private host. Its methods are safe for concurrent use,
// except Close.
type Lab struct {
	libvirtd, ovsdb, vswitchd, systemd *Daemon

	lock     *os.File
	mu       sync.Mutex
	stations []*Station

	background sync.WaitGroup

	at   *place
	boot *guestBoot
}

// Start starts the daemons and returns when they serve. The process must be
// inside (see [Enter] and [Main]), and there may be only one Lab at a time.
// Hook files belong in place before, or see [Daemon.Reload].
//
// ctx bounds the start only. Call Close in the end; a process that just exits
// leaves nothing behind either.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if !Inside() {
		return nil, errors.New("lab: start: this process is not inside a lab: call lab.Enter or lab.Main first")
	}
	lock, err := takeLock()
	if err != nil {
		return nil, err
	}
	l := newLab(nil, "lab", new(guestBoot))
	l.lock = lock
	if err := l.start(ctx, opts); err != nil {
		return nil, errors.Join(err, l.Close(ctx))
	}
	return l, nil
}

// newLab returns a lab at a place, whose Open vSwitch has the system-id name.
func newLab(at *place, name string, boot *guestBoot) *Lab {
	return &Lab{
		libvirtd: newLibvirtd(at), ovsdb: newOVSDB(at, name), vswitchd: newVswitchd(at), systemd: newSystemd(at),
		at: at, boot: boot,
	}
}

func (l *Lab) start(ctx context.Context, opts Options) error {
	g, gctx := errgroup.WithContext(ctx)
	if opts.Libvirt {
		g.Go(func() error { return l.libvirtd.Start(gctx) })
		l.background.Go(func() { _, _ = l.guestKernel(context.WithoutCancel(ctx)) })
	}
	if opts.OVS {
		g.Go(func() error { return l.StartOVS(gctx) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if opts.Libvirt {
		// This, like the kernel above, is what the first guest would wait for:
		// libvirt finds out about QEMU. Errors are left to that guest to report.
		l.background.Go(func() {
			_, _ = l.Virsh(context.WithoutCancel(ctx), "domcapabilities", "--virttype", virtType())
		})
	}
	return nil
}

// Do calls f where the lab is: at once for a lab that [Start] returned, and on a
// thread in the host's namespaces for one of a [Cluster]. f must not start
// goroutines that should be there too; on a host it begins in the root directory.
func (l *Lab) Do(f func() error) error { return l.at.do(f) }

// Run executes a program where the lab is (see [Lab.Do]) and returns what it
// printed.
func (l *Lab) Run(ctx context.Context, argv ...string) (out string, err error) {
	err = l.at.do(func() error {
		out, err = run(ctx, argv...)
		return err
	})
	return out, err
}

// StartOVS starts what does not run of ovsdb-server and ovs-vswitchd.
func (l *Lab) StartOVS(ctx context.Context) error {
	if err := l.ovsdb.Start(ctx); err != nil {
		return err
	}
	return l.vswitchd.Start(ctx)
}

// Libvirtd returns the lab's libvirtd, whether it runs or not.
func (l *Lab) Libvirtd() *Daemon { return l.libvirtd }

// OVSDB returns the lab's ovsdb-server, whether it runs or not.
func (l *Lab) OVSDB() *Daemon { return l.ovsdb }

// Vswitchd returns the lab's ovs-vswitchd, whether it runs or not.
func (l *Lab) Vswitchd() *Daemon { return l.vswitchd }

// Close kills the guests, stops the daemons, removes every link and station
// and empties the private directories, so that the next Start finds a fresh
// host. It does so even when ctx has ended already, and takes half a minute at
// most.
func (l *Lab) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patient(2*stopLimit))
	defer cancel()
	var errs []error
	errs = append(errs,
		l.systemd.Kill(ctx), l.libvirtd.Stop(ctx), l.at.do(killLeft), l.vswitchd.Stop(ctx), l.ovsdb.Stop(ctx))
	l.background.Wait()
	for _, s := range l.stations {
		errs = append(errs, s.close())
	}
	if l.at != nil {
		errs = append(errs, l.at.close()) // and all else with it
	} else {
		errs = append(errs, deleteLinks(), clearFiles(), l.lock.Close())
	}
	return errors.Join(errs...)
}

// killLeft ends what outlives libvirtd: guests and networks' DHCP servers.
func killLeft() error {
	var errs []error
	for _, glob := range []string{"/run/libvirt/qemu/*.pid", "/run/libvirt/network/*.pid"} {
		found, err := filepath.Glob(glob)
		errs = append(errs, err)
		for _, path := range found {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // gone by itself
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil || pid <= 1 {
				continue
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				errs = append(errs, fmt.Errorf("kill process %d of %s: %w", pid, path, err))
			}
		}
	}
	return errors.Join(errs...)
}

// deleteLinks removes every link of the network namespace but lo.
func deleteLinks() error {
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, entry := range links {
		// Errors are no news here: the other end of a veth goes with the first,
		// a tap with its program, and some links are the kernel's own.
		if link, err := netlink.LinkByName(entry.Name()); err == nil {
			_ = netlink.LinkDel(link)
		}
	}
	return nil
}

func takeLock() (*os.File, error) {
	f, err := os.OpenFile(base+"/lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lab: lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lab: start: another Lab runs in these namespaces: %w", err)
	}
	return f, nil
}

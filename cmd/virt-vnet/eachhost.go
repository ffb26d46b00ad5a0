// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// atOnce bounds how many hosts are worked on at the same time.
	atOnce = 32
	// hostLimit is how long one host may keep back what the others have to say. It is
	// for one that hangs: hundreds of networks over a slow line take minutes.
	hostLimit = 10 * time.Minute
)

func hostFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "host", Usage: "only the `HOST` of the spec; may be given several times"}
}

// hostsOf returns the hosts that a command is to work on: those of --host, or
// all of the spec. Without any, and when --connect says where to go, it is none:
// the command works on what it connects to.
func hostsOf(c *cli.Context, t vnet.Topology) ([]vnet.Host, error) {
	names := c.StringSlice("host")
	// The variable is the usual connection, and no choice of this call's.
	chosen := c.IsSet("connect") && c.String("connect") != os.Getenv("LIBVIRT_DEFAULT_URI")
	switch {
	case len(names) > 0 && chosen:
		return nil, usagef("--host and --connect both say where to go: want one of them")
	case len(names) == 0 && chosen:
		return nil, nil
	case len(names) == 0:
		return t.Hosts, nil
	}
	var hosts []vnet.Host
	for _, name := range names {
		i := slices.IndexFunc(t.Hosts, func(h vnet.Host) bool { return h.Name == name })
		if i < 0 {
			return nil, usagef("--host %s: the spec has no such host: want one of %s", name, hostNames(t.Hosts))
		}
		if !slices.Contains(hosts, t.Hosts[i]) {
			hosts = append(hosts, t.Hosts[i])
		}
	}
	return hosts, nil
}

func hostNames(hosts []vnet.Host) string {
	if len(hosts) == 0 {
		return "none, as it has no hosts"
	}
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = h.Name
	}
	return strings.Join(names, ", ")
}

// specAndHosts reads the spec, and finds out which of its hosts a command is to
// work on, as hostsOf does.
func specAndHosts(c *cli.Context) (*config.Spec, []vnet.Host, error) {
	spec, err := loadSpec(c)
	if err != nil {
		return nil, nil, err
	}
	hosts, err := hostsOf(c, spec.Topology)
	return spec, hosts, err
}

// withSites reads the spec and does the command's work on each host that it is
// about, or on the one that it connects to.
func withSites(c *cli.Context, std stdio, do func(*config.Spec, *site, stdio) error) error {
	spec, hosts, err := specAndHosts(c)
	if err != nil {
		return err
	}
	if len(hosts) == 0 {
		return onHost(c, std, spec, vnet.Host{URI: c.String("connect")}, do)
	}
	return onHosts(c, std, hosts, hostLimit, func(c *cli.Context, h vnet.Host, std stdio) error { return onHost(c, std, spec, h, do) })
}

// onHost does the work on one host.
func onHost(c *cli.Context, std stdio, spec *config.Spec, h vnet.Host, do func(*config.Spec, *site, stdio) error) error {
	s, err := openSite(c, std, spec.Topology, h.URI)
	if err != nil {
		return err
	}
	s.host = h.Name
	err = do(spec, s, std)
	if closed := s.conn.Close(); !errors.Is(closed, virtapi.ErrNotRunning) {
		return errors.Join(err, closed)
	}
	return err // there is nothing left to close
}

// hostResult is what became of the work on one host.
type hostResult struct {
	host     vnet.Host
	out, err bytes.Buffer
	failure  error
}

// hostWork is the work on one host. The context ends when its time is up.
type hostWork func(*cli.Context, vnet.Host, stdio) error

// within does the work in this time.
func (do hostWork) within(limit time.Duration, c *cli.Context, h vnet.Host, std stdio) error {
	ctx, cancel := context.WithTimeout(c.Context, limit)
	defer cancel()
	own := *c
	own.Context = ctx
	err := do(&own, h, std)
	if err != nil && ctx.Err() != nil && c.Err() == nil {
		return fmt.Errorf("not done within %v: %w", limit, err)
	}
	return err
}

// onHosts does the work on all hosts at the same time, each within the limit, and
// prints what each had to say once all are done, in their order. Its error names
// every host that failed: the others are done.
func onHosts(c *cli.Context, std stdio, hosts []vnet.Host, limit time.Duration, do hostWork) error {
	results := make([]hostResult, len(hosts))
	step, shown := func(string) {}, func() {}
	if isTerminal(std.err) {
		step, shown = showProgress(std.err)
	}
	p := progress{step: step, waiting: hosts}
	p.show()
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, h := range hosts {
		all.Go(func() {
			r := &results[i]
			r.host = h
			select {
			case places <- struct{}{}:
				r.failure = do.within(limit, c, h, stdio{in: std.in, out: &r.out, err: &r.err})
				<-places
			case <-c.Done():
				r.failure = context.Cause(c.Context)
			}
			p.finished(h)
		})
	}
	all.Wait()
	shown()
	return tell(std, results, c.String("output") != "json")
}

// tell prints the results, with headings unless they are for machines, and
// returns the failures as one error. That changes are pending is none, and is
// returned when there is no failure.
func tell(std stdio, results []hostResult, headings bool) error {
	var errs []error
	var pending error
	code, failed := exitOK, 0
	for i := range results {
		r := &results[i]
		indent := ""
		if headings {
			fmt.Fprintf(std.out, "host %s\n", r.host.Name)
			indent = "  "
		}
		for line := range strings.Lines(r.out.String()) {
			fmt.Fprint(std.out, indent, line)
		}
		for line := range strings.Lines(r.err.String()) {
			fmt.Fprintf(std.err, "host %s: %s", r.host.Name, line)
		}
		switch exitCode(r.failure) {
		case exitOK:
			continue
		case exitPending:
			pending = r.failure
			continue
		}
		failed++
		code = max(code, exitCode(r.failure))
		for line := range strings.Lines(r.failure.Error()) {
			errs = append(errs, fmt.Errorf("host %s: %s", r.host.Name, strings.TrimSuffix(line, "\n")))
		}
	}
	if len(errs) == 0 {
		return pending
	}
	errs = append(errs, fmt.Errorf("%d of %d hosts failed", failed, len(results)))
	return &exitError{code, errors.Join(errs...)}
}

// progress says how far the hosts are.
type progress struct {
	mu      sync.Mutex
	step    func(string)
	waiting []vnet.Host
	done    int
}

func (p *progress) finished(h vnet.Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	p.waiting = slices.DeleteFunc(slices.Clone(p.waiting), func(w vnet.Host) bool { return w == h })
	p.show()
}

// show must not be called by two at once.
func (p *progress) show() {
	if len(p.waiting) > 0 {
		p.step(fmt.Sprintf("%d of %d hosts done, waiting for %s", p.done, p.done+len(p.waiting), hostNames(p.waiting)))
	}
}

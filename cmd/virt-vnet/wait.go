// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/verify"
)

// How long a run bears that libvirt does not answer, and how long it leaves it
// alone in between. A libvirt that restarts is back within seconds.
const (
	libvirtLimit = 15 * time.Second
	firstRetry   = 100 * time.Millisecond
	lastRetry    = 2 * time.Second
)

// again does f, which asks libvirt, and does it again on a new connection while
// libvirt does not answer, within libvirtLimit.
func (s *site) again(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(libvirtLimit)
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := f()
		if !errors.Is(err, virtapi.ErrNotRunning) || time.Now().After(deadline) {
			return err
		}
		s.log.Info("libvirt does not answer: trying again", "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		conn, err := virtapi.Open(ctx, s.conn.URI())
		switch {
		case err == nil:
			_ = s.conn.Close() // it is broken
			s.conn = conn
		case !errors.Is(err, virtapi.ErrNotRunning):
			return err
		}
	}
}

// looker is the collection that verify works with, taken anew for each look.
type looker struct {
	*collection

	site *site
}

// verify checks the guests that opts names, after the wait.
func (l *looker) verify(ctx context.Context, opts verify.Options, wait time.Duration) (verify.Report, error) {
	err := l.site.again(ctx, func() error { return l.site.known(ctx, opts.Guests) })
	if err != nil {
		return verify.Report{}, err
	}
	if wait > 0 {
		return verify.Wait(ctx, l.collect, opts, wait)
	}
	inv, err := l.collect(ctx, nil)
	if err != nil {
		return verify.Report{}, err
	}
	return verify.Run(ctx, inv, opts)
}

// collect is a [verify.Collect].
func (l *looker) collect(ctx context.Context, names []string) (verify.Inventory, error) {
	var next *collection
	err := l.site.again(ctx, func() (err error) {
		next, err = l.site.collect(ctx, names, l.site.addresses)
		return err
	})
	if err != nil {
		return verify.Inventory{}, err
	}
	l.close()
	l.collection = next
	if len(names) == 0 {
		if err := next.misses(); err != nil {
			return verify.Inventory{}, err
		}
	}
	return next.inventory, nil
}

// close closes the last collection, if there is one.
func (l *looker) close() {
	if l.collection != nil {
		_ = l.collection.close() // nothing was changed
	}
}

// lostLibvirt is the report of a run that libvirt left alone: nothing can be
// told, which is no failure of the network.
func lostLibvirt(started time.Time, err error) verify.Report {
	return verify.Report{
		Version: verify.ReportVersion, Started: started, Duration: time.Since(started), NICs: []verify.NICResult{},
		GuestsUnknown: true,
		Limits:        []string{fmt.Sprintf("libvirt went away during the run and was not back after %v: %v", libvirtLimit, err)},
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// try finds out what only an attempt can tell, in a network namespace that is
// made for it and goes with it. Whether there is nftables is tried once.
func (d *Driver) try(ctx context.Context, f switchcfg.Feature) (reason string) {
	switch f {
	case switchcfg.FeatureAntiSpoof, switchcfg.FeatureDHCPGuard, switchcfg.FeatureRAGuard, switchcfg.FeaturePriority:
		if d.lacksGuards == nil {
			reason := guard.Try(ctx)
			d.lacksGuards = &reason
		}
		return *d.lacksGuards
	case switchcfg.FeatureInbound:
		return tryShape(ctx, f, func(lo link) []step { return []step{bucketStep(lo, ourQdisc, create, tryRate)} })
	case switchcfg.FeatureOutbound:
		return tryShape(ctx, f, func(lo link) []step { return outboundSteps(lo, tryRate) })
	default:
		return ""
	}
}

// tryRate is any rate.
var tryRate = vnet.Rate{Bits: 1e9, Burst: 1 << 20}

// tryShape sends steps for the device that every network namespace has.
func tryShape(ctx context.Context, f switchcfg.Feature, steps func(lo link) []step) (reason string) {
	err := inNewNamespace(func() error {
		conn, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer conn.Close()
		lo, err := conn.LinkByName(ctx, "lo")
		if err != nil {
			return err
		}
		for _, s := range steps(link{Link: lo}) {
			if _, err := conn.Send(ctx, s.Message, 0); err != nil && s.Type != unix.RTM_DELTFILTER {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil, errors.Is(err, unix.EPERM): // then nobody can be told
		return ""
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return lacks(f)
	}
	return fmt.Sprintf("whether this kernel has an %s could not be found out: %v", f, err)
}

// inNewNamespace calls f on a thread that is in a network namespace of its own,
// and ends with it.
func inNewNamespace(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread is not given back
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"context"
	"errors"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func (s suite) noSwitch() {
	sw := s.Switch
	sw.Name = "nosuch0"
	d, err := s.Open(s.Context(), sw)
	if err == nil {
		_ = d.Close()
	}
	s.fails(err, switchcfg.ErrNoSwitch, "nosuch0")
}

func (s suite) noPort() {
	_, err := s.plan(s.port("nosuch1", vnet.Policy{}))
	s.fails(err, switchcfg.ErrNoPort, "nosuch1")
}

func (s suite) vanishes() {
	stays, goes := s.device("ct0", true), s.device("ct1", true)
	before := s.observe(stays)
	plan := s.mustPlan(s.port(stays, s.fullPolicy()), s.port(goes, s.fullPolicy()))
	s.Remove(s.T, goes)
	applied, err := s.driver.Apply(s.Context(), plan)
	s.fails(err, switchcfg.ErrNoPort, goes)
	made := switchcfg.Plan{Switch: plan.Switch, Changes: applied}
	if _, err := s.driver.Apply(s.Context(), made.Reverse()); err != nil {
		s.Fatalf("undo what was applied: %v", err)
	}
	if diff := difference(before, s.observe(stays)); diff != "" {
		s.Fatalf("the undone port differs (-before +now):\n%s", diff)
	}
}

func (s suite) elsewhere() {
	device := s.device("ct0", false)
	s.Plug(s.T, device, true)
	before := s.Look(s.T, device)
	_, err := s.plan(s.port(device, vnet.Policy{}))
	s.fails(err, switchcfg.ErrNotOwned, device)
	if on := s.observe(device).Ports[device].Switch; on == "" || on == s.Switch.Name {
		s.Fatalf("observed on switch %q, want the other one", on)
	}
	if diff := difference(before, s.Look(s.T, device)); diff != "" {
		s.Fatalf("the port was touched (-before +now):\n%s", diff)
	}
}

func (s suite) foreign() {
	if s.MarkForeign == nil {
		return // this switch has a place for every mark
	}
	device := s.device("ct0", true)
	plan := s.mustPlan(s.port(device, s.fullPolicy()))
	s.MarkForeign(s.T, device)
	before := s.Look(s.T, device)
	_, err := s.plan(s.port(device, vnet.Policy{}))
	s.fails(err, switchcfg.ErrNotOwned, device)
	applied, err := s.driver.Apply(s.Context(), plan)
	s.fails(err, switchcfg.ErrNotOwned, device)
	if len(applied) > 0 {
		s.Fatalf("says it applied %v", applied)
	}
	if diff := difference(before, s.Look(s.T, device)); diff != "" {
		s.Fatalf("the port was touched (-before +now):\n%s", diff)
	}
}

func (s suite) taken() {
	device := s.device("ct0", true)
	late := s.mustPlan(s.port(device, s.fullPolicy()))
	sooner := s.port(device, vnet.Policy{})
	sooner.Guest.UUID = otherGuest
	s.apply(s.mustPlan(sooner))
	before := s.Look(s.T, device)
	_, err := s.driver.Apply(s.Context(), late)
	s.fails(err, switchcfg.ErrNotOwned, device)
	if diff := difference(before, s.Look(s.T, device)); diff != "" {
		s.Fatalf("the port was touched (-before +now):\n%s", diff)
	}
}

func (s suite) unsupported() {
	device := s.device("ct0", true)
	caps := s.driver.Capabilities()
	for feature, policy := range asks() {
		want, err := switchcfg.Desired([]vnet.Port{s.port(device, policy)}, s.Switch)
		if err != nil {
			s.Fatal(err)
		}
		err = caps.Check(s.Context(), want)
		reason, missing := caps.Missing[feature]
		if !missing && caps.Try != nil {
			reason = caps.Try(s.Context(), feature)
			missing = reason != ""
		}
		if !missing {
			if err != nil && !s.missesOther(feature) {
				s.Errorf("%s is not missing, yet refused: %v", feature, err)
			}
			continue
		}
		s.fails(err, switchcfg.ErrUnsupported, s.Switch.Name)
		if strings.TrimSpace(reason) == "" || strings.Contains(reason, "\n") {
			s.Errorf("%s is missing because of %q, want one line", feature, reason)
		}
	}
}

// missesOther reports whether a port that asks for one feature only is refused
// for another, which [switchcfg.Desired] asks for by itself.
func (s suite) missesOther(feature switchcfg.Feature) bool {
	return feature != switchcfg.FlagBPDUGuard.Feature() && !s.has(switchcfg.FlagBPDUGuard.Feature())
}

func (s suite) cancelled() {
	device := s.device("ct0", true)
	plan := s.mustPlan(s.port(device, s.fullPolicy()))
	before := s.Look(s.T, device)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.driver.Observe(ctx, switchcfg.Scope{}); !errors.Is(err, context.Canceled) {
		s.Errorf("observe: got error %v, want %v", err, context.Canceled)
	}
	if _, err := s.driver.Apply(ctx, plan); !errors.Is(err, context.Canceled) {
		s.Errorf("apply: got error %v, want %v", err, context.Canceled)
	}
	if diff := difference(before, s.Look(s.T, device)); diff != "" {
		s.Fatalf("the port was touched (-before +now):\n%s", diff)
	}
	s.apply(plan) // the driver is as good as new
}

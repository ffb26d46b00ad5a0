// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/switchcfg"
)

func TestPreflightFails(t *testing.T) {
	boom := errors.New("boom")
	for name, tc := range map[string]struct {
		sabotage func(*memory)
		network  string
		want     string
		warning  bool
	}{
		"unreachable": {func(m *memory) { m.openError = switchcfg.ErrUnreachable }, "lan", "does not answer", false},
		"incapable": {func(m *memory) {
			m.missing = map[switchcfg.Feature]string{switchcfg.FlagBPDUGuard.Feature(): "no guard here"}
		}, "lan", "no guard here", false},
		"warns": {func(m *memory) { m.openError = boom }, "soft", "boom", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			tc.sabotage(s.switches["br0"])
			err := s.Preflight(t.Context(), guestWith(nic(1, tc.network, ""), nic(2, tc.network, "")))
			if _, ok := errors.AsType[*hooks.Warning](err); err == nil || !strings.Contains(err.Error(), tc.want) || ok != tc.warning {
				t.Errorf("error %v, want %q, warning %v", err, tc.want, tc.warning)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestMark(t *testing.T) {
	t.Parallel()
	foreign := func(alias string) (string, mark) { return alias, mark{foreign: alias} }
	owner := switchcfg.Owner{Guest: "u1", MAC: vnet.MAC{0x52, 0x54, 0, 1, 2, 3}, Network: "red"}
	check := func(alias string, want mark) {
		t.Helper()
		if got := parseMark(alias); got != want || got.String() != alias {
			t.Errorf("%q: got %+v, which reads %q; want %+v", alias, got, got, want)
		}
	}
	check(foreign("to the printer"))
	check(foreign("virt-vnet guest=u1"))
	check(foreign("virt-vnet guest=u1 mac=x network=red"))
	check(foreign("virt-vnet vantage pid=1 start=2 ns=3"))
	check("", mark{})
	check("virt-vnet guest=u1 mac=52:54:00:01:02:03 network=red", mark{owner: owner})
	check("virt-vnet guest=u1 mac=52:54:00:01:02:03 guarded network=red", mark{owner: owner, guarded: true})
	check("virt-vnet guest=u1 mac=52:54:00:01:02:03 guarded shaped network=red", mark{owner: owner, guarded: true, shaped: true})
	check("virt-vnet guest=u1 mac= shaped network=red", mark{owner: switchcfg.Owner{Guest: "u1", Network: "red"}, shaped: true})
	check("virt-vnet guest=u1 mac= network=a network=b", mark{owner: switchcfg.Owner{Guest: "u1", Network: "a network=b"}})
}

func TestMarkOf(t *testing.T) {
	t.Parallel()
	owner := switchcfg.Owner{Guest: "u1", Network: "red"}
	for _, c := range []struct {
		settings        switchcfg.Settings
		guarded, shaped bool
	}{
		{switchcfg.Settings{}, false, false},
		{switchcfg.Settings{Guard: &switchcfg.Guard{}, QoS: &vnet.QoS{}}, false, false},
		{switchcfg.Settings{Guard: &switchcfg.Guard{RA: true}}, true, false},
		{switchcfg.Settings{QoS: &vnet.QoS{Priority: 3}}, true, false},
		{switchcfg.Settings{QoS: &vnet.QoS{Outbound: vnet.Rate{Bits: 8}}}, false, true},
	} {
		if got := markOf(owner, c.settings); got.guarded != c.guarded || got.shaped != c.shaped {
			t.Errorf("%+v: got %+v", c.settings, got)
		}
		if got := markOf(switchcfg.Owner{}, c.settings); got != (mark{}) {
			t.Errorf("%+v of nobody: got %+v", c.settings, got)
		}
	}
}

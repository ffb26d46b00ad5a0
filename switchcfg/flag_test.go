// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchcfg_test

import (
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestFlagsReadWhatTheyWrite(t *testing.T) {
	t.Parallel()
	var all switchcfg.Flags
	for f := range switchcfg.AllFlags() {
		all[f] = vnet.ToggleOf(f%2 == 0)
		var one switchcfg.Flags
		one[f] = vnet.ToggleOn
		for _, want := range []switchcfg.Flags{one, all} {
			text, err := want.MarshalText()
			var got switchcfg.Flags
			if errRead := got.UnmarshalText(text); err != nil || errRead != nil || got != want {
				t.Errorf("%q: got %s and errors %v, %v; want %s", text, got, err, errRead, want)
			}
		}
	}
	var got switchcfg.Flags
	if err := got.UnmarshalText([]byte("isolated=on of_the_future=on")); err != nil || got != (switchcfg.Flags{switchcfg.FlagIsolated: vnet.ToggleOn}) {
		t.Errorf("an unknown flag: got %s and error %v", got, err)
	}
	if err := got.UnmarshalText([]byte("isolated=maybe")); err == nil {
		t.Error("no error of a value that is none")
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/virt-vnet/virt-vnet/switchcfg"
)

func TestCauses(t *testing.T) {
	var c causes
	c.add("fine", nil)
	if err := c.error(); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	for i := range 7 {
		c.add(fmt.Sprintf("web%d", i), fmt.Errorf("switch br0: %w", switchcfg.ErrUnreachable))
	}
	c.add("db1", errors.New("no such VLAN"))
	c.add("db2", errors.New("no such bridge"))
	c.add("db3", errors.New("no such bridge"))
	err := c.error()
	want := "guests web0, web1, web2, web3, web4 and 2 more: switch br0: " + switchcfg.ErrUnreachable.Error() +
		"\nguest db1: no such VLAN\nguests db2, db3: no such bridge"
	if err.Error() != want || !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

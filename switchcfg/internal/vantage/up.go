// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vantage

import (
	"context"
	"fmt"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// BringUp sets a vantage up, with IPv6 off it. The error is one of switchcfg.
func BringUp(ctx context.Context, links *rtnl.Conn, device string) error {
	if err := Quiet(device); err != nil {
		return err
	}
	link, err := links.LinkByName(ctx, device)
	if err == nil {
		_, err = links.Send(ctx, rtnl.UpMessage(link.Index), 0)
	}
	if err != nil {
		return fmt.Errorf("bring %s up: %w", device, rtnl.Translate(err))
	}
	return nil
}

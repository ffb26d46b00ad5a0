// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"encoding/xml"
	"fmt"
)

// HostUUID returns the UUID of the machine that the guests run on
// (https://libvirt.org/formatcaps.html), by which two URIs of one are told.
func (c *Conn) HostUUID(ctx context.Context) (string, error) {
	return ask(ctx, c, func() (string, error) {
		text, err := c.conn.GetCapabilities()
		if err != nil {
			return "", callError("libvirt "+c.uri+": read its capabilities", err)
		}
		var found struct {
			UUID string `xml:"host>uuid"`
		}
		if err := xml.Unmarshal([]byte(text), &found); err != nil {
			return "", fmt.Errorf("libvirt %s: read its capabilities: %w", c.uri, err)
		}
		return found.UUID, nil
	})
}

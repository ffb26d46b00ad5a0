// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"errors"
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// EnsureGuestRecords makes each guest that libvirt has carry the record that
// want returns for its name: see [libvirtnet.GuestRecord]. One that is empty is
// none, and one that is not known is left as it is. It returns the names of the
// guests that were changed.
func (c *Conn) EnsureGuestRecords(ctx context.Context, want func(name string) (record string, known bool)) (changed []string, err error) {
	guests, err := c.Guests(ctx)
	if err != nil {
		return nil, err
	}
	for _, g := range guests {
		record, known := want(g.Name)
		if !known || g.Domain.Record == record {
			continue
		}
		if err := c.setGuestRecord(ctx, g, record); err != nil {
			return changed, err
		}
		changed = append(changed, g.Name)
	}
	return changed, nil
}

func (c *Conn) setGuestRecord(ctx context.Context, g Guest, record string) error {
	element := "" // none
	if record != "" {
		element = libvirtnet.GuestRecord(record)
	}
	_, err := withGuest(ctx, c, g.UUID, func(handle *libvirt.Domain) (struct{}, error) {
		persistent, err := handle.IsPersistent()
		if err != nil {
			return struct{}{}, callError("guest "+g.Name, err)
		}
		var impact libvirt.DomainModificationImpact
		if persistent {
			impact |= libvirt.DOMAIN_AFFECT_CONFIG
		}
		if g.Active {
			impact |= libvirt.DOMAIN_AFFECT_LIVE
		}
		err = handle.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, element, "vnet", libvirtnet.Namespace, impact)
		if err != nil && !errors.Is(err, libvirt.ERR_NO_DOMAIN_METADATA) {
			return struct{}{}, callError(fmt.Sprintf("guest %s: keep what the spec says of it", g.Name), err)
		}
		return struct{}{}, nil
	})
	return err
}

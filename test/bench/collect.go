// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

// collectSize is how many guests are listed.
const collectSize = 1000

// collector lists the guests of libvirt's own test driver, which keeps them in
// memory: what is measured is who asks.
type collector struct {
	uri  string
	asks []string // what virsh is told
}

func newCollector(b *bench) (*collector, error) {
	path := filepath.Join(b.scriptDir, "guests.xml")
	c := &collector{uri: "test://" + path}
	var xml strings.Builder
	xml.WriteString("<node>\n")
	for i := range collectSize {
		name := fmt.Sprintf("guest%04d", i)
		fmt.Fprintf(&xml, "<domain type='test'><name>%s</name><memory>1024</memory><os><type>hvm</type></os><devices>"+
			"<interface type='network'><mac address='52:54:00:0a:%02x:%02x'/><source network='default'/></interface>"+
			"</devices></domain>\n", name, i>>8, i&0xff)
		c.asks = append(c.asks, "dumpxml "+name, "domifaddr "+name)
	}
	xml.WriteString("<network><name>default</name><bridge name='virbr0'/><ip address='192.168.122.1' netmask='255.255.255.0'>" +
		"<dhcp><range start='192.168.122.128' end='192.168.122.253'/></dhcp></ip></network></node>\n")
	return c, os.WriteFile(path, []byte(xml.String()), 0o600)
}

func (c *collector) ours(ctx context.Context) (took time.Duration, err error) {
	begun := time.Now()
	conn, err := virtapi.Open(ctx, c.uri)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	guests, err := conn.Guests(ctx)
	if err != nil {
		return 0, err
	}
	for _, g := range guests {
		if _, err := conn.Addresses(ctx, g.Name, virtapi.SourceLease); err != nil {
			return 0, err
		}
	}
	took = time.Since(begun)
	if len(guests) != collectSize || len(guests[collectSize-1].Domain.NICs) != 1 {
		return 0, fmt.Errorf("%d guests found, want %d with a NIC each", len(guests), collectSize)
	}
	return took, nil
}

func (c *collector) virsh(ctx context.Context) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "virsh", "-q", "-c", c.uri)
	cmd.Stdin = strings.NewReader(strings.Join(c.asks, "\n"))
	begun := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(begun)
	if found := bytes.Count(out, []byte("</domain>")); err == nil && found != collectSize {
		err = fmt.Errorf("virsh shows %d guests, want %d", found, collectSize)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, lastLines(string(out), 5))
	}
	return took, nil
}

// collect measures what a verification asks libvirt before it begins.
func collect(ctx context.Context, b *bench) (medians, error) {
	c, err := newCollector(b)
	if err != nil {
		return medians{}, err
	}
	return interleave(
		ctx, effort{least: 5, most: 21, limit: 10 * time.Second},
		contender{name: "ours", run: c.ours},
		contender{name: "virsh", run: c.virsh},
	)
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func open(t *testing.T, uri string) *virtapi.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := virtapi.Open(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, virtapi.ErrNotRunning) {
			t.Error(err)
		}
	})
	return c
}

// networkXML is the definition of n for the libvirt of the machine.
func networkXML(t *testing.T, n vnet.Network, sw vnet.Switch) string {
	t.Helper()
	text, err := libvirtnet.NetworkXML(n, sw, 9_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// golden is the network definitions that the tests of libvirtnet hold, by name,
// as they are for that libvirt.
func golden(t *testing.T, version string) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../testdata/networks/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	definitions := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var last string
		for section := range strings.SplitSeq(string(data), "== libvirt ") {
			header, body, _ := strings.Cut(section, "\n")
			if body, _, ok := strings.Cut(body, "#"); ok {
				last = body
			}
			if strings.HasPrefix(header, version) {
				definitions[strings.TrimSuffix(filepath.Base(file), ".txt")] = last
			}
		}
	}
	return definitions
}

// mustEnsure ensures one network and returns what was done.
func mustEnsure(t *testing.T, c *virtapi.Conn, xml string, opts virtapi.EnsureOptions) virtapi.Ensured {
	t.Helper()
	done, err := c.EnsureNetwork(t.Context(), xml, opts)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// network returns one of libvirt's networks.
func network(t *testing.T, c *virtapi.Conn, name string) (virtapi.Network, bool) {
	t.Helper()
	list, err := c.Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.Name == name {
			return n, true
		}
	}
	return virtapi.Network{}, false
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

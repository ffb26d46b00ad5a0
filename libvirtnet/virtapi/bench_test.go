// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"fmt"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// BenchmarkDefine200 defines 200 networks through this package and, in the same
// rounds, with the bare calls that libvirt's API needs. It reports the ratio.
func BenchmarkDefine200(b *testing.B) {
	lab.Need(b, lab.Libvirt)
	labtest.Start(b, lab.Options{Libvirt: true})
	for name, opts := range map[string]virtapi.EnsureOptions{"define": {}, "autostart and start": on} {
		b.Run(name, func(b *testing.B) {
			var ours, raw, again time.Duration
			for b.Loop() {
				raw += timed(b, func(xmls []string) error { return rawDefine(xmls, opts) })
				ours += timed(b, func(xmls []string) error { return ensure(b, xmls, opts, &again) })
			}
			ours -= again
			b.ReportMetric(ours.Seconds()*1e3/float64(b.N), "ours-ms")
			b.ReportMetric(raw.Seconds()*1e3/float64(b.N), "raw-ms")
			b.ReportMetric(again.Seconds()*1e3/float64(b.N), "again-ms")
			b.ReportMetric(ours.Seconds()/raw.Seconds(), "ratio")
		})
	}
}

// timed measures define, which opens a connection of its own, and removes the
// networks.
func timed(b *testing.B, define func([]string) error) time.Duration {
	b.Helper()
	xmls := make([]string, 200)
	for i := range xmls {
		n := vnet.Network{Name: fmt.Sprintf("bench%03d", i), Mode: vnet.ModeBridge}
		text, err := libvirtnet.NetworkXML(n, vnet.Switch{Name: "br0", Driver: vnet.DriverLinux}, 9_000_000)
		if err != nil {
			b.Fatal(err)
		}
		xmls[i] = text
	}
	start := time.Now()
	err := define(xmls)
	took := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	c, err := virtapi.Open(b.Context(), lab.URI)
	if err != nil {
		b.Fatal(err)
	}
	list, err := c.Networks(b.Context())
	if err != nil || len(list) != len(xmls) {
		b.Fatalf("%d networks, %v", len(list), err)
	}
	for _, n := range list {
		if err := c.RemoveNetwork(b.Context(), n.Name); err != nil {
			b.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	return took
}

// ensure makes the networks and adds to again what finding them all made takes.
func ensure(b *testing.B, xmls []string, opts virtapi.EnsureOptions, again *time.Duration) error {
	c, err := virtapi.Open(b.Context(), lab.URI)
	if err != nil {
		return err
	}
	if _, err = c.EnsureNetworks(b.Context(), xmls, opts); err != nil {
		return err
	}
	start := time.Now()
	if _, err := c.EnsureNetworks(b.Context(), xmls, opts); err != nil {
		return err
	}
	*again += time.Since(start)
	return c.Close()
}

func rawDefine(xmls []string, opts virtapi.EnsureOptions) error {
	conn, err := libvirt.NewConnect(lab.URI)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // the benchmark does not care
	for _, xml := range xmls {
		n, err := conn.NetworkDefineXML(xml)
		if err != nil {
			return err
		}
		if opts.Autostart {
			err = n.SetAutostart(true)
		}
		if err == nil && opts.Start {
			err = n.Create()
		}
		if err != nil {
			return err
		}
		if err := n.Free(); err != nil {
			return err
		}
	}
	return nil
}

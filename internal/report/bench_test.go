// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// BenchmarkWrite writes the report of 10,000 guests that all fail alike.
func BenchmarkWrite(b *testing.B) {
	r := base()
	for i := range 10000 {
		e := end(fmt.Sprintf("web%05d", i), "red")
		r.NICs = append(r.NICs, nic(e, noGateway, failed(verify.RungUplink)))
		r.Pairs = append(r.Pairs, pair(e, e, apart, verify.StatusInconclusive))
		r.Problems = append(r.Problems, verify.Problem{
			Problem: vnet.Problem{Code: verify.CodeUplinkDown, Subject: "guest " + e.Guest, Fix: "virt-vnet repair " + e.Guest},
			Rung:    verify.RungUplink, Network: "red", Affects: []verify.Endpoint{e},
		})
	}
	for _, form := range report.Formats() {
		b.Run(form, func(b *testing.B) {
			for b.Loop() {
				if err := report.Write(form, io.Discard, report.Result{Report: r}, report.Style{Width: 100}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

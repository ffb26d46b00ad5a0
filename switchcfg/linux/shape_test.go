// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestShapeThereAndBack checks that what the kernel keeps of a limit, which is
// ticks, reads back as the limit.
func TestShapeThereAndBack(t *testing.T) {
	t.Parallel()
	for _, bits := range []vnet.BitRate{8, 64e3, 1e6, 1.5e6, 100e6, 1e9, 25e9, 40e9, 100e9} {
		for _, burst := range []vnet.ByteSize{0, 1500, 64 << 10, 1 << 20, 256 << 20} {
			want := vnet.QoS{Inbound: vnet.Rate{Bits: bits, Burst: burst}}.Exact().Inbound
			rate := uint64(want.Bits) / 8
			if seconds := float64(want.Burst) / float64(rate); seconds > 270 {
				continue // more than the ticks hold
			}
			if got := (shape{rate: rate, ticks: ticks(want.Burst, rate)}).limit(); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	}
}

func TestParseShapeOfNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{unix.ENOENT, unix.EINVAL} {
		if got, e := parseShape(rtnl.Answer{Err: err}, parseTBF); e != nil || got != (vnet.Rate{}) {
			t.Errorf("%v: got %+v and error %v", err, got, e)
		}
	}
	if _, err := parseShape(rtnl.Answer{Err: unix.EPERM}, parseTBF); err == nil {
		t.Error("no error")
	}
	if _, err := parseShape(rtnl.Answer{Payloads: [][]byte{{1, 2, 3}}}, parseTBF); err == nil {
		t.Error("no error of a short answer")
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package rtnl_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// attr encodes one attribute.
func attr(kind uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// linkHeader is the fixed part of a link message about index 7.
func linkHeader() []byte {
	header := make([]byte, unix.SizeofIfInfomsg)
	header[4] = 7
	return header
}

func TestParseLink(t *testing.T) {
	t.Parallel()
	tooLong := attr(unix.IFLA_MTU, 1, 2, 3, 4)
	tooLong[0] = 200
	tooShort := attr(unix.IFLA_MTU, 1, 2, 3, 4)
	tooShort[0] = 3
	for name, msg := range map[string][]byte{
		"empty":                       nil,
		"half a header":               linkHeader()[:8],
		"attribute longer than all":   append(linkHeader(), tooLong...),
		"attribute shorter than half": append(linkHeader(), tooShort...),
	} {
		if l, err := rtnl.ParseLink(msg); !errors.Is(err, rtnl.ErrMalformed) {
			t.Errorf("%s: got %+v and error %v, want %v", name, l, err, rtnl.ErrMalformed)
		}
	}
	msg := linkHeader()
	msg = append(msg, attr(unix.IFLA_IFNAME, 'v', 'n', 'e', 't', '0', 0)...)
	msg = append(msg, attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, attr(unix.IFLA_INFO_KIND, 't', 'u', 'n')...)...)
	msg = append(msg, attr(unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, 9000)...)...)
	unpadded := attr(unix.IFLA_IFALIAS, 'm', 'e')
	msg = append(msg, unpadded[:6]...)
	want := rtnl.Link{Index: 7, Name: "vnet0", MTU: 9000, Alias: "me", Info: attr(unix.IFLA_INFO_KIND, 't', 'u', 'n')}
	got, err := rtnl.ParseLink(msg)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzParseLink(f *testing.F) {
	f.Add(linkHeader())
	f.Add(append(linkHeader(), attr(unix.IFLA_MTU, 1, 2, 3, 4)...))
	f.Fuzz(func(_ *testing.T, msg []byte) {
		_, _ = rtnl.ParseLink(msg) // must not panic
	})
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value []byte
		want  uint32
	}{
		{nil, 0},
		{[]byte{1, 2, 3}, 0},
		{[]byte{5}, 5},
		{binary.NativeEndian.AppendUint16(nil, 4094), 4094},
		{binary.NativeEndian.AppendUint32(nil, 70000), 70000},
	} {
		if got := rtnl.Number(c.value); got != c.want {
			t.Errorf("%v: got %d, want %d", c.value, got, c.want)
		}
	}
}

// TestLinkByName looks at the loopback device, which every machine has.
func TestLinkByName(t *testing.T) {
	t.Parallel()
	c, err := rtnl.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []string{"", "nosuch0", "a-name-that-no-device-can-be"} {
		if l, err := c.LinkByName(t.Context(), name); !rtnl.IsGone(err) {
			t.Errorf("%q: got %+v and error %v, want no such device", name, l, err)
		}
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.LinkByName(t.Context(), "lo")
	if err != nil {
		t.Fatal(err)
	}
	if got.Index != lo.Index || got.MTU != lo.MTU || got.Name != "lo" {
		t.Errorf("got %+v, want index %d, MTU %d", got, lo.Index, lo.MTU)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.LinkByIndex(ctx, lo.Index); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	other := errors.New("else")
	for _, c := range []struct{ err, want error }{
		{unix.EPERM, switchcfg.ErrPermission},
		{unix.EACCES, switchcfg.ErrPermission},
		{unix.ENODEV, switchcfg.ErrNoPort},
		{unix.EOPNOTSUPP, switchcfg.ErrUnsupported},
		{unix.EAGAIN, switchcfg.ErrUnreachable},
		{other, other},
	} {
		if got := rtnl.Translate(c.err); !errors.Is(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
}

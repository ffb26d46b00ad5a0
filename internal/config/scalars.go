// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// prefix is a prefix, or an address alone.
type prefix struct{ netip.Prefix }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (p *prefix) UnmarshalText(text []byte) (err error) {
	p.Prefix, err = vnet.ParsePrefix(string(text))
	return err
}

// MarshalText implements [encoding.TextMarshaler].
func (p prefix) MarshalText() ([]byte, error) {
	if p.IsSingleIP() {
		return p.Addr().MarshalText()
	}
	return p.Prefix.MarshalText()
}

// service is "db1:5432": somebody, as yet unread, and a port.
type service struct {
	party string
	port  uint16
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *service) UnmarshalText(text []byte) error {
	host, port, err := net.SplitHostPort(string(text))
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host == "" || number == 0 {
		return fmt.Errorf("%q is no TCP service: want one such as db1:5432 or [2001:db8::1]:443", text)
	}
	s.party, s.port = host, uint16(number)
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (s service) MarshalText() ([]byte, error) {
	return []byte(net.JoinHostPort(s.party, strconv.Itoa(int(s.port)))), nil
}

// socket is an address and a port, "10.0.0.100:80".
type socket struct{ netip.AddrPort }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *socket) UnmarshalText(text []byte) (err error) {
	s.AddrPort, err = netip.ParseAddrPort(string(text))
	if err != nil || s.Port() == 0 || s.Addr().Zone() != "" {
		return fmt.Errorf("%q is no address with a port: want one such as 10.0.0.100:80 or [2001:db8::1]:443", text)
	}
	return nil
}

// below is a limit of time, "<5ms".
type below time.Duration

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *below) UnmarshalText(text []byte) error {
	rest, ok := strings.CutPrefix(string(text), "<")
	limit, err := time.ParseDuration(strings.TrimSpace(rest))
	if !ok || err != nil || limit <= 0 {
		return fmt.Errorf("%q is no limit of time: want one such as <5ms", text)
	}
	*b = below(limit)
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (b below) MarshalText() ([]byte, error) { return []byte("<" + time.Duration(b).String()), nil }

// share is a limit of a part of a whole, "<1%".
type share float64

// minShare is the smallest limit that can be measured with the echoes that
// verify sends.
const minShare = 0.001

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *share) UnmarshalText(text []byte) error {
	rest, ok := strings.CutPrefix(string(text), "<")
	number, percent := strings.CutSuffix(rest, "%")
	value, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	// Written so that not-a-number is refused, too.
	if !ok || !percent || err != nil || !(value >= minShare*100 && value <= 100) {
		return fmt.Errorf("%q is no limit of loss: want one such as <1%%, at least <0.1%%", text)
	}
	*s = share(value / 100)
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (s share) MarshalText() ([]byte, error) { return []byte("<" + vnet.Percent(float64(s))), nil }

// day is a date, "2027-01-31", in the host's time zone.
type day struct{ time.Time }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *day) UnmarshalText(text []byte) error {
	date, err := time.ParseInLocation(time.DateOnly, string(text), time.Local)
	if err != nil {
		return fmt.Errorf("%q is no date: want one such as 2027-01-31", text)
	}
	d.Time = date
	return nil
}

// MarshalText implements [encoding.TextMarshaler].
func (d day) MarshalText() ([]byte, error) { return []byte(d.Format(time.DateOnly)), nil }

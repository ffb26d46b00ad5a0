// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vnet

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Transport is how a database server is reached. The zero Transport is invalid.
type Transport int

// The transports, with the names that Open vSwitch gives them (ovsdb(7),
// "Connection Methods").
const (
	// TransportUnix is a Unix domain socket of this host.
	TransportUnix Transport = iota + 1
	// TransportTCP is plain TCP.
	TransportTCP
	// TransportSSL is TLS over TCP.
	TransportSSL
)

var transportNames = names{"", "unix", "tcp", "ssl"}

// String returns the word that Open vSwitch uses.
func (t Transport) String() string { return transportNames.name(int(t)) }

// Endpoint is where an OVSDB server listens.
type Endpoint struct {
	Transport Transport
	// Address is the absolute path of a socket, or an IP address and a port.
	Address string
}

// ParseEndpoint reads an endpoint as Open vSwitch writes it: unix:PATH,
// tcp:IP:PORT or ssl:IP:PORT, with an IPv6 address in brackets.
func ParseEndpoint(text string) (Endpoint, error) {
	kind, address, _ := strings.Cut(text, ":")
	transport, err := transportNames.parse("transport", []byte(kind))
	ok := err == nil
	switch Transport(transport) {
	case TransportUnix:
		ok = filepath.IsAbs(address)
	case TransportTCP, TransportSSL:
		port, err := netip.ParseAddrPort(address)
		ok = err == nil && port.Port() != 0
	}
	if !ok {
		return Endpoint{}, fmt.Errorf("%q is no database server: want one such as "+
			"unix:/run/openvswitch/db.sock, tcp:192.0.2.1:6641 or ssl:[2001:db8::1]:6641", text)
	}
	return Endpoint{Transport(transport), address}, nil
}

// String is what ParseEndpoint reads.
func (e Endpoint) String() string { return e.Transport.String() + ":" + e.Address }

// Endpoints is the servers of one database. Several are a cluster.
type Endpoints []Endpoint

// MarshalText implements [encoding.TextMarshaler].
func (es Endpoints) MarshalText() ([]byte, error) { return []byte(es.String()), nil }

// UnmarshalText reads endpoints with commas between them.
func (es *Endpoints) UnmarshalText(text []byte) error {
	*es = nil
	for item := range strings.SplitSeq(string(text), ",") {
		e, err := ParseEndpoint(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		*es = append(*es, e)
	}
	return nil
}

// String is what UnmarshalText reads.
func (es Endpoints) String() string {
	words := make([]string, len(es))
	for i, e := range es {
		words[i] = e.String()
	}
	return strings.Join(words, ",")
}

// NeedTLS reports whether any of them does.
func (es Endpoints) NeedTLS() bool {
	for _, e := range es {
		if e.Transport == TransportSSL {
			return true
		}
	}
	return false
}

// TLS names the PEM files of a client of ssl endpoints, by absolute path.
type TLS struct {
	// Key is the private key, which nobody but its owner may read.
	Key         string `json:"key,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	// CA is whose signature the server's certificate must have.
	CA string `json:"ca,omitempty"`
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovsdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// secure makes c a TLS connection. It closes c when it cannot.
func secure(ctx context.Context, c net.Conn, files vnet.TLS) (net.Conn, error) {
	config, err := clientConfig(files)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	secured := tls.Client(c, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = c.Close() // it is of no use
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			return nil, fmt.Errorf("%w: its certificate is not signed by %s: %w", switchcfg.ErrPermission, files.CA, err)
		}
		return nil, fmt.Errorf("%w: TLS: %w", switchcfg.ErrUnreachable, err)
	}
	return secured, nil
}

// clientConfig reads the files. As every program of Open vSwitch does, the
// client trusts whoever the CA has signed, whatever name is in the certificate:
// ovs-pki(8) makes certificates without the names or addresses of hosts.
func clientConfig(files vnet.TLS) (*tls.Config, error) {
	info, err := os.Stat(files.Key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("private key %s: others may read it (mode %#o): chmod 600 %s", files.Key, mode, files.Key)
	}
	pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", files.Certificate, err)
	}
	pem, err := os.ReadFile(files.CA)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA certificate %s: it has no certificate in PEM form", files.CA)
	}
	verify := func(state tls.ConnectionState) error {
		options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		for _, c := range state.PeerCertificates[1:] {
			options.Intermediates.AddCert(c)
		}
		if _, err := state.PeerCertificates[0].Verify(options); err != nil {
			return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
		}
		return nil
	}
	return &tls.Config{
		Certificates:       []tls.Certificate{pair},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verify does all of it but the name
		VerifyConnection:   verify,
	}, nil
}

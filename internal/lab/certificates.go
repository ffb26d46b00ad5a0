// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Certificates are files, in PEM, with which a server and a client prove to each
// other who they are (RFC 5280).
type Certificates struct {
	CA                string // what signed both certificates
	WrongCA           string // what signed neither
	Server, ServerKey string
	Client, ClientKey string
}

// CertificatesIn returns the names of the files in a directory.
func CertificatesIn(dir string) Certificates {
	in := func(name string) string { return filepath.Join(dir, name) }
	return Certificates{
		CA: in("ca.pem"), WrongCA: in("wrong-ca.pem"),
		Server: in("server.pem"), ServerKey: in("server-key.pem"),
		Client: in("client.pem"), ClientKey: in("client-key.pem"),
	}
}

// Write makes keys and certificates, for a day, and writes all files. The
// server has the name and the addresses.
func (c Certificates) Write(name string, addrs ...netip.Addr) error {
	ca, err := newAuthority("virt-vnet lab")
	if err != nil {
		return err
	}
	wrong, err := newAuthority("virt-vnet lab, another one")
	if err != nil {
		return err
	}
	if err := writePEM(c.CA, "CERTIFICATE", ca.cert.Raw); err != nil {
		return err
	}
	if err := writePEM(c.WrongCA, "CERTIFICATE", wrong.cert.Raw); err != nil {
		return err
	}
	server := certificate(name)
	server.DNSNames = []string{name}
	for _, a := range addrs {
		server.IPAddresses = append(server.IPAddresses, a.AsSlice())
	}
	if err := ca.issue(server, c.Server, c.ServerKey); err != nil {
		return err
	}
	return ca.issue(certificate("client"), c.Client, c.ClientKey)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("lab: certificates: %w", err)
	}
	cert := certificate(name)
	cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage = true, true, x509.KeyUsageCertSign
	raw, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("lab: certificates: %w", err)
	}
	if cert, err = x509.ParseCertificate(raw); err != nil {
		return nil, fmt.Errorf("lab: certificates: %w", err)
	}
	return &authority{cert: cert, key: key}, nil
}

func certificate(name string) *x509.Certificate {
	const allowance = time.Hour // for clocks
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-allowance),
		NotAfter:     now.Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

func (a *authority) issue(cert *x509.Certificate, certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("lab: certificates: %w", err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		return fmt.Errorf("lab: certificates: %w", err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("lab: certificates: %w", err)
	}
	if err := writePEM(certFile, "CERTIFICATE", raw); err != nil {
		return err
	}
	return writePEM(keyFile, "PRIVATE KEY", rawKey)
}

func writePEM(path, kind string, raw []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return fmt.Errorf("lab: certificates: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"encoding/xml"
	"fmt"
	"net"
	"os"
)

// URI is the connection URI of the lab's libvirtd: the same as everywhere.
const URI = "qemu:///system"

func newLibvirtd(at *place) *Daemon {
	argv := []string{"libvirtd"}
	if at != nil {
		argv = append(argv, "--listen") // to the other hosts
	}
	return &Daemon{
		name: "libvirtd",
		at:   at,
		argv: argv,
		log:  "/var/log/libvirt/libvirtd.log",
		// It says so at the beginning, and looks for hooks next.
		reloaded: "Reloading configuration on SIGHUP",
		ready: func(ctx context.Context) error {
			// A client that connects early is made to wait, so this is answered
			// only when all drivers are up. Look for the socket first: it is cheaper.
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", "/run/libvirt/libvirt-sock")
			if err != nil {
				return err
			}
			_ = conn.Close()
			_, err = virsh(ctx, "list")
			return err
		},
	}
}

// Virsh runs virsh against the lab's libvirtd and returns what it printed.
func (l *Lab) Virsh(ctx context.Context, args ...string) (out string, err error) {
	err = l.at.do(func() error {
		out, err = virsh(ctx, args...)
		return err
	})
	return out, err
}

func virsh(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append([]string{"virsh", "-q", "-c", URI}, args...)...)
}

// DefineNetwork defines a libvirt network from its XML and starts it.
func (l *Lab) DefineNetwork(ctx context.Context, text string) error {
	return l.at.do(func() error { return defineNetwork(ctx, text) })
}

func defineNetwork(ctx context.Context, text string) error {
	f, err := os.CreateTemp(base, "network-*.xml")
	if err != nil {
		return fmt.Errorf("lab: define network: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // it is in the lab's tmpfs
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("lab: define network: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("lab: define network: %w", err)
	}
	var network struct {
		Name string `xml:"name"`
	}
	if err := xml.Unmarshal([]byte(text), &network); err != nil {
		return fmt.Errorf("lab: define network: %w", err)
	}
	if _, err := virsh(ctx, "net-define", f.Name()); err != nil {
		return fmt.Errorf("lab: define network %s: %w", network.Name, err)
	}
	if _, err := virsh(ctx, "net-start", network.Name); err != nil {
		return fmt.Errorf("lab: start network %s: %w", network.Name, err)
	}
	return nil
}

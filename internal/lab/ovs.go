// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"os"
)

const (
	// OVSDBEndpoint is where the lab's OVSDB server listens: the usual place.
	OVSDBEndpoint = "unix:/run/openvswitch/db.sock"

	ovsdbFile   = "/etc/openvswitch/conf.db"
	ovsdbSchema = "/usr/share/openvswitch/vswitch.ovsschema"
)

func newOVSDB(at *place, system string) *Daemon {
	return &Daemon{
		at:   at,
		name: "ovsdb-server",
		argv: []string{
			"ovsdb-server", ovsdbFile, "--remote=p" + OVSDBEndpoint,
			"--remote=db:Open_vSwitch,Open_vSwitch,manager_options",
			"--private-key=db:Open_vSwitch,SSL,private_key", "--certificate=db:Open_vSwitch,SSL,certificate",
			"--ca-cert=db:Open_vSwitch,SSL,ca_cert",
			"--pidfile", "--log-file", "-vconsole:off",
		},
		log: "/var/log/openvswitch/ovsdb-server.out",
		prep: func(ctx context.Context) error {
			if _, err := os.Stat(ovsdbFile); err == nil {
				return nil
			}
			_, err := run(ctx, "ovsdb-tool", "create", ovsdbFile, ovsdbSchema)
			return err
		},
		ready: func(ctx context.Context) error {
			_, err := vsctl(ctx, "--no-wait", "--", "init",
				"--", "set", "Open_vSwitch", ".", "external_ids:system-id="+system)
			return err
		},
	}
}

func newVswitchd(at *place) *Daemon {
	return &Daemon{
		at:   at,
		name: "ovs-vswitchd",
		argv: []string{"ovs-vswitchd", OVSDBEndpoint, "--pidfile", "--log-file", "-vconsole:off"},
		log:  "/var/log/openvswitch/ovs-vswitchd.out",
		ready: func(ctx context.Context) error {
			_, err := run(ctx, "ovs-appctl", "-t", "ovs-vswitchd", "version")
			return err
		},
	}
}

// Vsctl runs ovs-vsctl against the lab's OVSDB and returns what it printed. It
// waits until ovs-vswitchd has followed, ten seconds at most.
func (l *Lab) Vsctl(ctx context.Context, args ...string) (out string, err error) {
	err = l.at.do(func() error {
		out, err = vsctl(ctx, args...)
		return err
	})
	return out, err
}

func vsctl(ctx context.Context, args ...string) (string, error) {
	return run(ctx, append([]string{"ovs-vsctl", "--timeout=10"}, args...)...)
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// Learned implements [switchcfg.Learner]: it asks ovs-vswitchd, because OVSDB
// does not have it. The bridge's own port and internal ports, which are the
// host's own devices, are left out.
func (d *Driver) Learned(ctx context.Context) ([]switchcfg.Learned, error) {
	names, err := d.portNumbers(ctx)
	if err != nil {
		return nil, fmt.Errorf("switch %s: %w", d.name, err)
	}
	table, err := d.control(ctx, "fdb/show", d.name)
	if err != nil {
		return nil, fmt.Errorf("switch %s: list learned addresses: %w", d.name, err)
	}
	return parseFDB(table, names), nil
}

// portNumbers maps the numbers that ovs-vswitchd gives the ports of the bridge
// to the names of those that may lead to guests.
func (d *Driver) portNumbers(ctx context.Context) (map[string]string, error) {
	results, err := d.transact(ctx, d.readBridge("ports"), readPorts([]ovsdb.Condition{}), readInterfaces([]ovsdb.Condition{}))
	if err != nil {
		return nil, fmt.Errorf("read ports: %w", err)
	}
	bridge, err := d.bridge(results)
	if err != nil {
		return nil, err
	}
	ports, err := ovsdb.Rows[record](results, 1)
	if err != nil {
		return nil, fmt.Errorf("read ports: %w", err)
	}
	interfaces, err := ovsdb.Rows[record](results, 2)
	if err != nil {
		return nil, fmt.Errorf("read interfaces: %w", err)
	}
	return numbers(bridge, ports, interfaces), nil
}

// numbers names the ports of the bridge, each by the numbers of its interfaces:
// one, or several of a bond.
func numbers(bridge record, ports, interfaces []record) map[string]string {
	ours := bridge.has()
	portOf := map[ovsdb.UUID]string{}
	for _, p := range ports {
		for _, id := range p.Interfaces {
			if ours[p.UUID] {
				portOf[id] = p.Name
			}
		}
	}
	names := map[string]string{}
	for _, i := range interfaces {
		if name := portOf[i.UUID]; name != "" && i.Type != "internal" {
			names[strconv.Itoa(i.PortNumber.First())] = name
		}
	}
	return names
}

// control sends a command to ovs-vswitchd, as ovs-appctl(8) does.
func (d *Driver) control(ctx context.Context, command string, args ...string) (string, error) {
	pidFile := filepath.Join(d.runDir, "ovs-vswitchd.pid")
	pid, err := os.ReadFile(pidFile)
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("%s: %w: needs root (with CAP_DAC_OVERRIDE) or the group of Open vSwitch", pidFile, switchcfg.ErrPermission)
	}
	if err != nil {
		return "", fmt.Errorf("ovs-vswitchd %w: is it running? (no %s)", switchcfg.ErrUnreachable, pidFile)
	}
	socket := filepath.Join(d.runDir, fmt.Sprintf("ovs-vswitchd.%s.ctl", strings.TrimSpace(string(pid))))
	c, err := ovsdb.Dial(ctx, product, vnet.Endpoint{Transport: vnet.TransportUnix, Address: socket}, vnet.TLS{})
	if err != nil {
		return "", err
	}
	defer c.Close() //nolint:errcheck // a connection that was only read from
	return c.Command(ctx, command, args...)
}

// parseFDB reads the table of fdb/show: port, VLAN, MAC, age. Lines that are
// none of that, and ports without a name, are skipped.
func parseFDB(table string, names map[string]string) []switchcfg.Learned {
	const columns = 4
	var rows []switchcfg.Learned
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < columns || names[fields[0]] == "" {
			continue
		}
		vlan, errVLAN := strconv.ParseUint(fields[1], 10, 12)
		mac, errMAC := vnet.ParseMAC(fields[2])
		if errVLAN == nil && errMAC == nil {
			rows = append(rows, switchcfg.Learned{MAC: mac, VLAN: vnet.VLANID(vlan), Device: names[fields[0]]})
		}
	}
	return rows
}

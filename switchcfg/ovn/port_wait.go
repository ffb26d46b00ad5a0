// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// forceLimit bounds the wait for ovn-controller where the context does not.
const forceLimit = 10 * time.Second

// answerReserve is kept of the time for finding out why ovn-controller takes so
// long.
const answerReserve = 300 * time.Millisecond

// commit carries the northbound transaction out. The result is the configuration
// number that this chassis must reach to have it in force, or zero.
func (d *Driver) commit(ctx context.Context, tx *transaction) (config int, err error) {
	if len(tx.north) == tx.guards {
		return 0, nil
	}
	ops := tx.north
	if tx.later {
		ops = append(ops,
			ovsdb.Operation{Op: "mutate", Table: "NB_Global", Where: []ovsdb.Condition{}, Mutations: []ovsdb.Condition{{"nb_cfg", "+=", 1}}},
			ovsdb.Select("NB_Global", []ovsdb.Condition{}, "nb_cfg"))
	}
	results, err := d.nb.Transact(ctx, append(ops, ovsdb.Operation{Op: "comment", Comment: "virt-vnet: " + tx.String()})...)
	if err != nil || !tx.later {
		return 0, err
	}
	rows, err := ovsdb.Rows[record](results, len(ops)-1)
	if err != nil || len(rows) != 1 {
		return 0, errors.Join(errors.New("the northbound database has no configuration number"), err)
	}
	return rows[0].Config, nil
}

// commitHere carries this host's transaction out, and waits until ovs-vswitchd
// has it in force.
func (d *Driver) commitHere(ctx context.Context, tx *transaction) error {
	if len(tx.here) == 0 {
		return nil
	}
	ops := append(tx.here,
		ovsdb.Operation{
			Op: "mutate", Table: "Open_vSwitch", Where: []ovsdb.Condition{}, Mutations: []ovsdb.Condition{{"next_cfg", "+=", 1}},
		},
		ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "next_cfg"))
	results, err := d.local.Transact(ctx, ops...)
	if err != nil {
		return fmt.Errorf("on this host: %w", err)
	}
	rows, err := ovsdb.Rows[record](results, len(ops)-1)
	if err != nil || len(rows) != 1 {
		return errors.Join(errors.New("OVSDB has no configuration number"), err)
	}
	err = d.await(ctx, ovsdb.Operation{
		Table: "Open_vSwitch", Where: []ovsdb.Condition{{"cur_cfg", "<", rows[0].NextCfg}},
		Columns: []string{"cur_cfg"}, Until: "==", Rows: []ovsdb.Row{},
	})
	if err != nil {
		return fmt.Errorf("wait for ovs-vswitchd: %w", err)
	}
	return nil
}

// await lets this host's OVSDB wait until the operations are fulfilled.
func (d *Driver) await(ctx context.Context, ops ...ovsdb.Operation) error {
	limit := forceLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(time.Until(deadline)-answerReserve, 0)
	}
	timeout := int(limit / time.Millisecond)
	for i := range ops {
		ops[i].Op, ops[i].Timeout = "wait", &timeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit+answerReserve)
	defer cancel()
	_, err := d.local.Transact(ctx, ops...)
	return err
}

// inForce waits until ovn-controller has bound the ports and has their flows in:
// it says so at their interfaces (ovn-architecture(7), ovn-installed).
func (d *Driver) inForce(ctx context.Context, tx *transaction, config int) error {
	var ops []ovsdb.Operation
	for _, device := range tx.bound {
		which := ovsdb.Condition{"name", "==", device}
		if s := tx.v.devices[device]; s != nil && s.iface != nil {
			which = ovsdb.Condition{"_uuid", "==", s.iface.UUID} // which the server need not look for
		}
		ops = append(ops, ovsdb.Operation{
			Table: "Interface", Where: []ovsdb.Condition{
				which,
				{"external_ids", "includes", ovsdb.Dict{"ovn-installed": "true"}},
			},
			Columns: []string{"name"}, Until: "==", Rows: []ovsdb.Row{{"name": device}},
		})
	}
	err := d.await(ctx, ops...)
	if err == nil && config != 0 {
		err = d.reach(ctx, config)
	}
	switch {
	case err == nil:
		return nil
	case ovsdb.IsConflict(err):
		return fmt.Errorf("%s: %w: not in force in time on chassis %s: %s", tx, switchcfg.ErrUnreachable, d.chassis, d.why(ctx))
	}
	return fmt.Errorf("wait for ovn-controller to take up %s: %w", tx, err)
}

// keyConfig is where ovn-controller says, at the integration bridge, which
// configuration it has in force.
const keyConfig = "ovn-nb-cfg"

// reach waits until this chassis has the configuration, or a later one, in force.
func (d *Driver) reach(ctx context.Context, config int) error {
	for {
		results, err := d.local.Transact(ctx, ovsdb.Select("Bridge", ovsdb.Where("name", d.name), "external_ids"))
		if err != nil {
			return err
		}
		rows, err := ovsdb.Rows[record](results, 0)
		if err != nil || len(rows) != 1 {
			return errors.Join(switchcfg.ErrNoSwitch, err)
		}
		at := rows[0].ExternalIDs
		if reached, err := strconv.Atoi(at[keyConfig]); err == nil && reached >= config {
			return nil
		}
		err = d.await(ctx, ovsdb.Operation{
			Table: "Bridge", Where: ovsdb.Where("name", d.name), Columns: []string{"external_ids"}, Until: "!=",
			Rows: []ovsdb.Row{{"external_ids": at}},
		})
		if err != nil {
			return err
		}
	}
}

// why is what keeps ovn-controller from its work, in one line.
func (d *Driver) why(ctx context.Context) string {
	if err := d.controller(context.WithoutCancel(ctx)); err != nil {
		return err.Error()
	}
	if err := d.encapsulates(); err != nil {
		return err.Error()
	}
	return "ovn-controller runs: is the chassis registered? ovn-sbctl show; journalctl -u ovn-controller"
}

// controller reports why ovn-controller on this host cannot bind ports.
func (d *Driver) controller(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerReserve)
	defer cancel()
	const start = "systemctl start ovn-controller   # on Debian: ovn-host"
	pid, err := os.ReadFile(d.ovnDir + "/ovn-controller.pid")
	if err != nil {
		return fmt.Errorf("%w: ovn-controller does not run on this host: %s", switchcfg.ErrUnreachable, start)
	}
	socket := vnet.Endpoint{
		Transport: vnet.TransportUnix,
		Address:   fmt.Sprintf("%s/ovn-controller.%s.ctl", d.ovnDir, strings.TrimSpace(string(pid))),
	}
	conn, err := ovsdb.Dial(ctx, "ovn-controller", socket, vnet.TLS{})
	if err != nil {
		return fmt.Errorf("ovn-controller does not run on this host: %w: %s", err, start)
	}
	state, err := conn.Command(ctx, "connection-status")
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	if state = strings.TrimSpace(state); state != "connected" {
		return fmt.Errorf("%w: ovn-controller is %w to the southbound database: ovs-vsctl get Open_vSwitch . external_ids:ovn-remote",
			switchcfg.ErrUnreachable, errApart)
	}
	return nil
}

// errApart means that ovn-controller lives and is alone: whether the fault is
// its own, only one who reaches the southbound database can tell.
var errApart = errors.New("not connected")

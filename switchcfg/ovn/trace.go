// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var _ switchcfg.Tracer = (*Driver)(nil)

// Trace implements [switchcfg.Tracer] with ovn-trace(8), which asks the southbound
// database. Whether the hosts on the way are up it does not know.
func (d *Driver) Trace(ctx context.Context, p switchcfg.Packet) (switchcfg.Traced, error) {
	t, err := d.trace(ctx, p)
	if err != nil {
		return t, fmt.Errorf("switch %s: ovn-trace: %w", d.name, err)
	}
	return t, nil
}

func (d *Driver) trace(ctx context.Context, p switchcfg.Packet) (switchcfg.Traced, error) {
	results, err := d.local.Transact(ctx, ovsdb.Select("Open_vSwitch", []ovsdb.Condition{}, "external_ids"),
		ovsdb.Select("Interface", ovsdb.Where("name", p.Device), "name", "external_ids"))
	if err != nil {
		return switchcfg.Traced{}, err
	}
	global, err := ovsdb.Rows[southRow](results, 0)
	if err != nil {
		return switchcfg.Traced{}, err
	}
	ports, err := ovsdb.Rows[southRow](results, 1)
	if err != nil {
		return switchcfg.Traced{}, err
	}
	if len(global) != 1 || len(ports) != 1 || ports[0].ExternalIDs["iface-id"] == "" {
		return switchcfg.Traced{}, fmt.Errorf("%s has no logical port", p.Device)
	}
	remote := global[0].ExternalIDs["ovn-remote"]
	south, err := d.southbound(ctx, remote)
	if err != nil {
		return switchcfg.Traced{}, err
	}
	defer south.Close() //nolint:errcheck // a connection that was only read from
	out, err := tool(ctx, "ovn-trace", traceArgs(remote, south.TLS, microflow(ports[0].ExternalIDs["iface-id"], p))...)
	if err != nil {
		return switchcfg.Traced{}, err
	}
	t, last := parseTrace(out)
	if t.Delivered || !strings.Contains(last.stage, "_acl") {
		return t, nil
	}
	t.ACL, err = d.aclOf(ctx, south, last)
	return t, err
}

// connections is how often a packet meets conntrack on its way, at most.
const connections = 8

// traceArgs has every meeting with conntrack be that of a new connection.
func traceArgs(remote string, files vnet.TLS, microflow string) []string {
	args := []string{"--db=" + remote, "--no-friendly-names"}
	for option, file := range map[string]string{
		"--private-key=": files.Key, "--certificate=": files.Certificate, "--ca-cert=": files.CA,
	} {
		if file != "" {
			args = append(args, option+file)
		}
	}
	for range connections {
		args = append(args, "--ct=new")
	}
	return append(args, microflow)
}

// microflow is the packet as an expression (ovn-trace(8)).
func microflow(port string, p switchcfg.Packet) string {
	ip, icmp, request := "ip4", "icmp4", 8
	if p.To.Is6() {
		ip, icmp, request = "ip6", "icmp6", 128
	}
	what := fmt.Sprintf("%s.type == %d && %[1]s.code == 0", icmp, request)
	if p.Port != 0 {
		what = fmt.Sprintf("tcp.dst == %d && tcp.src == 49152 && tcp.flags == 2", p.Port)
	}
	return fmt.Sprintf("inport == %q && eth.src == %s && eth.dst == %s && %s.src == %s && %[4]s.dst == %[6]s && ip.ttl == 64 && %[7]s",
		port, p.Source, p.Target, ip, p.From, p.To, what)
}

// stage is a line of ovn-trace about a logical flow that the packet met.
type stage struct {
	stage, match string
	priority     int
}

// stageLine is " 4. ls_out_acl (northd.c:6588): ip4 && tcp.dst == 22, priority 2500, uuid ca6299a2".
var stageLine = regexp.MustCompile(`^ *\d+\. (\w+)(?: \([^)]*\))?: (.*), priority (\d+), uuid [0-9a-f]+$`)

// parseTrace finds where the packet ended: at a port, or in the last stage that it
// met.
func parseTrace(out string) (t switchcfg.Traced, last stage) {
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\n")
		action := strings.TrimSpace(line)
		if m := stageLine.FindStringSubmatch(line); m != nil {
			priority, _ := strconv.Atoi(m[3])
			last = stage{m[1], m[2], priority}
			continue
		}
		if strings.HasPrefix(action, "/* output to ") {
			t.Delivered = true
			return t, last
		}
		if strings.HasPrefix(action, "reject") { // what follows is the answer
			break
		}
	}
	t.Stage = fmt.Sprintf("%s: %s, priority %d", last.stage, last.match, last.priority)
	return t, last
}

// stageHint is where a logical flow says what of the northbound database it was
// made for: the first part of its UUID (ovn-sb(5), Logical_Flow, external_ids).
const stageHint = "stage-hint"

// aclRow is a row of the table ACL, or of Logical_Flow.
type aclRow struct {
	UUID                     ovsdb.UUID
	Name                     ovsdb.Set[string]
	Direction, Match, Action string
	Priority                 int
	ExternalIDs              ovsdb.Dict
}

// Column implements [ovsdb.Record].
func (r *aclRow) Column(name string) any {
	return map[string]any{
		"_uuid": &r.UUID, "name": &r.Name, "direction": &r.Direction, "match": &r.Match, "action": &r.Action,
		"priority": &r.Priority, "external_ids": &r.ExternalIDs,
	}[name]
}

// aclOf is the ACL that a logical flow was made for, or nil.
func (d *Driver) aclOf(ctx context.Context, south *ovsdb.Client, at stage) (acl *switchcfg.ACL, err error) {
	results, err := south.Transact(ctx, ovsdb.Select("Logical_Flow",
		[]ovsdb.Condition{{"match", "==", at.match}, {"priority", "==", at.priority}}, "external_ids"))
	if err != nil {
		return nil, err
	}
	flows, err := ovsdb.Rows[aclRow](results, 0)
	if err != nil {
		return nil, err
	}
	if results, err = d.nb.Transact(ctx, ovsdb.Select("ACL", []ovsdb.Condition{},
		"_uuid", "name", "direction", "match", "action", "priority", "external_ids")); err != nil {
		return nil, err
	}
	rows, errRows := ovsdb.Rows[aclRow](results, 0)
	for _, f := range flows {
		hint := f.ExternalIDs[stageHint]
		for _, r := range rows {
			if hint != "" && f.ExternalIDs["stage-name"] == at.stage && strings.HasPrefix(string(r.UUID), hint) {
				return &switchcfg.ACL{
					ID: string(r.UUID), Name: r.Name.First(), Direction: r.Direction, Match: r.Match, Action: r.Action,
					Priority: r.Priority, Network: r.ExternalIDs[keyNetwork],
				}, nil
			}
		}
	}
	return nil, errors.Join(errRows)
}

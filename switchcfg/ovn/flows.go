// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovn

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/ovsdb"
)

// toolLimit bounds how long a tool of Open vSwitch or of OVN may take.
const toolLimit = 5 * time.Second

// tool runs a program and returns what it printed.
func tool(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(failed.String()))
	}
	return out.String(), nil
}

// flow is one of the integration bridge, as ovs-ofctl(8) prints it.
type flow struct {
	cookie uint64
	table  int
	// packets is how many it has matched.
	packets int
	// text is the priority, the match and the actions.
	text string
}

// flows returns those of the integration bridge that are like match, such as
// "table=0".
func (d *Driver) flows(ctx context.Context, match string) ([]flow, error) {
	args := []string{"--no-names", "dump-flows", "unix:" + d.ovsDir + "/" + d.name + ".mgmt", match}
	out, err := tool(ctx, "ovs-ofctl", args...)
	if err != nil && strings.Contains(err.Error(), "version negotiation failed") {
		out, err = tool(ctx, "ovs-ofctl", append([]string{newProtocols}, args...)...)
	}
	if err != nil {
		return nil, err
	}
	return parseFlows(out), nil
}

// newProtocols are for a bridge whose column protocols (ovs-vswitchd.conf.db(5))
// leaves the oldest out.
const newProtocols = "--protocols=OpenFlow13,OpenFlow14,OpenFlow15"

func parseFlows(out string) []flow {
	var list []flow
	for line := range strings.Lines(out) {
		// " cookie=0x1, duration=1.2s, table=8, n_packets=3, n_bytes=126, idle_age=0, priority=50,... actions=..."
		head, text, found := strings.Cut(strings.TrimSpace(line), "priority=")
		if !found {
			continue
		}
		f := flow{text: "priority=" + text}
		for word := range strings.SplitSeq(head, ",") {
			key, value, _ := strings.Cut(strings.TrimSpace(word), "=")
			switch key {
			case "cookie":
				f.cookie, _ = strconv.ParseUint(value, 0, 64)
			case "table":
				f.table, _ = strconv.Atoi(value)
			case "n_packets":
				f.packets, _ = strconv.Atoi(value)
			}
		}
		list = append(list, f)
	}
	return list
}

// cookieOf is the cookie of the flows that ovn-controller makes for a row of the
// southbound database: the first 32 bits of its UUID.
func cookieOf(row ovsdb.UUID) uint64 {
	first, _, _ := strings.Cut(string(row), "-")
	cookie, _ := strconv.ParseUint(first, 16, 32)
	return cookie
}

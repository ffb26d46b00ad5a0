// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// counters are how many packets each rule of legacy iptables has dropped, and
// each policy, in the order of iptables-save(8).
type counters []counter

type counter struct {
	chain, rule string
	packets     int
}

// legacy reads the counters of legacy iptables' filter table. There are none
// where the table is not in use: asking for it would load it.
func legacy(ctx context.Context) (counters, error) {
	tables, err := os.ReadFile("/proc/net/ip_tables_names")
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(tables)), "filter") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("legacy iptables: %w", err)
	}
	for _, program := range []string{"iptables-legacy-save", "iptables-save"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, path, "--counters", "--table", "filter").Output()
		if err != nil {
			return nil, fmt.Errorf("legacy iptables: %s: %w", program, err)
		}
		return parseSaved(string(out)), nil
	}
	return nil, nil
}

// parseSaved reads what iptables-save(8) prints: ":FORWARD DROP [3:252]" and
// "[3:252] -A FORWARD -p icmp -j DROP". Chains that forwarded packets do not come
// to are left out.
func parseSaved(text string) counters {
	var all counters
	leads := map[string][]string{} // from a chain to others
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		var packets, bytes int
		fields := strings.Fields(line)
		if len(fields) > 3 {
			leads[fields[2]] = append(leads[fields[2]], fields[3:]...)
		}
		switch {
		case strings.HasPrefix(line, ":") && len(fields) == 3 && fields[1] == "DROP":
			if _, err := fmt.Sscanf(fields[2], "[%d:%d]", &packets, &bytes); err == nil {
				all = append(all, counter{fields[0][1:], "policy DROP", packets})
			}
		case strings.HasPrefix(line, "[") && (slices.Contains(fields, "DROP") || slices.Contains(fields, "REJECT")):
			rule := strings.Join(fields[1:], " ")
			if _, err := fmt.Sscanf(fields[0], "[%d:%d]", &packets, &bytes); err == nil && len(fields) > 2 {
				all = append(all, counter{fields[2], rule, packets})
			}
		}
	}
	met := map[string]bool{}
	var meet func(chain string)
	meet = func(chain string) {
		if met[chain] {
			return
		}
		met[chain] = true
		for _, word := range leads[chain] {
			meet(word)
		}
	}
	meet("FORWARD")
	return slices.DeleteFunc(all, func(c counter) bool { return !met[c.chain] })
}

// since is what was dropped since before. Whose frames they were is not known.
func (cs counters) since(before counters) []Drop {
	sums := func(cs counters) map[counter]int {
		sum := map[counter]int{}
		for _, c := range cs {
			sum[counter{chain: c.chain, rule: c.rule}] += c.packets // of rules that are alike
		}
		return sum
	}
	old, now := sums(before), sums(cs)
	var drops []Drop
	for _, c := range cs {
		key := counter{chain: c.chain, rule: c.rule}
		if frames := now[key] - old[key]; frames > 0 {
			drops = append(drops, Drop{
				EtherType: unix.ETH_P_IP, Family: FamilyLegacy, Table: "filter", Chain: c.chain, Rule: c.rule, Frames: frames,
			})
			delete(now, key)
		}
	}
	return drops
}

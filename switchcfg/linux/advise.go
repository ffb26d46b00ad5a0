// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package linux

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/switchcfg/internal/guard"
	"github.com/virt-vnet/virt-vnet/switchcfg/internal/rtnl"
)

// Advise implements [switchcfg.Adviser]. It tells of an uplink that is none, and
// of br_netfilter, which hands the IP frames that pass a bridge to the firewall
// of the host (https://wiki.libvirt.org/Net.bridge.bridge-nf-call_and_sysctl.conf.html).
func (d *Driver) Advise(ctx context.Context) ([]string, error) {
	bridge, err := d.bridge(ctx)
	if err != nil {
		return nil, err
	}
	var lines []string
	uplink, err := d.uplink(ctx, bridge)
	if err != nil {
		return nil, fmt.Errorf("switch %s: look at uplink %s: %w", d.name, d.sw.Uplink, rtnl.Translate(err))
	}
	if d.sw.Uplink != "" && !uplink.Exists() {
		lines = append(lines, fmt.Sprintf("its uplink %s is not a port of it: ip link set %s master %s", d.sw.Uplink, d.sw.Uplink, d.name))
	}
	firewall, err := d.adviseFirewall(ctx, bridge)
	return append(lines, firewall...), err
}

// firewalls are the ways from a bridge to the firewall of the host.
var firewalls = [...]struct {
	sysctl   string
	own      func(link) bool // the bridge goes it by itself
	families []string        // of nftables
}{
	{"net.bridge.bridge-nf-call-iptables", func(l link) bool { return l.callsIPv4 }, []string{"ip", "inet"}},
	{"net.bridge.bridge-nf-call-ip6tables", func(l link) bool { return l.callsIPv6 }, []string{"ip6", "inet"}},
}

// adviseFirewall names the chains that drop what the bridge passes.
func (d *Driver) adviseFirewall(ctx context.Context, bridge link) ([]string, error) {
	var lines, chains []string
	for _, f := range firewalls {
		// Without br_netfilter there is no such file.
		setting, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(f.sysctl, ".", "/"))
		if !f.own(bridge) && !bytes.Equal(bytes.TrimSpace(setting), []byte("1")) {
			continue
		}
		if chains == nil {
			var err error
			if chains, err = guard.ForwardDrops(ctx); err != nil {
				return nil, fmt.Errorf("switch %s: look at the firewall: %w", d.name, err)
			}
		}
		drops := slices.DeleteFunc(slices.Clone(chains), func(chain string) bool {
			return !slices.ContainsFunc(f.families, func(family string) bool { return strings.HasPrefix(chain, "table "+family+" ") })
		})
		if len(drops) > 0 {
			lines = append(lines, fmt.Sprintf("br_netfilter is on (%s), so the host's firewall also sees what passes between guests, and "+
				"drops by default in %s: ARP passes and IP does not, unless a rule there lets it: sysctl -w %s=0",
				f.sysctl, strings.Join(drops, " and in "), f.sysctl))
		}
	}
	return lines, nil
}

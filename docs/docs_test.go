// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package docs_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/golden"
	"github.com/virt-vnet/virt-vnet/switchcfg/linux"
	"github.com/virt-vnet/virt-vnet/verify"
)

// The reference tables are made from the code. Run with -update after a change.

func TestSpecPage(t *testing.T) {
	data, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# The spec\n\nYAML files in `/etc/virt-vnet`, read together. Unknown keys, keys given twice and names that refer to\n" +
		"nothing are errors, with file and line. [spec.schema.json](spec.schema.json) is the same for editors; `virt-vnet schema` prints it.\n")
	section(&b, "Top level", &schema)
	section(&b, "`hosts.NAME`", schema.Properties["hosts"].AdditionalProperties)
	section(&b, "`switches.NAME`", schema.Properties["switches"].AdditionalProperties)
	section(&b, "`switches.NAME.tls`", schema.Properties["switches"].AdditionalProperties.Properties["tls"])
	for _, key := range []string{"bridge", "bond", "sflow", "netflow", "ipfix"} {
		section(&b, "`switches.NAME."+key+"`", schema.Properties["switches"].AdditionalProperties.Properties[key])
	}
	section(&b, "`switches.NAME.stp_ports.NAME`", schema.Properties["switches"].AdditionalProperties.Properties["stp_ports"].AdditionalProperties)
	section(&b, "`switches.NAME.mirrors.NAME`", schema.Properties["switches"].AdditionalProperties.Properties["mirrors"].AdditionalProperties)
	network := schema.Properties["networks"].AdditionalProperties
	section(&b, "`networks.NAME`", network)
	section(&b, "`networks.NAME.qos`, also of portgroups", network.Properties["qos"])
	section(&b, "`networks.NAME.portgroups.NAME`", network.Properties["portgroups"].AdditionalProperties)
	for _, key := range []string{"localnet", "dhcp"} {
		section(&b, "`networks.NAME."+key+"`", network.Properties[key])
	}
	section(&b, "`networks.NAME.dhcp.routes[]`, also of routers", network.Properties["dhcp"].Properties["routes"].Items)
	section(&b, "`networks.NAME.acls[]`", network.Properties["acls"].Items)
	router := schema.Properties["routers"].AdditionalProperties
	section(&b, "`routers.NAME`", router)
	section(&b, "`routers.NAME.uplink`", router.Properties["uplink"])
	section(&b, "`routers.NAME.dnat[]`", router.Properties["dnat"].Items)
	section(&b, "`routers.NAME.load_balancers[]`", router.Properties["load_balancers"].Items)
	guest := schema.Properties["guests"].AdditionalProperties
	section(&b, "`guests.NAME`", guest)
	section(&b, "`guests.NAME.nics[]`", guest.Properties["nics"].Items)
	section(&b, "`expect[]`", schema.Properties["expect"].Items)
	b.WriteString(expectNotes)
	section(&b, "`waivers[]`", schema.Properties["waivers"].Items)
	golden.Check(t, "spec.md", b.String())
}

// expectNotes says what no table can.
const expectNotes = `
An end is a guest of ` + "`guests`" + `, by its name, or ` + "`GUEST/NETWORK`" + ` for its NICs in one network; ` + "`network NAME`" + `
for every guest of a network; an IP address; a DNS name, which has a dot and which the host's resolver looks up; or
` + "`gateway`" + `, that of the network that is sent from.

Everything is sent as the guest, with its own MAC and IP address, and nothing runs in it. An address outside of the
guest's subnet goes to the gateway of its network. Between two guests with several NICs the networks count that both
are in, or else the first way through a gateway; ` + "`deny`" + ` means every way. Of many guests each is source once and
target once, unless verify runs with ` + "`--full`" + `.

` + "`deny`" + ` is proved by what arrives, not by missing answers: something must show that the target hears others. For an
address that no guest has, that is another expectation which reaches it by ICMP echo or TCP, or a router's word that
it is prohibited; without either, or where it refuses, the result is inconclusive. Where ` + "`reach`" + ` or ` + "`deny`" + `
contradicts what follows from the networks for two guests of one network, it goes before.

` + "```yaml" + `
expect:
  - {from: web1, reach: db1}
  - {from: network red, deny: network blue}
  - {from: web1, tcp: "db1:5432"}
  - {from: web1, dns: www.example.org, server: 10.0.20.1}
  - {from: network red, to: gateway, latency: <5ms, loss: <1%}
waivers:
  - code: WRONG_VLAN
    guest: web9
    owner: alice@example.org
    until: 2027-01-31
    reason: moves next week
guests:
  web9: {down: true}
` + "```" + `
`

// section is the table of one mapping's keys.
func section(b *strings.Builder, title string, schema *jsonschema.Schema) {
	fmt.Fprintf(b, "\n## %s\n\n| key | value | required | meaning |\n|---|---|---|---|\n", title)
	for _, key := range slices.Sorted(maps.Keys(schema.Properties)) {
		p := schema.Properties[key]
		required := ""
		if slices.Contains(schema.Required, key) {
			required = "yes"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", key, value(p), required, p.Description)
	}
}

func value(p *jsonschema.Schema) string {
	switch {
	case len(p.Enum) > 0:
		words := make([]string, len(p.Enum))
		for i, e := range p.Enum {
			words[i] = fmt.Sprintf("`%v`", e)
		}
		return strings.Join(words, ", ")
	case len(p.AnyOf) > 0:
		return "number, text or list"
	}
	if slices.Contains(p.Types, "object") {
		return "mapping"
	}
	words := map[string]string{"string": "text", "integer": "number", "boolean": "`true` or `false`", "object": "mapping", "array": "list"}
	if word := words[p.Type]; word != "" {
		return word
	}
	return "list"
}

// TestDriversPage holds the table of a hand-written page against the code.
func TestDriversPage(t *testing.T) {
	page, err := os.ReadFile("drivers.md")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range linux.Properties() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", p.Name, code(p.Keys), p.Kernel, code(p.Options))
	}
	_, table, _ := strings.Cut(string(page), "|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if diff := cmp.Diff(b.String(), table+"\n"); diff != "" {
		t.Errorf("the table of drivers.md (-code +page):\n%s", diff)
	}
}

// code is a list of words as code, or nothing.
func code(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return "`" + strings.Join(words, "`, `") + "`"
}

func TestHooksPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What the hook does\n\nlibvirt runs `virt-vnet-hook` at these operations (https://libvirt.org/hooks.html). It does nothing at any\n" +
		"other. It never calls libvirt, never writes to standard output, leaves no process behind, and has a deadline.\n\n" +
		"| driver | operation | what it does | on failure |\n|---|---|---|---|\n")
	for _, op := range hooks.Operations() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", op.Driver, op.Name, op.Does, op.OnFailure)
	}
	b.WriteString("\nWhere an operation refuses, a network with `on_failure: warn` lets the guest start all the same.\n")
	golden.Check(t, "hooks.md", b.String())
}

func TestChecksPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# What verify checks\n\nFor each NIC the rungs are climbed in this order; the first that is broken is the diagnosis, and those after\n" +
		"it are not reached. Codes are stable: scripts may test for them.\n\n" +
		"| code | rung | meaning | evidence | usual cause | usual fix |\n|---|---|---|---|---|---|\n")
	for _, c := range verify.Codes() {
		rung := string(c.Rung)
		if rung == "" {
			rung = "(pairs)"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", c.Code, rung, c.Meaning, c.Evidence, c.Cause, c.Fix)
	}
	b.WriteString(insideText + hostsText + limitsText)
	golden.Check(t, "checks.md", b.String())
}

// hostsText is about specs with hosts and networks that span them.
const hostsText = `
## Several hosts, and OVN

With ` + "`hosts:`" + ` in the spec, ` + "`virt-vnet verify`" + ` on one of them has the guests of all in its report. It asks the libvirt of each
at its URI, all at once, for 10 seconds at most. A guest of the spec that none of them has is ` + "`DOMAIN_DOWN`" + `; a host that does
not answer is a limit, so that the run ends with 6 and no guest is missed that may be there. ` + "`--here`" + ` leaves the other hosts
out. On a machine that is no host, the report has what the libvirts say, and the limit that nothing was probed.

Of a guest on another host the rungs domain, nic and link are as its libvirt has them. In a network of OVN the port must be
bound to another chassis (` + "`PORT_NOT_BOUND`" + `, ` + "`PORT_ELSEWHERE`" + `) to which a tunnel leads (` + "`TUNNEL_DOWN`" + `), and the guest is asked
from a vantage on this chassis, through the tunnel, up to frames of full length; guests of this host are made to speak to it.
All else is skipped. Frames are sent as a guest, and seen to stay away from one, only by verify on the guest's own host.

Of this host's own guests on OVN, the logical port must be bound to this chassis, and its flows be in the integration bridge.
If the southbound database (` + "`external_ids:ovn-remote`" + `) is not reached, that is a limit; it is ` + "`CONTROLLER_DOWN`" + ` when
ovn-controller itself does not run, or is alone in not reaching it. A silent guest whose frames port security drops is
` + "`GUARD_DROPS`" + `: the flows that check port security count them (` + "`ovs-ofctl dump-flows`" + `), and its port shows whom they were from.
What an ACL drops is ` + "`FILTERED`" + `, about that ACL: ` + "`ovn-trace`" + ` is asked what becomes of the packet, 16 times a run at most. An
ACL of the spec that drops what ` + "`expect:`" + ` wants is said to contradict it. Where nothing is expected, it explains why ICMP
goes unanswered, which is no failure then. Both programs come with Open vSwitch and OVN; without ovn-trace no ACL is named.
`

// limitsText is about what cannot be proved from outside.
const limitsText = `
## What stays open

Nothing is called broken that may be in good health:

- A guest whose address nobody knows is asked for every address of its subnet, so that nobody else hears it. In a subnet larger
  than a /22 it is not, and one that its switch has forgotten (on Linux after five minutes) may be idle or dead: it is
  inconclusive. Put the address into the spec, or install qemu-guest-agent.
- A question that was not seen entering the guest's port, or a host too busy to see every frame there, leaves pairs, gateways
  and expectations inconclusive.
- Linux takes up to 0.8 seconds to answer ARP for others (proxy_delay). A machine that is not the gateway and does so may
  answer when a short run is over, and is found by one of the next.
`

// insideText is about the option --in-guest.
const insideText = `
## Inside the guest

From outside, a guest that is silent looks the same whether its interface is down, its address is gone or its ARP is off.
` + "`virt-vnet verify --in-guest`" + ` looks into such guests and adds what it sees to the evidence, as "in guest web1: eth0 is
down". It is off unless you ask for it, looks into nobody when all is well, changes nothing in the guest and no verdict.

The guest needs a QEMU guest agent (package qemu-guest-agent) with its channel. It is asked for its interfaces, and then to
run, without a shell, with arguments that only name an interface or the gateway:

- ` + "`ip link show dev INTERFACE`" + `
- if the gateway does not answer: ` + "`ip -4 route show default`, `ip -4 neigh show to GATEWAY`" + ` (or -6)
- if the guest does not answer ICMP echo: ` + "`cat /proc/sys/net/ipv4/icmp_echo_ignore_all`" + `

This takes at most 3 seconds for a guest and 10 for all; of guests that fail alike, three are looked into. An agent that
does not answer, or is set not to run commands (guest-exec, as on RHEL), is a note of the report and no failure; the
addresses it tells are in the evidence all the same.

Without the option verify asks agents only for addresses (guest-network-get-interfaces). All of them together have a second
to answer. It gives libvirt a time limit for each question, which libvirt has only for commands of the caller's own: it
marks a guest that was asked as tainted (custom-ga-command) until the guest stops, which has no effect. No other command
asks agents.
`

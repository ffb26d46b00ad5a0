// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"

	"github.com/virt-vnet/virt-vnet/vnet"
)

func ends(from, to string) letter {
	return letter{src: macA, dst: macB, from: netip.MustParseAddr(from), to: netip.MustParseAddr(to)}
}

// reply turns a letter's ends around.
func (l letter) reply() letter { return letter{src: l.dst, dst: l.src, from: l.to, to: l.from} }

func encoded(t *testing.T) func(data []byte, err error) []byte {
	t.Helper()
	return func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
}

// quoting is an ICMP error about a frame.
func (l letter) quoting(about []byte) ([]byte, error) {
	quoted := gopacket.Payload(about[etherHeader : etherHeader+min(len(about)-etherHeader, ipHeader+8)])
	if l.to.Is4() {
		return l.encode(layers.IPProtocolICMPv4, &layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeCommAdminProhibited),
		}, quoted)
	}
	quoted = gopacket.Payload(append(make([]byte, 4), about[etherHeader:]...))
	return l.encode(layers.IPProtocolICMPv6, &layers.ICMPv6{
		TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeDestinationUnreachable, layers.ICMPv6CodeAdminProhibited),
	}, quoted)
}

// What is written is read back the same, and the filter in the kernel lets it
// pass.
func TestLettersAreUnderstood(t *testing.T) {
	filter, err := bpf.NewVM(earFilter())
	if err != nil {
		t.Fatal(err)
	}
	data := encoded(t)
	v4, v6 := ends("10.0.0.1", "10.0.0.2"), ends("2001:db8::1", "2001:db8::2")
	tok := newToken(77, purposeTalk, 5, 9)
	answer := func(l letter) []byte {
		return data(l.tcp(&layers.TCP{SrcPort: 80, DstPort: 61001, Seq: 7, Ack: 43, SYN: true, ACK: true}))
	}
	refusal := func(l letter) []byte {
		return data(l.tcp(&layers.TCP{SrcPort: 80, DstPort: 61001, Ack: 43, RST: true, ACK: true}))
	}
	for _, test := range []struct {
		name string
		data []byte
		l    letter
		want words
	}{
		{"echo", data(v4.echo(tok)), v4, words{kind: wordEcho, token: tok}},
		{"echo of IPv6", data(v6.echo(tok)), v6, words{kind: wordEcho, token: tok}},
		{"SYN", data(v4.syn(61001, 80, 42)), v4, words{kind: wordSYN, sport: 61001, dport: 80, seq: 42}},
		{"SYN of IPv6", data(v6.syn(61001, 80, 42)), v6, words{kind: wordSYN, sport: 61001, dport: 80, seq: 42}},
		{"acceptance", answer(v4.reply()), v4.reply(), words{kind: wordOpen, sport: 80, dport: 61001, seq: 7, ack: 43}},
		{"acceptance of IPv6", answer(v6.reply()), v6.reply(), words{kind: wordOpen, sport: 80, dport: 61001, seq: 7, ack: 43}},
		{"refusal", refusal(v4.reply()), v4.reply(), words{kind: wordRefused, sport: 80, dport: 61001, ack: 43}},
		{"our own reset", data(v4.reset(61001, 80, 43)), v4, words{sport: 61001, dport: 80, seq: 43}},
		{"UDP", data(v4.query(61001, []byte("hi"))), v4, words{kind: wordUDP, sport: 61001, dport: 53, payload: []byte("hi")}},
		{"UDP of IPv6", data(v6.query(61001, []byte("hi"))), v6, words{kind: wordUDP, sport: 61001, dport: 53, payload: []byte("hi")}},
		{
			"prohibition", data(v4.reply().quoting(data(v4.syn(61001, 80, 42)))), v4.reply(),
			words{
				kind: wordError, prohibited: true, protocol: layers.IPProtocolTCP, number: 61001,
				text: "ICMP DestinationUnreachable(CommAdminProhibited)",
			},
		},
		{
			"prohibition of IPv6", data(v6.reply().quoting(data(v6.echo(tok)))), v6.reply(),
			words{
				kind: wordError, prohibited: true, protocol: layers.IPProtocolICMPv6, number: 5,
				text: "DestinationUnreachable(AdminProhibited)",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.from, test.want.to = test.l.from, test.l.to
			if diff := cmp.Diff(test.want, understand(test.data), cmp.AllowUnexported(words{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n, err := filter.Run(test.data); err != nil || n == 0 {
				t.Errorf("the filter drops it: %d, %v", n, err)
			}
			for i := range test.data {
				understand(test.data[:i]) // must not panic
			}
		})
	}
	for name, b := range map[string][]byte{
		"TCP that carries data":    data(v4.tcp(&layers.TCP{SrcPort: 61001, DstPort: 80, ACK: true})),
		"ports of others":          data(v4.syn(40000, 80, 1)),
		"ports of others, in IPv6": data(v6.query(40000, nil)),
		"another protocol":         data(v4.encode(layers.IPProtocolGRE, gopacket.Payload("x"))),
	} {
		if n, err := filter.Run(b); err != nil || n != 0 {
			t.Errorf("the filter takes %s: %d, %v", name, n, err)
		}
	}
}

func TestAskEverybodyOrOne(t *testing.T) {
	data := encoded(t)
	one := ends("2001:db8::1", "2001:db8::abcd:ef01")
	everybody := one
	everybody.dst = vnet.MAC{}
	for want, l := range map[vnet.MAC]letter{macB: one, {0x33, 0x33, 0xff, 0xcd, 0xef, 0x01}: everybody} {
		b := data(l.ask())
		if got := vnet.MAC(b[:6]); got != want {
			t.Errorf("sent to %s, want %s", got, want)
		}
		packet := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		ns, ok := packet.Layer(layers.LayerTypeICMPv6NeighborSolicitation).(*layers.ICMPv6NeighborSolicitation)
		if !ok || !ns.TargetAddress.Equal(one.to.AsSlice()) || packet.NetworkLayer().NetworkFlow().Dst().String() != "ff02::1:ffcd:ef01" {
			t.Errorf("no solicitation for %s: %s", one.to, packet)
		}
		if w := understand(b); w.kind != wordQuestion || w.from != one.to {
			t.Errorf("the question says %+v", w)
		}
	}
	na, err := one.reply().encode(layers.IPProtocolICMPv6,
		&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborAdvertisement, 0)},
		&layers.ICMPv6NeighborAdvertisement{
			TargetAddress: one.to.AsSlice(), Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: macB[:]}},
		})
	if w := understand(data(na, err)); w.kind != wordNeighbor || w.from != one.to || w.mac != macB {
		t.Errorf("the answer says %+v", w)
	}
}

func TestEchoes(t *testing.T) {
	for limit, want := range map[float64]int{0: 20, 0.5: 20, 0.01: 300, 0.001: 3000} {
		if got := echoCount(limit); got != want {
			t.Errorf("%d echoes for a limit of %v, want %d", got, limit, want)
		}
	}
}

func TestMeasured(t *testing.T) {
	start := time.Unix(1000, 0)
	measured := func(latency time.Duration, loss float64, times ...time.Duration) *talk {
		t := &talk{
			kind: talkEcho, echoed: true, latency: latency, loss: loss, from: on("red", "ovs0", access(20)),
			sent: map[int]time.Time{}, received: map[int]time.Time{}, direct: true,
		}
		for i, d := range times {
			if t.sent[i] = start; d > 0 {
				t.received[i] = start.Add(d)
			}
		}
		return t
	}
	const ms = time.Millisecond
	steady := []time.Duration{ms, ms, ms, ms, ms, ms, ms, ms, ms, 90 * ms}
	lossy := []time.Duration{ms, ms, ms, ms, ms, 0, ms, ms, ms, ms}
	for _, test := range []struct {
		name   string
		talk   *talk
		status Status
		code   string
	}{
		{"one late answer is no matter", measured(5*ms, 0, steady...), StatusPass, ""},
		{"the median counts", measured(ms, 0, steady...), StatusFail, CodeSlow},
		{"loss is no latency", measured(5*ms, 0, lossy...), StatusPass, ""},
		{"too much loss", measured(0, 0.1, lossy...), StatusFail, CodeLossy},
		{"less loss than the limit", measured(0, 0.2, lossy...), StatusPass, ""},
		{"both", measured(ms/2, 0.01, lossy...), StatusFail, CodeLossy},
		{"nothing came back", measured(ms, 0, make([]time.Duration, 10)...), StatusFail, CodeLossy},
		{"hardly anything was sent", measured(ms, 0, ms), StatusInconclusive, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if o := test.talk.judge(proofs{}); o.status != test.status || o.code != test.code {
				t.Errorf("%+v, want %s %s", o, test.status, test.code)
			}
		})
	}
}

// However many talks a guest has, its ports tell those apart that use them.
func TestManyTalks(t *testing.T) {
	r := &run{nics: housed(crowd("red", 2, 20), "10.0.20.0/24")}
	talks := func(kind talkKind, from, n int) []*talk {
		list := make([]*talk, n)
		for i := range list {
			list[i] = &talk{kind: kind, from: r.nics[from], addr: r.nics[1-from].address.Addr, direct: true}
		}
		return list
	}
	all := slices.Concat(talks(talkDNS, 0, 1), talks(talkEcho, 0, manyPorts-1), talks(talkTCP, 0, manyPorts-1), talks(talkDeny, 1, manyPorts))
	lists := atOnce(all)
	if len(lists) != 1 {
		t.Fatalf("held %d times, want once", len(lists))
	}
	c := &conversation{run: r, talks: all, byDevice: map[int]*nic{}, bySeq: map[uint32]*talk{}, byPort: map[[2]int]*talk{}, byNext: map[nextHop]*neighbor{}}
	if err := c.introduce(); err != nil {
		t.Fatal(err)
	}
	for _, talk := range all {
		if talk.usesPort() && (talk.sport < firstPort || c.byPort[[2]int{talk.from.index, int(talk.sport)}] != talk) {
			t.Fatalf("talk %d does not get what comes to its port %d", talk.number, talk.sport)
		}
	}
	if len(c.neighbors) != 2 {
		t.Errorf("%d neighbours, want one of each guest", len(c.neighbors))
	}

	for name, test := range map[string]struct {
		talks []*talk
		want  []int
	}{
		"ports of one guest": {talks(talkTCP, 0, manyPorts+1), []int{manyPorts, 1}},
		"ports of two":       {slices.Concat(talks(talkTCP, 0, manyPorts), talks(talkDeny, 1, manyPorts)), []int{2 * manyPorts}},
		"echoes":             {talks(talkEcho, 0, 2*manyTalks+1), []int{manyTalks, manyTalks, 1}},
	} {
		var got []int
		for _, list := range atOnce(test.talks) {
			got = append(got, len(list))
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

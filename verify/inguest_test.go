// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// insides is an [Inside] that knows what agents answer.
type insides struct {
	interfaces []GuestInterface
	says       map[string]string // by command
	listErr    error
	execErr    error

	mu    sync.Mutex
	asked []string
}

func (in *insides) Interfaces(_ context.Context, guest vnet.GuestRef) ([]GuestInterface, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.asked = append(in.asked, guest.Name)
	return in.interfaces, in.listErr
}

func (in *insides) Exec(_ context.Context, _ vnet.GuestRef, program string, args ...string) (string, error) {
	command := strings.Join(append([]string{program}, args...), " ")
	text, ok := in.says[command]
	if !ok && in.execErr == nil {
		return "", fmt.Errorf("unexpected command %q", command)
	}
	return text, in.execErr
}

// linkText is what iproute2 prints of an interface with these flags; busybox
// leaves out "group default".
func linkText(flags string) string {
	return "2: eth0: <BROADCAST,MULTICAST" + flags + "> mtu 1400 qdisc pfifo_fast state UP mode DEFAULT group default qlen 1000\n" +
		"    link/ether 52:54:00:00:00:0a brd ff:ff:ff:ff:ff:ff\n"
}

func TestLookInside(t *testing.T) {
	const link, up = "ip link show dev eth0", ",UP,LOWER_UP"
	at := func(name string, addrs ...string) GuestInterface {
		i := GuestInterface{Name: name, MAC: macA}
		for _, a := range addrs {
			i.Addresses = append(i.Addresses, netip.MustParsePrefix(a))
		}
		return i
	}
	for _, tt := range []struct {
		name, code string
		in         *insides
		want       []string
		err        string
	}{
		{
			name: "down", code: CodeGuestSilent,
			in:   &insides{interfaces: []GuestInterface{at("eth0", ipA.String()+"/24")}, says: map[string]string{link: linkText("")}},
			want: []string{"eth0 is down, with MTU 1400", "eth0 has " + ipA.String() + "/24"},
		},
		{
			name: "ARP off, other address", code: CodeNoARP,
			in:   &insides{interfaces: []GuestInterface{at("eth0", "10.0.20.99/24", "fe80::1/64")}, says: map[string]string{link: linkText(",NOARP" + up)}},
			want: []string{"eth0 is up, with MTU 1400", "ARP is off at eth0 (NOARP)", "eth0 has 10.0.20.99/24", "it does not have " + ipA.String()},
		},
		{
			name: "no address", code: CodeNoARP,
			in:   &insides{interfaces: []GuestInterface{at("eth0", "fe80::1/64")}, says: map[string]string{link: linkText(",NO-CARRIER,UP")}},
			want: []string{"eth0 is up and has no carrier, with MTU 1400", "eth0 has no IPv4 address"},
		},
		{
			name: "IPv6", code: CodeNoND,
			in:   &insides{interfaces: []GuestInterface{at("eth0", ipA.String()+"/24")}, says: map[string]string{link: linkText(up)}},
			want: []string{"eth0 is up, with MTU 1400", "eth0 has no IPv6 address"},
		},
		{
			name: "a bridge on top", code: CodeNoARP,
			in: &insides{
				interfaces: []GuestInterface{at("eth0"), at("br0", ipA.String()+"/24")},
				says:       map[string]string{link: linkText(up), "ip link show dev br0": "3: br0: <NO-CARRIER> mtu 1500"},
			},
			want: []string{"eth0 is up, with MTU 1400", "br0 is down, with MTU 1500", "br0 has " + ipA.String() + "/24"},
		},
		{
			name: "another MAC", code: CodeMACNotLearned,
			in:   &insides{interfaces: []GuestInterface{{Name: "eth0", MAC: macB}}},
			want: []string{"no interface has the MAC address " + macA.String()},
		},
		{
			name: "gateway", code: CodeGatewayUnreachable,
			in: &insides{interfaces: []GuestInterface{at("eth0", ipA.String()+"/24")}, says: map[string]string{
				link: linkText(up), "ip -4 route show default": "", "ip -4 neigh show to 10.0.20.1": "10.0.20.1 dev eth0  FAILED\n",
			}},
			want: []string{"eth0 is up, with MTU 1400", "eth0 has " + ipA.String() + "/24", "it has no default route", "its neighbour table has 10.0.20.1 dev eth0 FAILED"},
		},
		{
			name: "another router", code: CodeGatewayUnreachable,
			in: &insides{interfaces: []GuestInterface{at("eth0", ipA.String()+"/24")}, says: map[string]string{
				link: linkText(up), "ip -4 route show default": "default via 10.0.20.2 dev eth0 \n", "ip -4 neigh show to 10.0.20.1": "",
			}},
			want: []string{
				"eth0 is up, with MTU 1400", "eth0 has " + ipA.String() + "/24",
				"it has the route default via 10.0.20.2 dev eth0", "its neighbour table does not have 10.0.20.1",
			},
		},
		{
			name: "ICMP", code: CodeICMPFiltered,
			in: &insides{interfaces: []GuestInterface{at("eth0", ipA.String()+"/24")}, says: map[string]string{
				link: linkText(up), "cat /proc/sys/net/ipv4/icmp_echo_ignore_all": "1\n",
			}},
			want: []string{
				"eth0 is up, with MTU 1400", "eth0 has " + ipA.String() + "/24",
				"it ignores ICMP echo: sysctl net.ipv4.icmp_echo_ignore_all is 1",
			},
		},
		{
			name: "no commands", code: CodeNoARP,
			in:   &insides{interfaces: []GuestInterface{at("eth0")}, execErr: errors.New("refused")},
			want: []string{"eth0 has no IPv4 address"}, err: "refused",
		},
		{name: "no agent", code: CodeNoARP, in: &insides{listErr: errors.New("none")}, err: "none"},
		{
			name: "a name that is an option", code: CodeNoARP,
			in: &insides{interfaces: []GuestInterface{at("-batch")}}, want: []string{"-batch has no IPv4 address"},
		},
		{
			name: "no flags", code: CodeNoARP,
			in: &insides{interfaces: []GuestInterface{at("eth0")}, says: map[string]string{link: "?"}}, want: []string{"eth0 has no IPv4 address"},
		},
	} {
		n := healthy()
		n.problem = &Problem{Problem: vnet.Problem{Code: tt.code}}
		got, err := n.lookInside(t.Context(), tt.in)
		if diff := cmp.Diff(tt.want, got); diff != "" || tt.err == "" && err != nil || tt.err != "" && (err == nil || err.Error() != tt.err) {
			t.Errorf("%s: error %v, want %q; (-want +got):\n%s", tt.name, err, tt.err, diff)
		}
	}
}

// Of guests that fail alike a few are looked into, and of others none.
func TestLookInsideWhom(t *testing.T) {
	in := &insides{interfaces: []GuestInterface{{Name: "eth0", MAC: macA}}, execErr: errors.New("refused")}
	r := &run{opts: Options{Inside: in}}
	r.opts.defaults()
	add := func(name, code, subject string) *nic {
		n := healthy()
		n.guest.Name, n.selected = name, true
		if code != "" {
			n.problem = &Problem{Problem: vnet.Problem{Code: code, Subject: subject}}
		}
		r.nics = append(r.nics, n)
		return n
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		add(name, CodeNoARP, "network red")
	}
	alone := add("e", CodeGuestSilent, "guest e")
	add("healthy", "", "")
	add("down", CodeLinkDown, "port")
	add("off", CodeGuestSilent, "guest off").running = false
	add("elsewhere", CodeGuestSilent, "guest elsewhere").selected = false
	add("waived", CodeGuestSilent, "guest waived").problem.Waived = &Waived{}
	if err := r.lookInside(t.Context()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(in.asked)
	if want := []string{"a", "b", "c", "e"}; !slices.Equal(in.asked, want) {
		t.Errorf("looked into %v, want %v", in.asked, want)
	}
	if want := []string{"in guest e: eth0 has no IPv4 address"}; !slices.Equal(alone.problem.Evidence, want) {
		t.Errorf("evidence %q, want %q", alone.problem.Evidence, want)
	}
	if want := []string{"what could be seen inside of a, b, c, e is not in the evidence, or not all of it: refused"}; !slices.Equal(r.insideNotes, want) {
		t.Errorf("notes %q, want %q", r.insideNotes, want)
	}
}

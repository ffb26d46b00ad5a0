// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package report_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

var sites = map[string]func() report.Result{"healthy": healthySite, "broken": brokenSite, "large": largeSite}

// on puts a NIC onto a switch and VLAN, with an address of its own.
func on(n verify.NICResult, sw, vlan, address string) verify.NICResult {
	n.Switch, n.VLAN = sw, vlan
	if address != "" {
		n.Address = netip.MustParseAddr(address)
	}
	return n
}

// onDevice makes the NIC a macvtap.
func onDevice(n verify.NICResult, lower, address string) verify.NICResult {
	n = on(n, "", "", address)
	n.Lower = lower
	return n
}

// healthySite is what the example first-light looks like.
func healthySite() report.Result {
	e := func(guest, network string, index byte) verify.Endpoint {
		return verify.Endpoint{Guest: guest, Network: network, Device: fmt.Sprintf("vnet%d", index), MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, index}}
	}
	web1, web1lan, web2 := e("web1", "red", 0), e("web1", "lan", 1), e("web2", "red", 2)
	db1, db1lan := e("db1", "blue", 3), e("db1", "lan", 4)
	web2edge, db1edge := e("web2", "edge", 5), e("db1", "edge", 6)
	r := base(
		on(nic(db1), "ovs0", "access 30", "10.0.30.13"), onDevice(nic(db1edge, noFDB), "eth1", "10.0.40.13"),
		onDevice(nic(web2edge, noFDB), "eth1", "10.0.40.12"), on(nic(db1lan), "br0", "", "10.0.10.13"),
		on(nic(web1lan), "br0", "", "10.0.10.11"), on(nic(web1), "ovs0", "access 20", "10.0.20.11"),
		on(nic(web2), "ovs0", "access 20", "10.0.20.12"),
	)
	r.Switches = []verify.SwitchResult{
		{Name: "br0", Driver: vnet.DriverLinux, Up: true, Uplink: "eno1", UplinkUp: true},
		{Name: "ovs0", Driver: vnet.DriverOVS, Up: true, Uplink: "bond0", UplinkUp: true},
	}
	for _, a := range r.NICs {
		for _, b := range r.NICs {
			switch {
			case a.Guest == b.Guest:
			case a.Network == b.Network:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, reach, verify.StatusPass))
			case a.Switch == b.Switch:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, apart, verify.StatusPass))
			}
		}
	}
	return report.Result{Report: r, Host: "hv1"}
}

// brokenSite has several faults, a leak, a waiver, expectations and a past.
func brokenSite() report.Result {
	const shopUntil = 31 * 24 * time.Hour
	var nics []verify.NICResult
	add := func(n verify.NICResult) verify.Endpoint {
		n.MAC = vnet.MAC{0x52, 0x54, 0, 0, 1, byte(len(nics))}
		n.Device = fmt.Sprintf("vnet%d", len(nics))
		nics = append(nics, n)
		return n.Endpoint
	}
	paced := func(n verify.NICResult, median time.Duration, lost int) verify.NICResult {
		n.Latency = &verify.Latency{Sent: 20, Received: 20 - lost, Median: median, Worst: 3 * median}
		return n
	}
	var office, kiosks, all []verify.Endpoint
	web1 := add(on(nic(end("web1", "red"), failed(verify.RungVLAN)), "ovs0", "access 20", "10.0.20.11"))
	web2 := add(paced(on(nic(end("web2", "red")), "ovs0", "access 20", "10.0.20.12"), 412*time.Microsecond, 0))
	web3 := add(paced(on(nic(end("web3", "red")), "ovs0", "access 20", "10.0.20.13"), 2900*time.Microsecond, 3))
	db1 := add(paced(on(nic(end("db1", "blue")), "ovs0", "access 30", "10.0.30.11"), 380*time.Microsecond, 0))
	db2 := add(on(nic(end("db2", "blue"), failed(verify.RungLink)), "ovs0", "access 30", "10.0.30.12"))
	shop := add(on(nic(end("shop", "blue"), failed(verify.RungPathMTU)), "ovs0", "access 30", "10.0.30.20"))
	for i := range 4 {
		guest := fmt.Sprintf("office%d", i+1)
		office = append(office, add(on(nic(end(guest, "lan"), failed(verify.RungUplink)), "br0", "", fmt.Sprintf("10.0.10.%d", 11+i))))
	}
	for i := range 3 {
		guest := fmt.Sprintf("kiosk%d", i+1)
		kiosks = append(kiosks, add(onDevice(nic(end(guest, "edge"), failed(verify.RungARP)), "eth1", fmt.Sprintf("10.0.40.%d", 11+i))))
	}
	router := add(on(nic(end("web1", "lan"), failed(verify.RungUplink)), "br0", "", "10.0.10.31"))
	lost := add(on(nic(end("lab7", "lan"), verify.Rung{
		Name: verify.RungAddress, Status: verify.StatusInconclusive, Reason: "no address is known: there is no agent, no lease, and the guest sent nothing",
	}), "br0", "", ""))
	r := base(nics...)
	r.Duration = 4120 * time.Millisecond
	r.Switches = []verify.SwitchResult{
		{Name: "br0", Driver: vnet.DriverLinux, Up: true, Uplink: "eno1"},
		{Name: "ovs0", Driver: vnet.DriverOVS, Up: true, Uplink: "bond0", UplinkUp: true},
	}
	office = append(office, router, lost)
	all = append(all, web1, web2, web3, db1, db2, shop)
	for _, a := range all {
		for _, b := range all {
			switch {
			case a == b:
			case a == web1 && b.Network == "blue" && b != db2:
				r.Pairs = append(r.Pairs, pair(a, b, apart, verify.StatusLeak))
			case a == web1 || b == web1 || a == db2 || b == db2:
				r.Pairs = append(r.Pairs, pair(a, b, reach, verify.StatusNotReached))
			case a == web3 && b == web2:
				r.Pairs = append(r.Pairs, pair(a, b, reach, verify.StatusFail))
			case a.Network == b.Network:
				r.Pairs = append(r.Pairs, pair(a, b, reach, verify.StatusPass))
			case a == shop:
				r.Pairs = append(r.Pairs, pair(a, b, apart, verify.StatusInconclusive))
			default:
				r.Pairs = append(r.Pairs, pair(a, b, apart, verify.StatusPass))
			}
		}
	}
	r.Limits = []string{"the rules of the host were not read: nft list ruleset: operation not permitted"}
	r.Notes = []string{"the waiver of LOSSY by kim has expired"}
	r.NICs[5].Waived = true // shop
	for i := range r.Pairs {
		if p := &r.Pairs[i]; p.From == db1 && p.To == shop {
			p.Status, p.Waived, p.Cause = verify.StatusFail, true, "PATH_MTU: guest shop, NIC vnet5"
		}
	}
	r.Problems = []verify.Problem{
		{
			Problem: vnet.Problem{
				Code: verify.CodeWrongVLAN, Subject: "guest web1, NIC vnet0", Want: "access 20", Got: "access 30",
				Evidence: []string{"ovs0: port vnet0 is access 30, network red wants access 20"}, Fix: "virt-vnet repair web1",
			},
			Rung: verify.RungVLAN, Network: "red", Affects: []verify.Endpoint{web1},
			Leaks: []string{"web1 (red) -> db1 (blue): delivered as unicast and broadcast", "web1 (red) -> shop (blue): delivered as unicast and broadcast"},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeLinkDown, Subject: "guest db2, NIC vnet4", Want: "link up", Got: "link set down in libvirt",
				Evidence: []string{"vnet4: libvirt link state down, device up, carrier yes"}, Fix: "virsh domif-setlink db2 vnet4 up",
			},
			Rung: verify.RungLink, Network: "blue", Affects: []verify.Endpoint{db2},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeUplinkDown, Subject: "switch br0, uplink eno1", Want: "carrier", Got: "no carrier",
				Evidence: []string{"eno1: admin up, operstate down, carrier 0", "br0: no frame from the uplink in 4 s"}, Fix: "ip link set eno1 up   # and look at the cable",
			},
			Rung: verify.RungUplink, Network: "lan", Affects: office,
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodePathMTU, Subject: "guest shop, NIC vnet5", Want: "frames of 9000 bytes", Got: "1500 bytes at most",
				Evidence: []string{"9000: no answer", "1500: answered"}, Fix: "ip link set dev eth0 mtu 9000   # in shop",
			},
			Rung: verify.RungPathMTU, Network: "blue", Affects: []verify.Endpoint{shop},
			Waived: &verify.Waived{Owner: "kim", Until: r.Started.Add(shopUntil), Reason: "the vendor's image, replaced in December"},
		},
		{
			Problem: vnet.Problem{
				Code: verify.CodeNotDelivered, Subject: "network red", Want: "frames delivered and answered", Got: "not delivered",
				Evidence: []string{"web3 (red) -> web2 (red): the frame entered the switch and was not delivered"}, Fix: "ovs-appctl ofproto/trace ovs0 in_port=vnet2,dl_src=52:54:00:00:01:02,dl_dst=52:54:00:00:01:01",
			},
			Network: "red", Affects: []verify.Endpoint{web2, web3},
		},
	}
	for _, e := range kiosks {
		r.Problems = append(r.Problems, verify.Problem{
			Problem: vnet.Problem{
				Code: verify.CodeGuestSilent, Subject: "guest " + e.Guest + ", NIC " + e.Device, Want: "an answer to ARP", Got: "3 requests delivered, no frame sent",
				Evidence: []string{e.Device + ": 3 requests seen on their way to the guest, 0 frames from it"}, Fix: "virsh console " + e.Guest,
			},
			Rung: verify.RungARP, Network: "edge", Affects: []verify.Endpoint{e},
		})
	}
	r.Checks = []verify.CheckResult{
		{Name: "web2 tcp db1:5432", Where: "site.yaml:41", Status: verify.StatusPass, Value: "0.8 ms"},
		{Name: "web3 latency db1 < 1 ms", Where: "site.yaml:44", Status: verify.StatusFail, Value: "2.9 ms", Reason: "median of 20 answers", Evidence: []string{"2.7 2.8 2.9 2.9 3.1 ms"}},
		{Name: "office1 dns ns.example.org", Where: "site.yaml:45", Status: verify.StatusNotReached, Cause: "UPLINK_DOWN: switch br0, uplink eno1"},
		{Name: "kiosk1 deny db1", Where: "site.yaml:47", Status: verify.StatusInconclusive, Reason: "kiosk1 is silent"},
	}
	return report.Result{Report: r, Host: "hv1.example.org", Past: pastOf(r)}
}

// pastOf is fourteen nights before r.
func pastOf(r verify.Report) *history.Past {
	past := &history.Past{}
	night := func(ago int) time.Time { return r.Started.AddDate(0, 0, -ago) }
	verdicts := []verify.Verdict{verify.VerdictFail, verify.VerdictPass, verify.VerdictPass, verify.VerdictInconclusive, verify.VerdictPass}
	for ago := 1; ago <= 14; ago++ {
		past.Runs = append(past.Runs, history.Run{
			ID: int64(100 - ago), Started: night(ago), Duration: 4 * time.Second,
			Verdict: verdicts[(ago-1)%len(verdicts)], NICs: len(r.NICs), Problems: ago % 3,
		})
	}
	states := []history.State{history.StateNew, history.StateStill, history.StateNew, history.StateStill, history.StateFlapping}
	for i, p := range r.Problems {
		c := history.Change{State: history.StateNew, Problem: p, Since: r.Started}
		if i < len(states) {
			c.State, c.Since = states[i], night(i)
		}
		past.Changes = append(past.Changes, c)
	}
	for i, state := range []history.State{history.StateFixed, history.StateGone} {
		guest := []string{"db3", "old9"}[i]
		past.Changes = append(past.Changes, history.Change{State: state, Since: night(5), Problem: verify.Problem{
			Problem: vnet.Problem{Code: verify.CodeNoARP, Subject: "guest " + guest + ", NIC vnet40"}, Network: "blue",
			Affects: []verify.Endpoint{end(guest, "blue")},
		}})
	}
	for k, n := range r.NICs[:4] {
		trend := history.Trend{Endpoint: n.Endpoint, Median: 400 * time.Microsecond, MAD: 25 * time.Microsecond}
		for ago := 13; ago >= 0; ago-- {
			s := history.Sample{Time: night(ago), Status: verify.StatusPass, Median: time.Duration(380+(ago*37+k*11)%60) * time.Microsecond}
			if (ago+k)%9 == 4 {
				s.Status, s.Median = verify.StatusFail, 0
			}
			if ago == 0 && n.Latency != nil {
				s.Median = n.Latency.Median
			}
			trend.Samples = append(trend.Samples, s)
		}
		past.Trends = append(past.Trends, trend)
	}
	return past
}

// largeSite is a run with --full over 500 guests of 8 networks: 249,500 pairs,
// and some faults.
func largeSite() report.Result { return siteOf(500, 8) }

func siteOf(guests, networks int) report.Result {
	r := base()
	r.Duration = 9 * time.Second
	r.Switches = []verify.SwitchResult{
		{Name: "br0", Driver: vnet.DriverLinux, Up: true, Uplink: "eno1", UplinkUp: true},
		{Name: "br1", Driver: vnet.DriverLinux, Up: true, Uplink: "eno2"},
	}
	uplink := verify.Problem{
		Problem: vnet.Problem{
			Code: verify.CodeUplinkDown, Subject: "switch br1, uplink eno2", Want: "carrier", Got: "no carrier",
			Evidence: []string{"eno2: operstate down"}, Fix: "ip link set eno2 up",
		},
		Rung: verify.RungUplink,
	}
	for i := range guests {
		network := i * networks / guests
		e := verify.Endpoint{
			Guest: fmt.Sprintf("guest%05d", i), Network: fmt.Sprintf("tenant%02d", network), Device: fmt.Sprintf("vnet%d", i),
			MAC: vnet.MAC{0x52, 0x54, 0, 0, byte(i >> 8), byte(i)},
		}
		sw, vlan := "br0", fmt.Sprintf("access %d", 100+network)
		var rungs []verify.Rung
		if network == networks-1 {
			sw = "br1"
			rungs = append(rungs, failed(verify.RungUplink))
			uplink.Network, uplink.Affects = e.Network, append(uplink.Affects, e)
		} else if i%97 == 5 {
			rungs = append(rungs, failed(verify.RungARP))
			r.Problems = append(r.Problems, verify.Problem{
				Problem: vnet.Problem{Code: verify.CodeNoARP, Subject: "guest " + e.Guest, Want: "an answer", Got: "silence", Fix: "virsh console " + e.Guest},
				Rung:    verify.RungARP, Network: e.Network, Affects: []verify.Endpoint{e},
			})
		}
		n := on(nic(e, rungs...), sw, vlan, fmt.Sprintf("10.%d.%d.%d", network, i>>8, i&255))
		r.NICs = append(r.NICs, n)
	}
	r.Problems = append(r.Problems, uplink)
	if guests > 1000 {
		return report.Result{Report: r, Host: "hv9"}
	}
	for i, a := range r.NICs {
		for j, b := range r.NICs {
			switch {
			case i == j:
			case a.Network != b.Network && a.Switch != b.Switch:
			case a.Network == b.Network && (a.Status != verify.StatusPass || b.Status != verify.StatusPass) && a.Switch == "br0":
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, reach, verify.StatusNotReached))
			case a.Network == b.Network && i%50 == 7 && j == i+3:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, reach, verify.StatusFail))
			case a.Network == b.Network:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, reach, verify.StatusPass))
			case i == 70 && b.Network == "tenant03":
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, apart, verify.StatusLeak))
			case i%61 == 0:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, apart, verify.StatusInconclusive))
			default:
				r.Pairs = append(r.Pairs, pair(a.Endpoint, b.Endpoint, apart, verify.StatusPass))
			}
		}
	}
	return report.Result{Report: r, Host: "hv9.example.org"}
}

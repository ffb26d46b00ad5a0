// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// groupTrace is NFNLGRP_NFTRACE (linux/netfilter/nfnetlink.h).
	groupTrace = 9

	// bufferSize holds some thousands of messages: a frame makes one for each
	// rule that it meets.
	bufferSize = 4 << 20

	// tablePrefix starts the names of our tables, which end with the process.
	tablePrefix = "virt_vnet_trace_"
)

// priority is before whatever else looks at frames that come into a bridge.
const priority = nftables.ChainPriority(-500)

// Trace is frames being traced. It belongs to one goroutine.
type Trace struct {
	rules *nftables.Conn
	group *netlink.Conn
	drops collector
	done  chan error
	// legacy is what legacy iptables had counted at the start.
	legacy counters
}

// Start begins to trace ARP and ICMP frames that come into a bridge of this
// network namespace by one of the ports, given by interface index, or are for
// one of the MAC addresses. It needs CAP_NET_ADMIN.
func Start(ctx context.Context, ports []int, macs []vnet.MAC) (*Trace, error) {
	before, err := legacy(ctx)
	if err != nil {
		return nil, err
	}
	t := &Trace{drops: collector{frames: map[uint32]frame{}, found: map[Drop]int{}}, done: make(chan error, 1), legacy: before}
	if t.rules, err = nftables.New(); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	if t.group, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	err = errors.Join(t.group.SetReadBuffer(bufferSize), t.group.JoinGroup(groupTrace))
	if err == nil {
		err = t.mark(ports, macs)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("trace frames: %w", err), t.group.Close())
	}
	go func() { t.done <- t.receive() }()
	return t, nil
}

// Stop ends the trace and returns what was dropped meanwhile, each rule once for
// the frames that have the same ends. Of legacy iptables, which cannot be traced,
// it returns every rule whose counter moved.
func (t *Trace) Stop(ctx context.Context) ([]Drop, error) {
	t.rules.DelTable(table())
	err := t.rules.Flush()
	if errors.Is(err, unix.ENOENT) { // whoever flushed the ruleset took it along
		err = nil
	}
	// What the kernel has said by now is there to be read at once.
	_ = t.group.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	err = errors.Join(err, <-t.done, t.group.Close())
	if err != nil {
		return nil, fmt.Errorf("trace frames: %w", err)
	}
	after, err := legacy(ctx)
	return append(t.drops.list(ctx), after.since(t.legacy)...), err
}

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyBridge, Name: tablePrefix + strconv.Itoa(os.Getpid())}
}

// sweep removes the tables of processes that are gone. What it cannot remove
// now does no harm.
func (t *Trace) sweep() {
	tables, err := t.rules.ListTablesOfFamily(nftables.TableFamilyBridge)
	if err != nil {
		return
	}
	for _, tab := range tables {
		text, ours := strings.CutPrefix(tab.Name, tablePrefix)
		pid, err := strconv.Atoi(text)
		if ours && err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			t.rules.DelTable(tab)
			_ = t.rules.Flush()
		}
	}
}

// mark makes the table. One that a process of the same number has left is
// replaced.
func (t *Trace) mark(ports []int, macs []vnet.MAC) error {
	t.sweep()
	tab := t.rules.AddTable(table())
	t.rules.DelTable(tab)
	t.rules.AddTable(tab)
	first := priority
	chain := t.rules.AddChain(&nftables.Chain{
		Name: "prerouting", Table: tab, Type: nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookRef(0), // NF_BR_PRE_ROUTING
		Priority: &first,
	})
	portSet := &nftables.Set{Table: tab, Name: "ports", KeyType: nftables.TypeIFIndex}
	macSet := &nftables.Set{Table: tab, Name: "macs", KeyType: nftables.TypeEtherAddr}
	var portKeys, macKeys []nftables.SetElement
	for _, index := range ports {
		portKeys = append(portKeys, nftables.SetElement{Key: binary.NativeEndian.AppendUint32(nil, uint32(index))})
	}
	for _, mac := range macs {
		macKeys = append(macKeys, nftables.SetElement{Key: mac[:]})
	}
	if err := errors.Join(t.fill(portSet, portKeys), t.fill(macSet, macKeys)); err != nil {
		return err
	}
	from := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: portSet.Name, SetID: portSet.ID},
	}
	to := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 0, Len: 6},
		&expr.Lookup{SourceRegister: 1, SetName: macSet.Name, SetID: macSet.ID},
	}
	for _, who := range [][]expr.Any{from, to} {
		for _, what := range [][]expr.Any{etherType(unix.ETH_P_ARP), icmp()} {
			t.rules.AddRule(&nftables.Rule{Table: tab, Chain: chain, Exprs: append(append(what, who...),
				&expr.Immediate{Register: 1, Data: []byte{1}},
				&expr.Meta{Key: expr.MetaKeyNFTRACE, SourceRegister: true, Register: 1})})
		}
	}
	return t.rules.Flush()
}

// fill makes a set. Its elements go into several messages, which have room for
// 64 KiB of them each.
func (t *Trace) fill(set *nftables.Set, keys []nftables.SetElement) error {
	const together = 500
	if err := t.rules.AddSet(set, nil); err != nil {
		return err
	}
	for some := range slices.Chunk(keys, together) {
		if err := t.rules.SetAddElements(set, some); err != nil {
			return err
		}
	}
	return nil
}

func etherType(value uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, value)},
	}
}

func icmp() []expr.Any {
	const protocolOffset = 9
	return append(etherType(unix.ETH_P_IP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: protocolOffset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_ICMP}})
}

// receive takes in what the kernel says until the deadline.
func (t *Trace) receive() error {
	for {
		messages, err := t.group.Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ENOBUFS):
			continue // some were lost: those that came tell enough
		case err != nil:
			return err
		}
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE {
				if err := t.drops.take(m.Data); err != nil {
					return err
				}
			}
		}
	}
}

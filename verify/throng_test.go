// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// throngDevice is the host's end of the cable that all guests of a throng are
// behind.
const throngDevice = "to-throng"

// throng is many guests on one cable, each with a MAC and an address of its own.
// They are emulated: a program in the kernel at the far end answers for all of
// them, as fast as the cable carries frames, so that what is measured is who
// asks.
type throng struct {
	lab       *lab.Lab
	inventory Inventory
	index     int
}

// newThrong makes size guests, of which those whose address ends in a multiple
// of ten are dead where there may be dead ones.
func newThrong(tb testing.TB, size int, withDead bool) *throng {
	tb.Helper()
	l := labtest.Start(tb, lab.Options{})
	st := &lab.Station{Name: "throng", Device: throngDevice}
	if err := l.AddStation(tb.Context(), st); err != nil {
		tb.Fatal(err)
	}
	if err := st.Do(func() error { return putProgram("eth0", answerProgram(withDead)) }); err != nil {
		tb.Fatal(err)
	}
	near, err := netlink.LinkByName(throngDevice)
	if err != nil {
		tb.Fatal(err)
	}
	c := &throng{lab: l, index: near.Attrs().Index}
	const network, sw = "many", "br0"
	if err := l.AddLinuxBridge(tb.Context(), sw); err != nil {
		tb.Fatal(err)
	}
	c.inventory.Networks = []vnet.Network{{
		Name: network, Mode: vnet.ModeBridge, Switch: sw, Subnet: netip.MustParsePrefix("10.9.0.0/16"),
	}}
	c.inventory.Switches = []Switch{{Switch: vnet.Switch{Name: sw, Driver: vnet.DriverLinux}}}
	c.inventory.Guests = make([]Guest, 0, size)
	addr := netip.MustParseAddr("10.9.0.1")
	for i := range size {
		ref := vnet.GuestRef{Name: fmt.Sprintf("guest%05d", i), UUID: fmt.Sprint(i)}
		c.inventory.Guests = append(c.inventory.Guests, Guest{
			Ref: ref, Running: true, State: "running",
			NICs: []NIC{{
				Want: vnet.Port{
					Device: throngDevice, Switch: sw, Guest: ref, Network: network,
					MAC: vnet.MAC{0x52, 0x54, 0, 9, byte(i >> 8), byte(i)},
				},
				Port:      &Port{Switch: sw},
				Addresses: []Address{{addr, AddressSpec}},
			}},
		})
		addr = addr.Next()
	}
	return c
}

// Learned implements [Switches].
func (c *throng) Learned(context.Context, string) ([]Learned, error) {
	rows := make([]Learned, 0, len(c.inventory.Guests))
	for _, g := range c.inventory.Guests {
		rows = append(rows, Learned{MAC: g.NICs[0].Want.MAC, Device: throngDevice})
	}
	return rows, nil
}

// OpenVantage implements [Switches]: the cable's near end is a vantage already.
func (c *throng) OpenVantage(context.Context, string, vnet.VLANID) (string, error) {
	return throngDevice, nil
}

// CloseVantage implements [Switches].
func (c *throng) CloseVantage(context.Context, string, string) error { return nil }

// WatchDrops implements [Switches]: there are no rules here.
func (c *throng) WatchDrops(context.Context, []int, []vnet.MAC) (func(context.Context) ([]Drop, error), error) {
	return func(context.Context) ([]Drop, error) { return nil, nil }, nil
}

// putProgram puts a program where frames come in at a device.
func putProgram(device string, instructions asm.Instructions) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: instructions,
	})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer program.Close() //nolint:errcheck // the filter holds it
	index := link.Attrs().Index
	err = netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.MakeHandle(0xffff, 0),
	}})
	return errors.Join(err, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1,
		},
		Fd: program.FD(), Name: "answer", DirectAction: true,
	}))
}

// What the programs know of the kernel.
const (
	skbData, skbDataEnd, skbIndex = 76, 80, 40 // of __sk_buff
	drop                          = 2          // TC_ACT_SHOT
)

// answerProgram answers ARP requests and ICMP echo requests that are for one
// guest alone, in that guest's name, and drops everything else.
func answerProgram(withDead bool) asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, etherHeader+arpLength),
		asm.JGT.Reg(asm.R2, asm.R8, "drop"),
		asm.LoadMem(asm.R2, asm.R7, 0, asm.Byte),
		asm.And.Imm(asm.R2, 1),
		asm.JNE.Imm(asm.R2, 0, "drop"), // to everybody
		asm.LoadMem(asm.R2, asm.R7, 12, asm.Half),
		asm.JEq.Imm(asm.R2, int32(networkOrder(etherIPv4)), "ip"),
		asm.JNE.Imm(asm.R2, int32(networkOrder(etherARP)), "drop"),
		asm.LoadMem(asm.R2, asm.R7, 20, asm.Half),
		asm.JNE.Imm(asm.R2, int32(networkOrder(arpRequest)), "drop"),
	}
	p = append(p, unlessDead(41, withDead)...)
	p = append(p, copyBytes(22, 32, 4)...) // the sender becomes the target
	p = append(p, copyBytes(26, 36, 2)...)
	p = append(p, swapBytes(28, 38, 4)...) // and the addresses change places
	p = append(p, copyBytes(0, 22, 4)...)  // the guest is the sender
	p = append(p, copyBytes(4, 26, 2)...)
	p = append(p,
		asm.StoreImm(asm.R7, 21, arpReply, asm.Byte),
		asm.Ja.Label("send"),
		asm.LoadMem(asm.R2, asm.R7, 23, asm.Byte).WithSymbol("ip"),
		asm.JNE.Imm(asm.R2, protoICMP, "drop"),
		asm.LoadMem(asm.R2, asm.R7, 34, asm.Byte),
		asm.JNE.Imm(asm.R2, echoRequest, "drop"),
	)
	p = append(p, unlessDead(33, withDead)...)
	p = append(p, swapBytes(26, 30, 4)...)
	p = append(p,
		asm.StoreImm(asm.R7, 34, echoReply, asm.Byte),
		// The sum grows by what the type lost (RFC 1624), its carry comes round.
		asm.LoadMem(asm.R2, asm.R7, 36, asm.Half),
		asm.Add.Imm(asm.R2, echoRequest),
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.RSh.Imm(asm.R3, 16),
		asm.Add.Reg(asm.R2, asm.R3),
		asm.StoreMem(asm.R7, 36, asm.R2, asm.Half),
	)
	return append(append(p, bounce("send")...),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	)
}

// bounce sends the frame back to where it came from.
func bounce(label string) asm.Instructions {
	p := append(swapBytes(0, 6, 4), swapBytes(4, 10, 2)...)
	p[0] = p[0].WithSymbol(label)
	return append(p,
		asm.LoadMem(asm.R1, asm.R6, skbIndex, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
}

// bounceProgram sends every frame back, and does not look what it is.
func bounceProgram() asm.Instructions {
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, skbData, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, skbDataEnd, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, etherHeader),
		asm.JGT.Reg(asm.R2, asm.R8, "drop"),
	}
	return append(append(p, bounce("send")...),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	)
}

// unlessDead drops what is for a dead guest; last is where the last byte of its
// address is.
func unlessDead(last int16, withDead bool) asm.Instructions {
	if !withDead {
		return nil
	}
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R7, last, asm.Byte),
		asm.Mod.Imm(asm.R2, 10),
		asm.JEq.Imm(asm.R2, 0, "drop"),
	}
}

func sizeOf(bytes int) asm.Size {
	if bytes == 4 {
		return asm.Word
	}
	return asm.Half
}

func copyBytes(from, to int16, bytes int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R7, from, sizeOf(bytes)),
		asm.StoreMem(asm.R7, to, asm.R2, sizeOf(bytes)),
	}
}

func swapBytes(a, b int16, bytes int) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R7, a, sizeOf(bytes)),
		asm.LoadMem(asm.R3, asm.R7, b, sizeOf(bytes)),
		asm.StoreMem(asm.R7, a, asm.R3, sizeOf(bytes)),
		asm.StoreMem(asm.R7, b, asm.R2, sizeOf(bytes)),
	}
}

// examine does a run without the pairs, which all are at one port here. It
// returns what asking took.
func (c *throng) examine(ctx context.Context) (*run, time.Duration, error) {
	opts := Options{Switches: c}
	opts.defaults()
	host, err := dumpLinks()
	if err != nil {
		return nil, 0, err
	}
	r := &run{opts: opts, inventory: c.inventory, host: host, nics: newNICs(c.inventory, host, opts)}
	if r.id, err = newRunID(); err != nil {
		return nil, 0, err
	}
	r.climbStatic()
	r.learn(ctx, false)
	r.segments = group(r.nics)
	r.openSegments(ctx)
	if err := r.settle(ctx); err != nil {
		return nil, 0, err
	}
	start := time.Now()
	err = r.ask(ctx)
	took := time.Since(start)
	r.climbLive()
	return r, took, errors.Join(err, r.close(ctx))
}

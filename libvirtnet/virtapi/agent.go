// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/virt-vnet/virt-vnet/vnet"
)

// Errors of what guest agents are asked. Test for them with [errors.Is].
var (
	// ErrNoAgent means that no agent answers in the guest.
	ErrNoAgent = errors.New("no agent answers")
	// ErrAgentRefuses means that the guest's agent is set not to run commands.
	ErrAgentRefuses = errors.New("the agent does not run commands")
	// ErrNoProgram means that the guest has no such program.
	ErrNoProgram = errors.New("no such program")
)

// GuestInterface is a network interface as the guest has it.
type GuestInterface struct {
	Name      string
	MAC       vnet.MAC       // zero of one that is no Ethernet
	Addresses []netip.Prefix // with the length of their subnet's prefix
}

// GuestInterfaces asks the agent of a running guest, found by its name or UUID,
// for its network interfaces. The error is [ErrNoAgent] when none answers.
//
// It is the agent's guest-network-get-interfaces, and not libvirt's own call for
// it: that waits for ever when an agent hangs that has answered before, and keeps
// one of libvirt's workers, so that a few such guests stop libvirt, and libvirt
// cannot be stopped in order. The price is that libvirt marks the guest as tainted
// until that stops ("custom-ga-command").
func (c *Conn) GuestInterfaces(ctx context.Context, guest string) ([]GuestInterface, error) {
	var list []struct {
		Name      string `json:"name"`
		MAC       string `json:"hardware-address"`
		Addresses []struct {
			Address string `json:"ip-address"`
			Bits    int    `json:"prefix"`
		} `json:"ip-addresses"`
	}
	if err := c.askAgent(ctx, guest, "guest-network-get-interfaces", nil, &list); err != nil {
		return nil, err
	}
	out := make([]GuestInterface, len(list))
	for i, iface := range list {
		mac, _ := vnet.ParseMAC(iface.MAC) // zero if it is none
		out[i] = GuestInterface{Name: iface.Name, MAC: mac}
		for _, a := range iface.Addresses {
			addr, err := netip.ParseAddr(a.Address)
			if p := netip.PrefixFrom(addr, a.Bits); err == nil && !addr.IsLoopback() && p.IsValid() {
				out[i].Addresses = append(out[i].Addresses, p)
			}
		}
	}
	return out, nil
}

// agentWait is for how many seconds libvirt waits for an agent's answer. It may
// wait 5 more for one that it has not heard of yet.
const agentWait = 1

// outputLimit is how much of a program's output is of interest, in bytes.
const outputLimit = 64 << 10

// GuestExec runs a program of the guest, by its path there, and returns the
// beginning, 64 KiB, of its standard output. There is no shell in between and
// no standard input. The program runs as the agent does, which is usually root.
// It goes on when ctx ends. It is the agent's guest-exec
// (https://www.qemu.org/docs/master/interop/qemu-ga-ref.html), and the guest is
// marked as by [Conn.GuestInterfaces]. The error is [ErrNoAgent], [ErrAgentRefuses],
// [ErrNoProgram], or that the program failed.
func (c *Conn) GuestExec(ctx context.Context, guest, path string, args ...string) (string, error) {
	var started struct {
		PID int `json:"pid"`
	}
	err := c.askAgent(ctx, guest, "guest-exec", map[string]any{"path": path, "arg": args, "capture-output": true}, &started)
	if err != nil {
		return "", err
	}
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		var status struct {
			Exited bool   `json:"exited"`
			Code   int    `json:"exitcode"`
			Signal int    `json:"signal"`
			Out    []byte `json:"out-data"`
			Err    []byte `json:"err-data"`
		}
		if err := c.askAgent(ctx, guest, "guest-exec-status", map[string]any{"pid": started.PID}, &status); err != nil {
			return "", err
		}
		if status.Exited {
			if status.Code != 0 || status.Signal != 0 {
				return "", fmt.Errorf("guest %s: %s: exit code %d, signal %d: %.200s", guest, path, status.Code, status.Signal, status.Err)
			}
			return string(status.Out[:min(len(status.Out), outputLimit)]), nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// askAgent gives the agent one command and decodes what it returns into answer.
func (c *Conn) askAgent(ctx context.Context, guest, command string, arguments, answer any) error {
	question := map[string]any{"execute": command}
	if arguments != nil {
		question["arguments"] = arguments
	}
	text, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("guest %s: %s: %w", guest, command, err)
	}
	reply, err := promptly(ctx, c, func(ctx context.Context) (string, error) {
		return withGuest(ctx, c, guest, func(handle *libvirt.Domain) (string, error) {
			reply, err := handle.QemuAgentCommand(string(text), agentWait, 0)
			return reply, agentError("guest "+guest+": "+command, err)
		})
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(reply), &struct{ Return any }{answer}); err != nil {
		return fmt.Errorf("guest %s: %s: read the answer: %w", guest, command, err)
	}
	return nil
}

// agentError is callError with the sentinels of agents. What the agent itself
// says no to has no code of its own in libvirt.
func agentError(what string, err error) error {
	lv, ok := errors.AsType[libvirt.Error](err)
	if !ok {
		return callError(what, err)
	}
	says := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(lv.Message, text) {
				return true
			}
		}
		return false
	}
	var sentinel error
	switch {
	case slices.Contains([]libvirt.ErrorNumber{
		libvirt.ERR_AGENT_UNRESPONSIVE, libvirt.ERR_AGENT_UNSYNCED, libvirt.ERR_AGENT_COMMAND_TIMEOUT,
		libvirt.ERR_ARGUMENT_UNSUPPORTED, // the guest has no channel for one
	}, lv.Code):
		sentinel = ErrNoAgent
	case says("has been disabled", "not allowed", "has not been found"):
		sentinel = ErrAgentRefuses
	case says("No such file or directory"):
		sentinel = ErrNoProgram
	default:
		return callError(what, err)
	}
	return fmt.Errorf("%s: %w (%s)", what, sentinel, lv.Message)
}

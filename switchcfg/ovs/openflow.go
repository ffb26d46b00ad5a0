// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// openflowVersion is the first that has bundles (ONF TS-018, section 6.9).
const openflowVersion = "OpenFlow14"

// ofctl is the tool that speaks OpenFlow for us. It comes with Open vSwitch.
const ofctl = "ovs-ofctl"

// errNoTool means that the host has no ovs-ofctl.
var errNoTool = errors.New(ofctl + " is not installed, which comes with Open vSwitch")

// tool is where ovs-ofctl is, also for those that are started without a PATH.
func tool() (string, error) {
	for _, name := range []string{ofctl, "/usr/bin/" + ofctl, "/usr/sbin/" + ofctl, "/usr/local/bin/" + ofctl} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errNoTool
}

// killLimit is how long a killed ovs-ofctl has to be gone.
const killLimit = time.Second

// A restart of ovs-vswitchd is waited out this long, with such pauses.
const (
	restartLimit = time.Second
	restartPause = 50 * time.Millisecond
)

// outlasting asks ovs-vswitchd something, again and again while it restarts. Only
// once does a driver wait for one that stays away.
func (d *Driver) outlasting(ctx context.Context, ask func() error) error {
	for began := time.Now(); ; {
		err := ask()
		if !errors.Is(err, switchcfg.ErrUnreachable) {
			d.away = false
			return err
		}
		if d.away || time.Since(began) > restartLimit {
			d.away = true
			return err
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return err
		}
	}
}

// openflow runs ovs-ofctl on the bridge. It ends with the context, and with the
// caller, who may be killed.
func (d *Driver) openflow(ctx context.Context, input, command string, args ...string) (out string, err error) {
	err = d.outlasting(ctx, func() (err error) {
		out, err = d.openflowOnce(ctx, input, command, args...)
		return err
	})
	return out, err
}

func (d *Driver) openflowOnce(ctx context.Context, input, command string, args ...string) (string, error) {
	if reason := d.lacksOpenFlow(); reason != "" {
		return "", fmt.Errorf("OpenFlow: %w: %s", switchcfg.ErrUnsupported, reason)
	}
	path, err := tool()
	if err != nil {
		return "", err
	}
	target := "unix:" + filepath.Join(d.runDir, d.name+".mgmt")
	list := slices.Concat([]string{"-O", openflowVersion, "-vconsole:off", "-vconsole:err", command, target}, args)
	if command == "add-flows" {
		list = append([]string{"--bundle"}, list...)
	}
	// The kernel sends the signal when the thread ends that started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out, says bytes.Buffer
	cmd := exec.CommandContext(ctx, path, list...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = killLimit
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &says
	err = cmd.Run()
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", fmt.Errorf("OpenFlow: ovs-vswitchd %w: %s %s: %w", switchcfg.ErrUnreachable, ofctl, command, ctx.Err())
	}
	return "", d.openflowError(command, strings.TrimSpace(says.String()), err)
}

// openflowError is what ovs-ofctl says.
func (d *Driver) openflowError(command, says string, err error) error {
	line, _, _ := strings.Cut(says, "\n")
	line = strings.TrimPrefix(line, ofctl+": ")
	switch {
	case strings.Contains(says, "Permission denied"), strings.Contains(says, "Operation not permitted"):
		return fmt.Errorf("OpenFlow: %w: needs root or the group of %s", switchcfg.ErrPermission, product)
	case strings.Contains(says, "failed to connect"), strings.Contains(says, "Connection refused"), strings.Contains(says, "No such file"):
		return fmt.Errorf("OpenFlow: ovs-vswitchd %w: %s", switchcfg.ErrUnreachable, line)
	case line == "":
		return fmt.Errorf("%s %s: %w", ofctl, command, err)
	}
	return fmt.Errorf("%s %s: %s", ofctl, command, line)
}

// flowsOf returns the flows of ours of some ports, or of all with nil, by port.
func (d *Driver) flowsOf(ctx context.Context, ports []int) (map[int][]dumped, error) {
	filters := []string{fmt.Sprintf("cookie=%#x/%#x", uint64(cookieMark), uint64(cookieMask))}
	// Asking for a few ports one by one takes as long with a thousand others.
	if few := 4; ports != nil && len(ports) <= few {
		filters = nil
		for _, port := range ports {
			filters = append(filters, fmt.Sprintf("cookie=%#x/-1", cookieOf(port)))
		}
	}
	found := map[int][]dumped{}
	for _, filter := range filters {
		text, err := d.openflow(ctx, "", "dump-flows", "--no-stats", "--no-names", filter)
		if err != nil {
			return nil, err
		}
		for _, f := range parseFlows(text) {
			found[f.port] = append(found[f.port], f)
		}
	}
	return found, nil
}

// setFilters gives ports the flows of their filters, and takes from them what
// they had of ours: all at once, or nothing. Meters come before the flows that
// need them, and go after: those of the metered ports, which may have one.
func (d *Driver) setFilters(ctx context.Context, filters map[int]filter, metered map[int]bool) error {
	var text strings.Builder
	guards := false
	var without []int
	rates := map[int]vnet.Rate{}
	for port, f := range filters {
		guards = guards || !f.guard.IsZero()
		fmt.Fprintf(&text, "delete cookie=%#x/-1\n", cookieOf(port))
		for _, line := range filterFlows(port, f) {
			text.WriteString(line.text(port) + "\n")
		}
		if f.outbound.Bits == 0 {
			if metered[port] {
				without = append(without, port)
			}
		} else {
			rates[port] = f.outbound
		}
	}
	if err := d.setMeters(ctx, rates); err != nil {
		return err
	}
	if guards {
		if err := d.seeFragments(ctx); err != nil {
			return err
		}
	}
	if len(filters) > 0 {
		if _, err := d.openflow(ctx, text.String(), "add-flows", "-"); err != nil {
			return err
		}
	}
	return d.removeMeters(ctx, without)
}

// lacksOpenFlow is why this driver cannot speak OpenFlow with the bridge, or
// nothing.
func (d *Driver) lacksOpenFlow() string {
	if _, err := tool(); err != nil {
		return err.Error()
	}
	if len(d.protocols) > 0 && !slices.Contains(d.protocols, openflowVersion) {
		return fmt.Sprintf("its protocols leave out %s: ovs-vsctl add bridge %s protocols %s", openflowVersion, d.name, openflowVersion)
	}
	return ""
}

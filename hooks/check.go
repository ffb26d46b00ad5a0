// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// CheckUnit is the systemd unit that checks a guest after its start, without
// the guest's name.
const CheckUnit = "virt-vnet-verify@.service"

// startLimit bounds the wait for systemd to take the job. Whoever started the
// guest waits as long.
const startLimit = 500 * time.Millisecond

// startCheck has the check of the guest started, if the user switched that on.
func (w *Wirer) startCheck(ctx context.Context, guest string) error {
	settings, err := w.Store.HookSettings()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("is the guest to be checked? %w: switch it on or off with: virt-vnet hooks install --verify-on-start", err)
	case !settings.VerifyOnStart || w.StartUnit == nil:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := w.StartUnit(ctx, CheckUnit, guest); err != nil {
		return fmt.Errorf("the guest is not checked: %w", err)
	}
	return nil
}

// StartUnit asks systemd to start the instance of a template unit, such as
// [CheckUnit], and does not wait for it to run. The unit is systemd's child,
// never ours.
//
// It runs systemctl rather than speak D-Bus: that costs nothing in the starts of
// guests that are not to be checked, where a D-Bus library would have to be set
// up each time; and systemctl reaches systemd also where there is no bus.
func StartUnit(ctx context.Context, template, instance string) error {
	prefix, suffix, _ := strings.Cut(template, "@")
	unit := prefix + "@" + escapeUnit(instance) + suffix
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return fmt.Errorf("start %s: systemd does not run here", unit) // sd_booted(3)
	}
	// A hook has no PATH.
	program := "/usr/bin/systemctl"
	if _, err := os.Stat(program); err != nil {
		program = "/bin/systemctl"
	}
	cmd := exec.CommandContext(ctx, program, "--quiet", "--no-ask-password", "--no-block", "start", "--", unit)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.WaitDelay = startLimit / 5
	out, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("start %s: systemd does not answer: %w", unit, ctx.Err())
	case err != nil:
		return fmt.Errorf("start %s: %w: %s", unit, err, bytes.TrimSpace(out))
	}
	return nil
}

// escapeUnit makes a name fit for the name of a unit, as systemd-escape(1) does.
func escapeUnit(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == ':', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		case c == '/':
			b.WriteByte('-')
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// checkUnitPath returns where systemd finds the unit, or "" (systemd.unit(5)).
func (o Options) checkUnitPath() string {
	for _, dir := range []string{
		"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system",
	} {
		path := filepath.Join(o.Root, dir, CheckUnit)
		if exists(path) {
			return path
		}
	}
	return ""
}

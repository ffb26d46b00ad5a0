// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
)

func hooksCommand(std stdio) *cli.Command {
	dir := &cli.StringFlag{Name: "hooks-dir", Value: hooks.DefaultHooksDir, Usage: "libvirt's `DIR` of hooks"}
	binary := &cli.StringFlag{Name: "binary", Usage: "the hook `PROGRAM`; default is virt-vnet-hook beside virt-vnet or in its libexec directory"}
	return &cli.Command{
		Name:  "hooks",
		Usage: "install, remove, check or try the libvirt hooks",
		Subcommands: []*cli.Command{
			{
				Name: "install", Usage: "have libvirt run virt-vnet when guests start and stop",
				Flags: []cli.Flag{
					dir, binary, libvirtVersionFlag(),
					&cli.BoolFlag{Name: "verify-on-start", Usage: "have systemd check each guest after its start; =false switches it off, without it all stays as it is"},
					&cli.BoolFlag{Name: "reload", Usage: "reload the libvirt daemons that would not notice otherwise"},
				},
				Action: func(c *cli.Context) error { return installHooks(c, std) },
			},
			{
				Name: "uninstall", Usage: "remove our hooks, and nothing else",
				Flags:  []cli.Flag{dir, libvirtVersionFlag()},
				Action: func(c *cli.Context) error { return uninstallHooks(c, std) },
			},
			{
				Name: "status", Usage: "installed? in use? last run and last error",
				Flags:  []cli.Flag{dir, binary, libvirtVersionFlag(), outputFlag("text", "json")},
				Action: func(c *cli.Context) error { return hooksStatus(c, std) },
			},
			simulateCommand(std),
		},
	}
}

// hookOptions is where the hooks go: the version of libvirt decides.
func hookOptions(c *cli.Context) (hooks.Options, error) {
	o := hooks.Options{HooksDir: c.String("hooks-dir"), Binary: c.String("binary"), Store: store(c)}
	if o.Binary == "" {
		o.Binary = findHook()
	}
	if text := c.String("libvirt-version"); text != "" {
		v, err := libvirtnet.ParseVersion(text)
		if err != nil {
			return o, usage(err)
		}
		o.Libvirt = v
		return o, nil
	}
	// Hooks can be installed before libvirt runs; then it is taken to be one
	// that has directories of hooks, as all since 6.5 (2020) do.
	if conn, err := virtapi.Open(c.Context, c.String("connect")); err == nil {
		o.Libvirt = conn.Version()
		return o, conn.Close()
	}
	return o, nil
}

// findHook returns where the hook program was installed with this one.
func findHook() string {
	const name = "virt-vnet-hook"
	self, err := os.Executable()
	if err != nil {
		return name
	}
	beside := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	return filepath.Join(filepath.Dir(self), "..", "libexec", "virt-vnet", name)
}

func installHooks(c *cli.Context, std stdio) error {
	o, err := hookOptions(c)
	if err != nil {
		return err
	}
	if c.IsSet("verify-on-start") {
		on := c.Bool("verify-on-start")
		o.VerifyOnStart = &on
	}
	report, err := hooks.Install(c.Context, o)
	writeFiles(std, report)
	if err != nil {
		return err
	}
	status, err := hooks.GetStatus(o)
	if err != nil {
		return err
	}
	writeCheckStatus(std, status)
	return reloadDaemons(c, std, o, report)
}

func uninstallHooks(c *cli.Context, std stdio) error {
	o, err := hookOptions(c)
	if err != nil {
		return err
	}
	report, err := hooks.Uninstall(c.Context, o)
	writeFiles(std, report)
	if err == nil && len(report.Files) == 0 {
		fmt.Fprintln(std.out, "no hook of virt-vnet is installed")
	}
	for _, d := range report.Reload {
		fmt.Fprintf(std.out, "%s (process %d) goes on to look for the hook until it is reloaded: kill -HUP %d\n", d.Name, d.PID, d.PID)
	}
	return err
}

func writeFiles(std stdio, report hooks.Report) {
	for _, f := range report.Files {
		fmt.Fprintf(std.out, "%s: %s\n", f.Path, f.Action)
	}
}

// reloadDaemons reloads the daemons that look for hooks only then, or says that
// this is due.
func reloadDaemons(c *cli.Context, std stdio, o hooks.Options, report hooks.Report) error {
	if len(report.Reload) == 0 {
		return nil
	}
	var names []string
	for _, d := range report.Reload {
		names = append(names, fmt.Sprintf("%s (process %d)", d.Name, d.PID))
	}
	list := strings.Join(names, ", ")
	if !c.Bool("reload") {
		fmt.Fprintf(std.out, "%s started before there was any hook and does not run it yet: reload with: virt-vnet hooks install --reload\n", list)
		return nil
	}
	if err := hooks.Reload(c.Context, o, report.Reload); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "%s: reloaded\n", list)
	return nil
}

func hooksStatus(c *cli.Context, std stdio) error {
	o, err := hookOptions(c)
	if err != nil {
		return err
	}
	status, err := hooks.GetStatus(o)
	if c.String("output") == "json" {
		return errors.Join(writeJSON(std.out, status), err)
	}
	for _, h := range status.Hooks {
		writeHookStatus(std, h)
	}
	writeCheckStatus(std, status)
	if run := status.LastError; run != nil {
		fmt.Fprintf(std.out, "last error   %s: %s\n", runText(*run), run.Error)
	}
	return err
}

// writeCheckStatus says what checks guests after their start, if anything does.
func writeCheckStatus(std stdio, status hooks.Status) {
	switch {
	case !status.VerifyOnStart:
	case status.CheckUnit == "":
		fmt.Fprintf(std.out, "check after each start: systemd has no %s yet: make install puts it in place\n", hooks.CheckUnit)
	default:
		fmt.Fprintf(std.out, "check after each start: %s; see its results with: journalctl -u 'virt-vnet-verify@*'\n", status.CheckUnit)
	}
}

func writeHookStatus(std stdio, h hooks.HookStatus) {
	installed := "no: install it with: virt-vnet hooks install"
	switch {
	case h.Installed && h.Current:
		installed = "yes"
	case h.Installed:
		installed = "yes, another version than this program's: update it with: virt-vnet hooks install"
	}
	fmt.Fprintf(std.out, "%-8s hook %s\n", h.Driver, h.Path)
	fmt.Fprintf(std.out, "  installed  %s\n", installed)
	if h.Chained != "" {
		fmt.Fprintf(std.out, "  runs first %s\n", h.Chained)
	}
	if h.Installed {
		active := "no: "
		if h.Active {
			active = "yes: "
		}
		fmt.Fprintf(std.out, "  in use     %s%s\n", active, h.Evidence)
	}
	if h.LastRun != nil {
		fmt.Fprintf(std.out, "  last run   %s\n", runText(*h.LastRun))
	}
}

func runText(r state.Run) string {
	return fmt.Sprintf("%s, %s %s, %s", r.Time.Format(time.DateTime), r.Operation, r.Object, r.Duration.Round(time.Microsecond*100))
}

func simulateCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "simulate",
		Usage:     "show what a hook would do, touching nothing",
		ArgsUsage: "DRIVER OBJECT OPERATION SUB EXTRA < XML",
		Description: "Takes what libvirt would give to the hook: the arguments, and the XML on standard input.\n\n" +
			"  virsh dumpxml web1 | virt-vnet hooks simulate qemu web1 start begin -",
		Flags: []cli.Flag{outputFlag("text", "json")},
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			if len(args) < 4 || len(args) > 5 {
				return usagef("hooks simulate takes DRIVER OBJECT OPERATION SUB EXTRA, such as qemu web1 start begin -, got %q", args)
			}
			return simulate(c, std, args)
		},
	}
}

func simulate(c *cli.Context, std stdio, args []string) error {
	log, err := logger(c, std)
	if err != nil {
		return err
	}
	// The first argument of a hook is its path, which names the driver.
	argv := append([]string{filepath.Join(hooks.DefaultHooksDir, args[0])}, args[1:]...)
	event, err := hooks.ParseEvent(argv, std.in)
	if err != nil {
		return usage(err)
	}
	wirer := hooks.Wirer{Store: store(c), Open: drivers.Open, Log: log}
	plan, err := wirer.Simulate(c.Context, event)
	if plan.Guest == "" && err != nil {
		return err
	}
	if c.String("output") == "json" {
		return errors.Join(writeJSON(std.out, plan), err)
	}
	if plan.Note != "" {
		fmt.Fprintf(std.out, "guest %s, %s: %s\n", plan.Guest, plan.Operation, plan.Note)
	}
	writeGuestPlan(std, plan, true)
	return err
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// The exit codes, documented in docs/exit-codes.md.
const (
	exitOK           = 0
	exitFailed       = 1 // the command could not do its job
	exitUsage        = 2 // wrong flags or a wrong spec
	exitPending      = 3 // plan --detailed-exitcode: changes are pending
	exitCheckFailed  = 4 // verify: a check failed
	exitLeak         = 5 // verify: traffic arrived where it must not
	exitInconclusive = 6 // verify: nothing failed, but not all could be told
)

// exitError is an error with an exit code. A nil err means that all has been
// said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the user's: wrong flags or a wrong spec.
func usage(err error) error { return &exitError{exitUsage, err} }

func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...)) }

// stdio is where a command reads and writes: results to out, talk to err.
type stdio struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, std stdio, args []string) int {
	app := newApp(std)
	err := app.RunContext(ctx, flagsFirst(app, args))
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	if exit, ok := errors.AsType[*exitError](err); ok {
		err = exit.err
	}
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(std.err, "virt-vnet: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return code
}

// exitCode is that of a command that ended with err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		return exit.code
	}
	return exitFailed
}

func newApp(std stdio) *cli.App {
	return &cli.App{
		Name:            "virt-vnet",
		Usage:           "define, wire and verify the networks of libvirt guests",
		Version:         version(),
		HideHelpCommand: true,
		Suggest:         true,
		Reader:          std.in,
		Writer:          std.out,
		ErrWriter:       std.err,
		// Only main exits.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   func(_ *cli.Context, err error, _ bool) error { return usage(err) },
		Action:         noCommand,
		Flags:          globalFlags(),
		Commands: commands(std,
			defineCommand, undefineCommand, planCommand, applyCommand, repairCommand,
			listCommand, hooksCommand, verifyCommand, historyCommand, schemaCommand),
	}
}

// commands makes each command, with usage errors as ours.
func commands(std stdio, makers ...func(stdio) *cli.Command) []*cli.Command {
	var list []*cli.Command
	for _, make := range makers {
		list = append(list, withUsageErrors(make(std)))
	}
	return list
}

func withUsageErrors(c *cli.Command) *cli.Command {
	c.OnUsageError = func(ctx *cli.Context, err error, _ bool) error {
		return usagef("%w; see %s --help", err, ctx.Command.HelpName)
	}
	if c.Action == nil {
		c.Action = noCommand
	}
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		withUsageErrors(sub)
	}
	return c
}

// noCommand is what runs when no command or an unknown one was given.
func noCommand(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return usagef("there is no command %q; see %s --help", name, cmp.Or(c.Command.HelpName, c.App.Name))
	}
	return cli.ShowSubcommandHelp(c)
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "connect", Aliases: []string{"c"}, Value: "qemu:///system", EnvVars: []string{"LIBVIRT_DEFAULT_URI"}, Usage: "libvirt connection `URI`"},
		&cli.StringFlag{Name: "config", Value: config.Dir, Usage: "`DIR` of the spec"},
		&cli.StringFlag{Name: "state-dir", Value: state.DefaultStateDir, Usage: "`DIR` of the applied networks and the history"},
		&cli.StringFlag{Name: "run-dir", Value: state.DefaultRunDir, Usage: "`DIR` of the live ports"},
		&cli.StringFlag{Name: "log-level", Value: "warn", Usage: "`LEVEL` of the log on standard error: debug, info, warn or error"},
		&cli.BoolFlag{Name: "no-color", EnvVars: []string{"NO_COLOR"}, Usage: "plain output, as also without a terminal"},
	}
}

// outputFlag is -o/--output of the commands that have more than one form.
func outputFlag(forms ...string) cli.Flag {
	return &cli.StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: forms[0], Usage: "output `FORM`: " + strings.Join(forms, ", "),
		Action: func(_ *cli.Context, form string) error {
			for _, f := range forms {
				if f == form {
					return nil
				}
			}
			return usagef("there is no output form %q: want one of %s", form, strings.Join(forms, ", "))
		},
	}
}

func store(c *cli.Context) state.Store {
	return state.Store{StateDir: c.String("state-dir"), RunDir: c.String("run-dir")}
}

func logger(c *cli.Context, std stdio) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return nil, usagef("there is no log level %q: want debug, info, warn or error", c.String("log-level"))
	}
	return slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level})), nil
}

// loadSpec reads the spec that -f names, or that of the config directory.
func loadSpec(c *cli.Context) (*config.Spec, error) {
	paths := c.StringSlice("file")
	if len(paths) == 0 {
		dir := c.String("config")
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && !c.IsSet("config") {
			return &config.Spec{Topology: vnet.Topology{}}, nil
		}
		paths = []string{dir}
	}
	spec, err := config.Load(paths...)
	if err != nil {
		return nil, usage(err)
	}
	return spec, nil
}

func fileFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "file", Aliases: []string{"f"}, Usage: "read the spec from `FILE` or directory in place of the config directory"}
}

// release is set when a release is built.
var release string

// version is the release, or else what the build knows of its module.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

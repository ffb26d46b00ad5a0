// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

func verifyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "prove which guests can talk and which cannot, and name what is broken",
		ArgsUsage: "[GUEST...]",
		Description: "Looks at every running guest with a NIC in a network of the spec, and at the guests the spec lists.\n" +
			"Exit code: 0 all is well, 4 a check failed, 5 traffic arrived where it must not,\n" +
			"6 nothing failed, but not everything could be told.",
		Flags: []cli.Flag{
			fileFlag(), outputFlag("table", "json"),
			&cli.StringSliceFlag{Name: "network", Usage: "only guests of `NETWORK`"},
			&cli.BoolFlag{Name: "full", Usage: "try every pair of guests, not one of each kind"},
		},
		Action: func(c *cli.Context) error {
			return withSite(c, std, func(spec *config.Spec, s *site) error { return runVerify(c, std, spec, s) })
		},
	}
}

func runVerify(c *cli.Context, std stdio, spec *config.Spec, s *site) error {
	if len(spec.Topology.Networks) == 0 {
		return usagef("there is no network in the spec, so nothing is expected of any guest; see virt-vnet define network --help")
	}
	if !s.local {
		return usagef("verify looks at the switches of this machine, and %s is not this machine: run it there", s.conn.URI())
	}
	for _, name := range c.StringSlice("network") {
		if _, ok := spec.Topology.Network(name); !ok {
			return usagef("there is no network %s in the spec", name)
		}
	}
	if _, err := s.named(c.Context, c.Args().Slice()); err != nil {
		return err
	}
	result, err := s.verify(c, std)
	if err != nil {
		return err
	}
	if c.String("output") == "json" {
		err = report.JSON(std.out, result)
	} else {
		err = report.Table(std.out, result, report.Style{Color: useColor(c, std.out), Width: width(std.out)})
	}
	if err != nil {
		return err
	}
	return verdictError(result.Verdict())
}

func (s *site) verify(c *cli.Context, std stdio) (verify.Report, error) {
	col, err := s.collect(c.Context)
	if err != nil {
		return verify.Report{}, err
	}
	defer col.close() //nolint:errcheck // nothing was changed
	opts := verify.Options{
		Switches: col,
		Guests:   c.Args().Slice(),
		Networks: c.StringSlice("network"),
		Full:     c.Bool("full"),
		Log:      s.log,
	}
	if isTerminal(std.err) {
		opts.Progress = func(stage string) { fmt.Fprintf(std.err, "\r\x1b[K%s", stage) }
		defer fmt.Fprint(std.err, "\r\x1b[K")
	}
	return verify.Run(c.Context, col.inventory, opts)
}

// verdictError is the exit code of a verdict, without a word: the report has
// said it all.
func verdictError(v verify.Verdict) error {
	switch v {
	case verify.VerdictFail:
		return &exitError{code: exitCheckFailed}
	case verify.VerdictLeak:
		return &exitError{code: exitLeak}
	case verify.VerdictInconclusive:
		return &exitError{code: exitInconclusive}
	case verify.VerdictPass:
	}
	return nil
}

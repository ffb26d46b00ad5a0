// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/report"
)

func historyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "history",
		Usage: "list the runs of verify that are kept, show one again, or compare two",
		Description: "A RUN is the number that the list shows, last for the last one, or last~1 for the one\n" +
			"before it.",
		Flags: []cli.Flag{
			outputFlag("table", "json"),
			&cli.IntFlag{Name: "limit", Value: 20, Usage: "list the last `N` runs, or all of them (0)"},
			&cli.BoolFlag{Name: "nightly", Usage: "list nightly runs only"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return noCommand(c)
			}
			if c.Int("limit") < 0 {
				return usagef("--limit: %d: want 0 or more", c.Int("limit"))
			}
			return withHistory(c, func(s *history.Store) error { return listRuns(c, std, s) })
		},
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "print the report of a run again", ArgsUsage: "RUN",
				Flags: []cli.Flag{outputFlag(report.Formats()...)},
				Action: func(c *cli.Context) error {
					if c.NArg() != 1 {
						return usagef("history show takes one RUN: a number of virt-vnet history, last, or last~1")
					}
					return withHistory(c, func(s *history.Store) error { return showRun(c, std, s) })
				},
			},
			{
				Name: "diff", Usage: "show what is different between two runs", ArgsUsage: "RUN RUN",
				Flags: []cli.Flag{outputFlag("table", "json")},
				Action: func(c *cli.Context) error {
					if c.NArg() != 2 {
						return usagef("history diff takes two RUNs, such as last~1 last")
					}
					return withHistory(c, func(s *history.Store) error { return diffRuns(c, std, s) })
				},
			},
		},
	}
}

// withHistory opens the history for reading. A run that is not there is the
// user's mistake.
func withHistory(c *cli.Context, do func(*history.Store) error) error {
	dir := c.String("state-dir")
	s, err := history.View(c.Context, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no history in %s yet: virt-vnet verify begins one", dir)
	}
	if err != nil {
		return err
	}
	err = do(s)
	if errors.Is(err, history.ErrNoRun) {
		err = usage(err)
	}
	return errors.Join(err, s.Close())
}

func listRuns(c *cli.Context, std stdio, s *history.Store) error {
	runs, err := s.Runs(c.Context, c.Int("limit"), c.Bool("nightly"))
	if err != nil {
		return err
	}
	if c.String("output") == "json" {
		return writeJSON(std.out, append([]history.Run{}, runs...))
	}
	rows := make([][]string, len(runs))
	for i, r := range runs {
		rows[i] = []string{
			fmt.Sprint(r.ID), r.Started.Local().Format(time.DateTime), fmt.Sprintf("%.1f s", r.Duration.Seconds()),
			scopeOf(r), strings.ToUpper(string(r.Verdict)), fmt.Sprint(r.NICs), fmt.Sprint(r.Problems),
		}
	}
	return writeTable(std.out, []string{"RUN", "STARTED", "TOOK", "SCOPE", "VERDICT", "NICS", "PROBLEMS"}, rows)
}

// scopeOf says what a run looked at.
func scopeOf(r history.Run) string {
	switch {
	case r.Nightly && r.Here:
		return "night, this host"
	case r.Nightly:
		return "night"
	case r.Narrowed():
		var parts []string
		if r.Here {
			parts = append(parts, "this host")
		}
		if len(r.Guests) > 0 {
			parts = append(parts, "guests "+strings.Join(r.Guests, " "))
		}
		if len(r.Networks) > 0 {
			parts = append(parts, "networks "+strings.Join(r.Networks, " "))
		}
		return strings.Join(parts, ", ")
	}
	return "site"
}

func showRun(c *cli.Context, std stdio, s *history.Store) error {
	run, err := s.Find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	found, err := s.Report(c.Context, run.ID)
	if err != nil {
		return err
	}
	out := reports{stdoutTarget(c, std)}
	return out.write(newResult(found, nil))
}

func diffRuns(c *cli.Context, std stdio, s *history.Store) error {
	from, err := s.Find(c.Context, c.Args().Get(0))
	if err != nil {
		return err
	}
	to, err := s.Find(c.Context, c.Args().Get(1))
	if err != nil {
		return err
	}
	before, err := s.Report(c.Context, from.ID)
	if err != nil {
		return err
	}
	after, err := s.Report(c.Context, to.ID)
	if err != nil {
		return err
	}
	d := history.Diff(from, to, before, after)
	if c.String("output") == "json" {
		return writeJSON(std.out, d)
	}
	return writeDifference(std.out, d)
}

func writeDifference(w io.Writer, d history.Difference) error {
	rows := [][]string{}
	add := func(what, about, before, after string) { rows = append(rows, []string{what, about, before, after}) }
	add("verdict", "", string(d.From.Verdict), string(d.To.Verdict))
	for _, c := range d.Changes {
		about := c.Problem.Code + ": " + c.Problem.Subject
		switch c.State {
		case history.StateNew:
			add("NEW", about, "", c.Problem.Got)
		case history.StateFixed, history.StateGone:
			add(strings.ToUpper(string(c.State)), about, c.Problem.Got, "")
		case history.StateStill, history.StateFlapping:
			add("STILL", about, "", c.Problem.Got)
		}
	}
	for _, e := range d.Added {
		add("NIC added", e.String(), "", e.MAC.String())
	}
	for _, e := range d.Removed {
		add("NIC removed", e.String(), e.MAC.String(), "")
	}
	for _, c := range d.Checks {
		add("expectation", c.Name, string(c.Was), string(c.Is))
	}
	for _, l := range d.Latencies {
		add("latency", l.String(), l.Was.String(), l.Is.String())
	}
	header := []string{"WHAT", "ABOUT", fmt.Sprintf("RUN %d", d.From.ID), fmt.Sprintf("RUN %d", d.To.ID)}
	return writeTable(w, header, rows)
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/verify"
)

// What --fail-on takes.
const (
	failOnAny  = "any"
	failOnNew  = "new"
	failOnSlow = "slow"
)

func nightlyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "nightly", Usage: "look at the whole site, as every night, and say what changed since the last one"},
		&cli.StringSliceFlag{
			Name: "fail-on", DefaultText: failOnAny,
			Usage: "with --nightly, `WHAT` is a failure: any problem, only new ones (new), or also answers much slower than usual (slow)",
		},
		&cli.IntFlag{Name: "keep", Value: 90, Usage: "forget runs after `DAYS`, but never the last 14 nights"},
		&cli.StringFlag{Name: "notify-command", EnvVars: []string{"VIRT_VNET_NOTIFY_COMMAND"}, Usage: "with --nightly, run `COMMAND` when something changed"},
		&cli.StringFlag{Name: "notify-url", EnvVars: []string{"VIRT_VNET_NOTIFY_URL"}, Usage: "with --nightly, send JSON to `URL` when something changed"},
	}
}

// night is what a nightly run does beyond others. A nil night is no nightly run.
type night struct {
	failOn []string
	notify notifier
}

// newNight reads the flags. It returns nil without --nightly.
func newNight(c *cli.Context) (*night, error) {
	if c.Int("keep") < 1 {
		return nil, usagef("--keep: %d days: want at least 1", c.Int("keep"))
	}
	if !c.Bool("nightly") {
		for _, flag := range []string{"fail-on", "notify-command", "notify-url"} {
			if c.IsSet(flag) {
				return nil, usagef("--%s needs --nightly, which tells what changed", flag)
			}
		}
		return nil, nil //nolint:nilnil // documented
	}
	if c.Args().Present() || c.IsSet("network") {
		return nil, usagef("--nightly looks at the whole site, so that nights can be compared: leave out guests and --network")
	}
	n := &night{failOn: c.StringSlice("fail-on")}
	for _, what := range n.failOn {
		if !slices.Contains([]string{failOnAny, failOnNew, failOnSlow}, what) {
			return nil, usagef("--fail-on: there is no %q: want %s, %s or %s", what, failOnAny, failOnNew, failOnSlow)
		}
	}
	var err error
	n.notify, err = newNotifier(c.String("notify-command"), c.String("notify-url"))
	return n, err
}

// remember keeps the run, and returns what is known of those before, or nil. It
// may add notes to the report. That the run cannot be kept is worth a line,
// and no more.
func (s *site) remember(c *cli.Context, std stdio, report *verify.Report) *history.Past {
	scope := history.Scope{
		Nightly: c.Bool("nightly"),
		Guests:  c.Args().Slice(), Networks: c.StringSlice("network"),
		Here: c.Bool("here") && len(s.topology.Hosts) > 0,
		Keep: time.Duration(c.Int("keep")) * 24 * time.Hour,
	}
	past, err := keep(c.Context, s.store.StateDir, report, scope)
	var damaged *history.DamagedError
	if errors.As(err, &damaged) {
		aside, moved := damaged.SetAside(time.Now())
		if moved != nil {
			warn(std, "this run is not kept: %v", errors.Join(err, moved))
			return nil
		}
		if aside != "" { // else another process was faster
			warn(std, "%v; it is now %s, and a new history begins", err, aside)
		}
		past, err = keep(c.Context, s.store.StateDir, report, scope)
	}
	switch {
	case err == nil:
	case !scope.Nightly && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)):
		// Looking does not need the right to write.
		s.log.Debug("run is not kept", "err", err)
	default:
		warn(std, "this run is not kept: %v", err)
	}
	return past
}

func keep(ctx context.Context, dir string, report *verify.Report, scope history.Scope) (*history.Past, error) {
	store, err := history.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	past, err := store.Remember(ctx, report, scope)
	return past, errors.Join(err, store.Close())
}

// warn writes one line.
func warn(std stdio, format string, args ...any) {
	text := strings.Join(strings.Fields(fmt.Sprintf(format, args...)), " ")
	fmt.Fprintf(std.err, "virt-vnet: warning: %s\n", text)
}

// end tells those who want to know what changed, and returns the exit code.
func (n *night) end(c *cli.Context, std stdio, report verify.Report, past *history.Past) error {
	if n == nil {
		return verdictError(c, report.Verdict())
	}
	n.notify.tell(c.Context, std, report, past)
	return verdictError(c, n.verdict(report, past))
}

// verdict is the report's, as far as the user wants to have it.
func (n *night) verdict(report verify.Report, past *history.Past) verify.Verdict {
	v := report.Verdict()
	if past == nil {
		return v // who knows what is new
	}
	failed := v == verify.VerdictFail || v == verify.VerdictLeak
	problems, notes := n.count(report, past.Changes)
	switch {
	case failed && problems == 0 && slices.Contains(n.failOn, failOnNew):
		v = verify.VerdictPass
		if report.Untold() {
			v = verify.VerdictInconclusive
		}
		fallthrough
	case !failed:
		if notes > 0 && slices.Contains(n.failOn, failOnSlow) {
			v = verify.VerdictFail
		}
	}
	return v
}

// count counts the changes that matter to the user: those that the report has,
// that nobody waived and, with --fail-on new, that are fresh.
func (n *night) count(report verify.Report, changes []history.Change) (problems, notes int) {
	onlyNew := slices.Contains(n.failOn, failOnNew)
	for _, c := range changes {
		switch {
		case !isThere(c, report) || c.Problem.Waived != nil || onlyNew && !c.Fresh:
		case history.IsNote(c.Problem):
			notes++
		default:
			problems++
		}
	}
	return problems, notes
}

// isThere reports whether a change is of a problem that the report has.
func isThere(c history.Change, report verify.Report) bool {
	return slices.ContainsFunc(report.Problems, func(p verify.Problem) bool {
		return p.Code == c.Problem.Code && p.Subject == c.Problem.Subject
	})
}

// countChanges is "1 new, 2 still, 1 fixed".
func countChanges(changes []history.Change) string {
	var parts []string
	for _, state := range []history.State{
		history.StateNew, history.StateFlapping, history.StateStill, history.StateFixed, history.StateGone,
	} {
		n := 0
		for _, c := range changes {
			if c.State == state {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	return strings.Join(parts, ", ")
}

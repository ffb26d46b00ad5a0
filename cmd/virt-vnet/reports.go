// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

// formNagios is the form that has exit codes of its own.
const formNagios = "nagios"

// reportFlags say in which forms a report is written, and where to.
func reportFlags() []cli.Flag {
	return []cli.Flag{
		outputFlag(report.Formats()...),
		&cli.StringFlag{Name: "output-file", Usage: "write the report to `FILE`, not to standard output"},
		&cli.StringSliceFlag{Name: "write", Usage: "write the report to a file as well, `FORM=FILE`; may be given many times"},
	}
}

// reports are the places that a report goes to. They are opened before the run,
// so that no run is for nothing.
type reports []*target

// target is one of them.
type target struct {
	// flag is what the user gave for it, or empty for standard output.
	flag, form string
	to         io.Writer
	style      report.Style
	// commit makes what was written visible; discard drops it, unless commit
	// was called before.
	commit  func() error
	discard func()
}

// openReports opens what the flags name. Close them with discard.
func openReports(c *cli.Context, std stdio) (reports, error) {
	list := reports{stdoutTarget(c, std)}
	files := []string{""}
	if file := c.String("output-file"); file != "" {
		list[0], files[0] = &target{flag: "--output-file " + file, form: list[0].form}, filepath.Clean(file)
	}
	for _, word := range c.StringSlice("write") {
		form, file, _ := strings.Cut(word, "=")
		if file == "" {
			return nil, usagef("--write %s: want FORM=FILE, such as junit=report.xml", word)
		}
		if !slices.Contains(report.Formats(), form) {
			return nil, usagef("--write %s: there is no output form %q: want one of %s", word, form, strings.Join(report.Formats(), ", "))
		}
		if slices.Contains(files, filepath.Clean(file)) {
			return nil, usagef("--write %s: another report goes there", word)
		}
		list, files = append(list, &target{flag: "--write " + word, form: form}), append(files, filepath.Clean(file))
	}
	for i, t := range list {
		if files[i] == "" {
			continue
		}
		if err := t.open(files[i]); err != nil {
			list[:i].discard()
			return nil, usagef("%s: %w", t.flag, err)
		}
	}
	return list, nil
}

func stdoutTarget(c *cli.Context, std stdio) *target {
	return &target{
		form: c.String("output"), to: std.out,
		style:   report.Style{Color: useColor(c, std.out), Width: width(std.out)},
		commit:  func() error { return nil },
		discard: func() {},
	}
}

// open prepares a file that appears, or is replaced, as a whole when commit is
// called: readers such as node_exporter never see a part of it. What is no
// regular file, such as a pipe, is written as it is.
func (t *target) open(file string) error {
	t.style.Width = width(nil)
	info, err := os.Lstat(file)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return reason(err)
		}
		t.to, t.commit, t.discard = f, f.Close, func() { _ = f.Close() }
		return nil
	}
	f, err := renameio.NewPendingFile(file, renameio.WithTempDir(filepath.Dir(file)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return reason(err)
	}
	t.to, t.commit, t.discard = f, f.CloseAtomicallyReplace, func() { _ = f.Cleanup() }
	return nil
}

// reason is an error about a file without the file's name.
func reason(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// write writes the result everywhere, also after a place that failed.
func (r reports) write(result report.Result) error {
	var errs []error
	for _, t := range r {
		err := report.Write(t.form, t.to, result, t.style)
		if err == nil {
			err = t.commit()
		}
		if err != nil && t.flag != "" {
			err = fmt.Errorf("%s: %w", t.flag, err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// discard removes what was not written.
func (r reports) discard() {
	for _, t := range r {
		t.discard()
	}
}

// newResult is a report of this program on this machine, and what is known of
// the runs before, or nil.
func newResult(r verify.Report, past *history.Past) report.Result {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return report.Result{Report: r, Past: past, Host: host, Program: "virt-vnet " + version()}
}

// verdictError is the exit code of a verdict, without a word: the report has
// said it all.
func verdictError(c *cli.Context, v verify.Verdict) error {
	if c.String("output") == formNagios {
		return exitWith(int(report.NagiosStateOf(v)))
	}
	switch v {
	case verify.VerdictFail:
		return exitWith(exitCheckFailed)
	case verify.VerdictLeak:
		return exitWith(exitLeak)
	case verify.VerdictInconclusive:
		return exitWith(exitInconclusive)
	case verify.VerdictPass:
	}
	return nil
}

func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// asPlugin makes of an error what a monitoring system understands, when the
// form is its: a line and the code of UNKNOWN.
func asPlugin(c *cli.Context, std stdio, err error) error {
	if err == nil || c.String("output") != formNagios {
		return err
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return err
	}
	said := report.NagiosLine(std.out, report.NagiosUnknown, err.Error())
	return &exitError{code: int(report.NagiosUnknown), err: said}
}

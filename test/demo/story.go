// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"
)

// story is what the reader sees.
type story struct {
	out      io.Writer
	terminal bool
	width    int
	lan      string // the device of db1 in the network lan
}

func newStory() *story {
	s := &story{out: os.Stdout, terminal: term.IsTerminal(int(os.Stdout.Fd())), width: 100}
	if columns, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		s.width = columns
	}
	return s
}

// style wraps text in an SGR sequence, on a terminal.
func (s *story) style(sgr, text string) string {
	if !s.terminal || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// say prints a heading and what there is to say under it.
func (s *story) say(heading string, lines ...string) {
	fmt.Fprintf(s.out, "\n%s\n", s.style("1;36", heading))
	for _, line := range lines {
		fmt.Fprintf(s.out, "%s\n", line)
	}
}

// quote prints a file.
func (s *story) quote(text string) {
	fmt.Fprintln(s.out)
	for line := range strings.Lines(text) {
		fmt.Fprintf(s.out, "    %s", line)
	}
}

// wait says what the reader waits for, until done is called.
func (s *story) wait(what string) (done func()) {
	begun := time.Now()
	if !s.terminal {
		fmt.Fprintf(s.out, "\n... %s\n", what)
		return func() { fmt.Fprintf(s.out, "    (%.1f s)\n", time.Since(begun).Seconds()) }
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	fmt.Fprintln(s.out)
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for i := 0; ; i++ {
			fmt.Fprintf(s.out, "\r\x1b[K%c %s (%.0f s)", []rune("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")[i%10], what, time.Since(begun).Seconds())
			select {
			case <-stop:
				fmt.Fprintf(s.out, "\r\x1b[K%s (%.1f s)\n", what, time.Since(begun).Seconds())
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// run returns a step that runs a command as the reader would type it, and fails
// when its exit code is not the expected one.
func (s *story) run(ctx context.Context, want int, name string, args ...string) func() error {
	return func() error {
		fmt.Fprintf(s.out, "\n%s %s\n", s.style("2", "#"), s.style("1", strings.Join(append([]string{name}, args...), " ")))
		cmd := exec.CommandContext(ctx, program(name), args...)
		cmd.Stdout, cmd.Stderr = s.out, s.out
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		if got := cmd.ProcessState.ExitCode(); got != want {
			return fmt.Errorf("%s: exit code %d, the story wants %d", name, got, want)
		}
		if want != 0 {
			fmt.Fprintln(s.out, s.style("2", fmt.Sprintf("(exit code %d)", want)))
		}
		return nil
	}
}

// all runs steps until one fails.
func (s *story) all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// program finds our own programs in bin, where make build puts them.
func program(name string) string {
	if built := filepath.Join("bin", name); strings.HasPrefix(name, "virt-vnet") {
		if path, err := filepath.Abs(built); err == nil {
			return path
		}
	}
	return name
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kballard/go-shellquote"

	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
)

// notifyVersion is the version of what is sent to a URL.
const notifyVersion = 1

// linesTold bounds how many changes are told in words.
const linesTold = 50

// The environment of a notify command, documented in docs/nightly.md.
const (
	envHost    = "VIRT_VNET_HOST"
	envVerdict = "VIRT_VNET_VERDICT"
	envText    = "VIRT_VNET_TEXT"
	envChanges = "VIRT_VNET_CHANGES"
)

// notifier tells somebody of changes. The zero notifier tells nobody.
type notifier struct {
	command []string
	url     *url.URL
	// limit bounds the command and each try to send; pauses are those between
	// the tries.
	limit, commandLimit time.Duration
	pauses              []time.Duration
}

func newNotifier(command, target string) (notifier, error) {
	n := notifier{
		limit: 10 * time.Second, commandLimit: time.Minute,
		pauses: []time.Duration{time.Second, 3 * time.Second},
	}
	var err error
	if n.command, err = shellquote.Split(command); err != nil {
		return n, usagef("--notify-command: %w", err)
	}
	if target == "" {
		return n, nil
	}
	// The URL is a secret: no error has it.
	n.url, err = url.Parse(target)
	if err != nil || n.url.Host == "" || n.url.Scheme != "http" && n.url.Scheme != "https" {
		return n, usagef("--notify-url: want a URL such as https://chat.example.com/hook")
	}
	return n, nil
}

// message is what is told. Its JSON form is sent to the URL.
type message struct {
	Version int            `json:"version"`
	Host    string         `json:"host"`
	Time    time.Time      `json:"time"`
	Verdict verify.Verdict `json:"verdict"`
	// Text is the changes in words, the first line a summary.
	Text    string           `json:"text"`
	Changes []history.Change `json:"changes"`
}

// newMessage returns whether there is something to tell, and what. Without a
// past nobody can say what changed, so then every failure is told.
func newMessage(r verify.Report, past *history.Past) (message, bool) {
	m := message{Version: notifyVersion, Time: r.Started, Verdict: r.Verdict(), Changes: []history.Change{}}
	m.Host, _ = os.Hostname()
	head := fmt.Sprintf("virt-vnet on %s: %s", m.Host, strings.ToUpper(string(m.Verdict)))
	if past == nil {
		m.Text = fmt.Sprintf("%s: %d problems; without a history nobody knows whether they are new", head, len(r.Problems))
		return m, m.Verdict == verify.VerdictFail || m.Verdict == verify.VerdictLeak
	}
	for _, c := range past.Changes {
		if c.Fresh && c.Problem.Waived == nil && !history.IsNote(c.Problem) {
			m.Changes = append(m.Changes, c)
		}
	}
	m.Text = head + ": " + countChanges(m.Changes)
	if lines := m.lines(); lines != "" {
		m.Text += "\n" + lines
	}
	return m, len(m.Changes) > 0
}

// lines has a line for each change.
func (m message) lines() string {
	var lines []string
	for _, c := range m.Changes[:min(len(m.Changes), linesTold)] {
		line := fmt.Sprintf("%s %s %s", strings.ToUpper(string(c.State)), c.Problem.Code, c.Problem.Subject)
		if c.Problem.Got != "" && c.State != history.StateFixed && c.State != history.StateGone {
			line += ": " + c.Problem.Got
		}
		lines = append(lines, line)
	}
	if more := len(m.Changes) - linesTold; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// tell tells of fresh changes. That it cannot is worth a line, and no more.
func (n notifier) tell(ctx context.Context, std stdio, r verify.Report, past *history.Past) {
	m, worth := newMessage(r, past)
	if !worth {
		return
	}
	if len(n.command) > 0 {
		if err := n.run(ctx, m, newResult(r, past)); err != nil {
			warn(std, "--notify-command: %v", err)
		}
	}
	if n.url != nil {
		if err := n.send(ctx, m); err != nil {
			warn(std, "--notify-url %s: %v", redacted(n.url), err)
		}
	}
}

// run runs the command with the report on its standard input.
func (n notifier) run(ctx context.Context, m message, r report.Result) error {
	var input, output bytes.Buffer
	if err := report.JSON(&input, r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, n.command[0], n.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &input, &output, &output
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "VIRT_VNET_") }),
		envHost+"="+m.Host, envVerdict+"="+string(m.Verdict), envText+"="+m.Text, envChanges+"="+m.lines())
	// With all that it starts.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s has not ended in %v", n.command[0], n.commandLimit)
	case err == nil:
		return nil
	}
	first, _, _ := strings.Cut(strings.TrimSpace(output.String()), "\n")
	return fmt.Errorf("%s: %w: %s", n.command[0], err, first)
}

// send posts the message, and tries again when that may help.
func (n notifier) send(ctx context.Context, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		again, err := n.post(ctx, body)
		if err == nil || !again || try == len(n.pauses) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(n.pauses[try]):
		}
	}
}

// post sends the message once, and reports whether another try may help.
func (n notifier) post(ctx context.Context, body []byte) (again bool, err error) {
	client := http.Client{
		Timeout: n.limit,
		// Elsewhere nobody is to learn where we came from.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url.String(), bytes.NewReader(body))
	if err != nil {
		return false, errors.New("this is no URL to send to")
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "virt-vnet")
	response, err := client.Do(request)
	if err != nil {
		var e *url.Error // which names the URL
		if errors.As(err, &e) {
			err = e.Err
		}
		return true, err
	}
	_ = response.Body.Close() // nothing in it matters
	if response.StatusCode < http.StatusMultipleChoices {
		return false, nil
	}
	again = response.StatusCode >= http.StatusInternalServerError || response.StatusCode == http.StatusTooManyRequests
	return again, fmt.Errorf("the server answers %s", response.Status)
}

// redacted is a URL without what may be secret in it: everything but the host.
func redacted(u *url.URL) string { return u.Scheme + "://" + u.Host + "/..." }

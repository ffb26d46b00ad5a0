// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// GuestPing is a ping that runs inside a guest until [Lab.StopPing].
type GuestPing struct {
	guest, file string
	pid         int // in the guest
	every       time.Duration
}

// PingLoss says how a ping went.
type PingLoss struct {
	Sent       int
	Lost       int           // of Sent
	Duplicates int           // answers to what was answered already
	Gap        time.Duration // the longest time without an answer: that many in a row were lost
}

// String implements fmt.Stringer.
func (p PingLoss) String() string {
	return fmt.Sprintf("%d sent, %d lost, %d duplicates, longest gap %v", p.Sent, p.Lost, p.Duplicates, p.Gap)
}

// StartPing lets a guest ping an address, with a pause of every between two
// requests. Any number of pings to different addresses run side by side, and
// beside [Lab.Exec].
func (l *Lab) StartPing(ctx context.Context, guest string, to netip.Addr, every time.Duration) (*GuestPing, error) {
	p := &GuestPing{guest: guest, file: "/tmp/ping-" + to.String(), every: every}
	out, err := l.Exec(ctx, guest, fmt.Sprintf("ping -i %g %s >%s 2>&1 & echo $!", every.Seconds(), to, p.file))
	if err != nil {
		return nil, err
	}
	if p.pid, err = strconv.Atoi(out); err != nil {
		return nil, fmt.Errorf("lab: guest %s: start ping: %w", guest, err)
	}
	return p, nil
}

// StopPing ends the ping and returns how it went. l is where the guest is by
// now.
func (l *Lab) StopPing(ctx context.Context, p *GuestPing) (PingLoss, error) {
	out, err := l.Exec(ctx, p.guest, fmt.Sprintf(
		"kill -INT %d; until grep -q transmitted %s; do usleep 50000; done; cat %s", p.pid, p.file, p.file))
	if err != nil {
		return PingLoss{}, err
	}
	loss, err := parsePing(out, p.every)
	if err != nil {
		return PingLoss{}, fmt.Errorf("lab: guest %s: %w", p.guest, err)
	}
	return loss, nil
}

// parsePing reads the output of busybox's ping. The last request is left out
// when it has no answer: ping did not wait for one.
func parsePing(out string, every time.Duration) (PingLoss, error) {
	_, summary, _ := strings.Cut(out, "statistics ---\n")
	var loss PingLoss
	if _, err := fmt.Sscanf(summary, "%d packets transmitted", &loss.Sent); err != nil {
		return PingLoss{}, fmt.Errorf("ping's output: %w: %q", err, out)
	}
	answers := make([]int, loss.Sent)
	for line := range strings.Lines(out) {
		_, rest, found := strings.Cut(line, " seq=")
		word, _, _ := strings.Cut(rest, " ")
		if n, err := strconv.Atoi(word); found && err == nil && n >= 0 && n < len(answers) {
			answers[n]++
		}
	}
	if last := len(answers) - 1; last >= 0 && answers[last] == 0 {
		answers, loss.Sent = answers[:last], last
	}
	inARow := 0
	for _, n := range answers {
		inARow++
		if n > 0 {
			inARow, loss.Duplicates = 0, loss.Duplicates+n-1
			continue
		}
		loss.Lost, loss.Gap = loss.Lost+1, max(loss.Gap, time.Duration(inARow)*every)
	}
	return loss, nil
}

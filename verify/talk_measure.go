// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"context"
	"math"
	"slices"
	"time"
)

const (
	// fewEchoes are enough for a median.
	fewEchoes = 20
	// echoesPerLimit is how many echoes may be lost below a limit of loss: one
	// lost of a hundred says nothing about one in a hundred.
	echoesPerLimit = 3
	// echoPace is the time between two echoes of one guest, and pace between
	// any two: slow enough that none waits for another.
	echoPace = 5 * time.Millisecond
	pace     = 250 * time.Microsecond
	// lastEcho is how long the last answer may take.
	lastEcho = time.Second
)

// echoCount is how many are needed to tell a loss below the limit.
func echoCount(limit float64) int {
	if limit == 0 {
		return fewEchoes
	}
	return max(fewEchoes, int(math.Ceil(echoesPerLimit/limit)))
}

// measure sends echoes at a pace, for the talks that want it and are answered at
// all: once, and once more for those that were too slow or lossy, since a host
// may be busy for a moment.
func (c *conversation) measure(ctx context.Context) error {
	for range 2 {
		var talks []*talk
		for _, t := range c.talks {
			if t.measured() && t.echoed && !t.within() {
				talks = append(talks, t)
			}
		}
		if len(talks) == 0 {
			return nil
		}
		if err := c.measureOnce(ctx, talks); err != nil {
			return err
		}
	}
	return nil
}

func (c *conversation) measureOnce(ctx context.Context, talks []*talk) error {
	most := 0
	for _, t := range talks {
		t.sent, t.received = map[int]time.Time{}, map[int]time.Time{}
		most = max(most, echoCount(t.loss))
	}
	always := func() bool { return true }
	gap := max(echoPace, pace*time.Duration(len(talks)))
	next := time.Now()
	for i := range most {
		for _, t := range talks {
			if i >= echoCount(t.loss) {
				continue
			}
			l := letter{src: t.from.Want.MAC, dst: t.hop.mac, from: t.source, to: t.addr}
			data, err := l.echo(c.token(t, firstFrame+1+i))
			if err != nil {
				return err
			}
			if err := c.sender.send([]packet{c.injector.packet(t.from.link, data)}); err != nil {
				return err
			}
		}
		next = next.Add(gap)
		if err := c.listen(ctx, next, always); err != nil {
			return err
		}
	}
	return c.listen(ctx, time.Now().Add(lastEcho), func() bool {
		return slices.ContainsFunc(talks, func(t *talk) bool { return len(t.received) < echoCount(t.loss) })
	})
}

// measured reports whether the talk is about how well it is answered.
func (t *talk) measured() bool { return t.latency != 0 || t.loss != 0 }

// within reports whether what was measured keeps to the limits.
func (t *talk) within() bool {
	l := t.result()
	return l.Sent > 0 && (t.latency == 0 || l.Median < t.latency && l.Received > 0) && (t.loss == 0 || t.lost(l) < t.loss)
}

// lost is the part of the echoes that was not answered.
func (t *talk) lost(l Latency) float64 { return float64(l.Sent-l.Received) / float64(l.Sent) }

// result sums up the echoes that entered the switch. Their times are the
// kernel's, between the frame and its answer at the guest's port.
func (t *talk) result() Latency {
	out := Latency{Sent: len(t.sent)}
	var times []time.Duration
	for i, sent := range t.sent {
		if received, ok := t.received[i]; ok {
			times = append(times, received.Sub(sent))
		}
	}
	slices.Sort(times)
	if out.Received = len(times); len(times) > 0 {
		out.Median, out.Worst = times[len(times)/2], times[len(times)-1]
	}
	return out
}

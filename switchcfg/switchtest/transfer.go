// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package switchtest

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

const (
	// transferTime is long against the burst of a limit.
	transferTime = 4 * time.Second
	answerLimit  = 5 * time.Second
)

// Limited checks that a transfer gets the rate, in bits per second, within 15 %,
// and returns what it got. A machine that is busy makes one slower, so the best of
// three counts; nothing makes one faster than its limit.
func Limited(t *testing.T, what string, from, to *lab.Station, rate float64) float64 {
	t.Helper()
	const tries, tolerance = 3, 0.15
	got := 0.0
	for range tries {
		if got = max(got, Transfer(t, from, to)); got >= (1-tolerance)*rate {
			break
		}
	}
	if got < (1-tolerance)*rate || got > (1+tolerance)*rate {
		t.Errorf("%s %.0f Mbit/s: a transfer gets %.2f", what, rate/1e6, got/1e6)
	}
	return got
}

// Transfer sends over TCP for a while, and returns the bits per second that
// arrived after the burst was used up.
func Transfer(t *testing.T, from, to *lab.Station) float64 {
	t.Helper()
	var listener net.Listener
	err := to.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "0.0.0.0:5001")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // the transfer is over
	var out net.Conn
	err = from.Do(func() (err error) {
		out, err = (&net.Dialer{Timeout: answerLimit}).DialContext(t.Context(), "tcp4", to.Addresses[0].Addr().String()+":5001")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() //nolint:errcheck // the transfer is over
	in, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // the transfer is over
	go func() {
		for buf := make([]byte, 64<<10); ; {
			if _, err := out.Write(buf); err != nil {
				return // the other end is closed
			}
		}
	}()
	read := func(d time.Duration) int64 {
		if err := in.SetReadDeadline(time.Now().Add(d)); err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, in)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatal(err)
		}
		return n
	}
	read(time.Second)
	began := time.Now()
	return float64(read(transferTime)*8) / time.Since(began).Seconds()
}

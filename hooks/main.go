// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/state"
)

// DefaultLimit is how long one call may take. Libvirt itself has no limit: it
// waits, and so does everybody who starts or lists guests.
const DefaultLimit = 10 * time.Second

// undoReserve is the end of the limit that is kept for undoing.
const undoReserve = 2 * time.Second

// Env is the process around [Main].
type Env struct {
	Args []string // the program's name first
	// Stdin is read to its end.
	Stdin io.Reader
	// Stdout is for a script that we are chained before; Main itself never
	// writes to it, because libvirt takes what is there as the guest's new XML.
	Stdout io.Writer
	// Stderr gets the one line that libvirt shows to who starts the guest.
	Stderr io.Writer
	Now    func() time.Time
	// Log gets everything else. Nil discards it.
	Log *slog.Logger
	// Limit bounds the work; zero means [DefaultLimit].
	Limit time.Duration
	// Record keeps the run for status. Nil keeps nothing.
	Record func(state.Run) error
}

// Main handles one call by libvirt and returns the exit code of the process:
// zero, but for an operation that is to be refused (see [Operations]) or a
// chained script that failed. It does not end before what it began is done or
// the limit is over, does not panic, and leaves no process behind.
func Main(ctx context.Context, env Env, h Handler) (exitCode int) {
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if env.Limit == 0 {
		env.Limit = DefaultLimit
	}
	ev, err := ParseEvent(env.Args, env.Stdin)
	if ev.Driver == "" {
		// Not libvirt, then, or a newer one: no reason to stop a guest.
		env.Log.Warn("not called as a hook", "error", err)
		env.say(err)
		return 0
	}
	chained, errChain := runChained(ctx, env, ev)
	if errChain != nil {
		env.Log.Error("chained hook", "error", errChain)
		env.say(errChain)
	}
	// Libvirt must be able to write all it has, or it reports a broken pipe
	// rather than what we say.
	_, _ = io.Copy(io.Discard, env.Stdin)
	return max(chained, env.handle(ctx, h, ev, err))
}

// handle does the operation and tells of its outcome. err is what is wrong with
// the payload.
func (env Env) handle(ctx context.Context, h Handler, ev Event, err error) (exitCode int) {
	began := env.Now()
	op := operation(ev)
	if err == nil {
		err = env.guard(ctx, func(ctx context.Context) error { return op.run(ctx, h, ev) })
	} else if !op.needsPayload() {
		err = nil // nothing of it is needed
	}
	run := state.Run{Time: began, Driver: ev.Driver, Object: ev.Object, Operation: ev.Operation, Result: state.ResultOK}
	if err != nil {
		run.Result, run.Error = state.ResultWarned, oneLine(err)
		warning := new(Warning)
		if op.OnFailure == Refuse && !errors.As(err, &warning) {
			run.Result, exitCode = state.ResultRefused, 1
			env.say(fmt.Errorf("refused %s: %w", what(ev), err))
		}
	}
	run.Duration = env.Now().Sub(began)
	if env.Record != nil {
		if err := env.Record(run); err != nil {
			env.Log.Warn("the run is not recorded", "error", err)
		}
	}
	env.report(run)
	return exitCode
}

func (env Env) report(run state.Run) {
	log := env.Log.With("driver", run.Driver, "object", run.Object, "op", run.Operation, "duration", run.Duration)
	switch run.Result {
	case state.ResultOK:
		log.Debug("hook done")
	case state.ResultWarned:
		log.Warn("hook failed", "error", run.Error)
	default:
		log.Error("hook refused", "error", run.Error)
	}
}

// guard calls f, within the limit whatever f does, and turns its panic into an
// error.
func (env Env) guard(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(env.Limit-undoReserve, env.Limit/2))
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				env.Log.Error("panic", "value", p, "stack", string(debug.Stack()))
				done <- fmt.Errorf("bug in virt-vnet: panic: %v; please report it with the log", p)
			}
		}()
		done <- f(ctx)
	}()
	timer := time.NewTimer(env.Limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("not done after %v: %w", env.Limit, context.DeadlineExceeded)
	}
}

// say writes err on one line to stderr.
func (env Env) say(err error) {
	_, _ = fmt.Fprintln(env.Stderr, "virt-vnet: "+oneLine(err))
}

// oneLine is the text of err, of which libvirt shows the first line only.
func oneLine(err error) string {
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

// what names that which libvirt was about to do.
func what(ev Event) string {
	if ev.Driver == "network" {
		return "to plug a guest into network " + ev.Object
	}
	return "to start guest " + ev.Object
}

// Warning is a failure that the policy of the networks concerned lets pass.
type Warning struct{ Err error }

// Error returns the text of the failure.
func (w *Warning) Error() string { return w.Err.Error() }

// Unwrap returns the failure.
func (w *Warning) Unwrap() error { return w.Err }

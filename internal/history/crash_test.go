// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/verify"
)

// crashEnv names the directory for the process that is to be killed.
const crashEnv = "VIRT_VNET_HISTORY_CRASH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		if err := writeForEver(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	m.Run()
}

// writeForEver says on standard output how many runs it has kept.
func writeForEver(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, dir)
	for i := 1; err == nil; i++ {
		r := report(i, map[verify.Endpoint]rune{web1: '+', web2: '-'})
		if _, err = s.Remember(ctx, &r, nightly); err == nil {
			fmt.Println(i) //nolint:forbidigo // it is the program's result
		}
	}
	return err
}

// TestCrash kills a writer again and again: what it had said to be kept is, and
// the file is whole.
func TestCrash(t *testing.T) {
	dir, kept := t.TempDir(), 0
	for i := range 8 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		// However slow the machine is, it is killed in the middle of its work.
		lines := bufio.NewScanner(out)
		if lines.Scan() {
			kept++
		}
		timer := time.AfterFunc(time.Duration(5+7*i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines.Scan() {
			kept++
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("the writer was not killed: %v", err)
		}
		timer.Stop()
		s, err := Open(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		last, err := s.Find(t.Context(), "last")
		if err = errors.Join(err, s.Close()); err != nil && kept > 0 {
			t.Fatal(err)
		}
		// The last one may have been kept and not been said.
		if int(last.ID) < kept || int(last.ID) > kept+1 {
			t.Errorf("run %d is the last, %d were kept", last.ID, kept)
		}
		kept = int(last.ID)
	}
	if kept < 8 {
		t.Errorf("only %d runs in all: this proves nothing", kept)
	}
}

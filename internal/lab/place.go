// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// place is a set of namespaces inside the lab's own: the network, the files and
// the name of one host of a [Cluster]. Processes are the whole lab's. A nil
// *place is the lab itself.
type place struct {
	keeper *exec.Cmd // the process that the namespaces were made for
	spaces []*os.File
}

// keeperReady is what a keeper prints when its namespaces are furnished.
const keeperReady = "ready"

// newPlace makes and furnishes namespaces.
func newPlace(ctx context.Context) (*place, error) {
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it outlives the call
	cmd.Args, cmd.Env, cmd.Stderr = os.Args, withStage(keeperStage()), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setpgid:    true,
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("new namespaces: %w", err)
	}
	p := &place{keeper: cmd}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != keeperReady+"\n" {
		return nil, errors.Join(fmt.Errorf("furnish namespaces: it says %q", line), err, ctx.Err(), p.close())
	}
	for _, name := range []string{"net", "uts", "ipc", "mnt"} { // mnt last: /proc may differ there
		f, err := os.Open(p.proc("ns/" + name))
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.spaces = append(p.spaces, f)
	}
	return p, nil
}

// proc returns a path below the keeper's directory in /proc.
func (p *place) proc(name string) string {
	return "/proc/" + strconv.Itoa(p.keeper.Process.Pid) + "/" + name
}

// do calls f on a thread that is in the place. f must not start goroutines that
// should be there too, and begins in the root directory.
func (p *place) do(f func() error) error {
	if p == nil {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// What this thread is in shows as what the process is in.
			defer runtime.UnlockOSThread()
			result <- p.do(f)
			return
		}
		// Not unlocked: the thread ends with this goroutine, and so is never used
		// for anything else.
		if err := p.enter(); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

// thread calls f on a thread whose network namespace f may change.
func (p *place) thread(f func() error) error {
	if p == nil {
		return onThread(f)
	}
	return p.do(f)
}

func (p *place) enter() error {
	// A thread that shares its root directory with others cannot change it.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("lab: part from the other threads: %w", err)
	}
	for _, f := range p.spaces {
		if err := unix.Setns(int(f.Fd()), 0); err != nil {
			return fmt.Errorf("lab: enter %s: %w", f.Name(), err)
		}
	}
	return nil
}

// close ends the keeper. The namespaces end with the last process in them.
func (p *place) close() error {
	if p == nil {
		return nil
	}
	_ = p.keeper.Process.Kill() // it may have ended already
	_ = p.keeper.Wait()         // killed
	var errs []error
	for _, f := range p.spaces {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func keeperStage() string { return "keeper of " + payloadStage() }

// runKeeper is the life of a keeper: furnish the namespaces and stay.
func runKeeper() int {
	if err := furnishPlace(); err != nil {
		_, _ = io.WriteString(os.Stdout, strings.ReplaceAll(err.Error(), "\n", "; ")+"\n")
		return setupFailed
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, passedOn()...)
	_, _ = io.WriteString(os.Stdout, keeperReady+"\n")
	<-signals
	return 0
}

// furnishPlace makes a host as fresh as the lab was at first.
func furnishPlace() error {
	boot, err := unix.OpenTree(unix.AT_FDCWD, bootDir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("find %s: %w", bootDir, err)
	}
	// Not on top of the lab's own: overlays do not stack high.
	for _, dir := range overlaid() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	for _, step := range []func() error{mountFiles, mountDev, mountKernel, writeConfig, loopbackUp, watchTaps} {
		if err := step(); err != nil {
			return err
		}
	}
	// Guests keep the path of their kernel when they move to another host.
	if err := unix.MoveMount(boot, "", unix.AT_FDCWD, bootDir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", bootDir, err)
	}
	return unix.Close(boot)
}

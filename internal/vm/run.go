// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package vm

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

const (
	// testLimit bounds each test binary: some four times what the slowest takes
	// on a busy machine.
	testLimit = 4 * time.Minute

	// bootLimit is what booting and the rest may take.
	bootLimit = time.Minute
)

// ErrFailed says that the virtual machine ran and that not every program in it
// succeeded, or that it ended before that was known.
var ErrFailed = errors.New("tests failed inside the virtual machine")

//go:embed files/init.sh
var initScript string

//go:embed files/tests.sh
var testsScript string

// modules are what the lab and the switch drivers need of the kernel. Nothing
// loads a module on demand there, so those are here too which nftables, tc and
// other modules (crc32c_generic) ask for by name.
func modules() []string {
	return []string{
		"overlay", "bridge", "8021q", "veth", "tun", "dummy", "bonding", "macvlan", "macvtap",
		"crc32c_generic", "nf_tables", "nft_meta_bridge", "nft_limit", "br_netfilter",
		"sch_tbf", "sch_ingress", "sch_prio", "sch_htb", "cls_matchall", "cls_u32", "act_police",
	}
}

// programs are what the tests find there beside busybox.
func programs() []string { return []string{"ip", "bridge", "tc", "nft"} }

// Inside reports whether this process runs inside the virtual machine. There, a
// test which finds that the kernel lacks something should fail.
func Inside() bool { return os.Getenv("VIRT_VNET_VM") == "1" }

// Build compiles the tests of a package, named as for the go tool, to a static
// binary at path. The error holds the compiler's words.
func Build(ctx context.Context, pkg, path string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("vm: build the tests of %s: %w: %s", pkg, err, out)
	}
	return nil
}

// Run boots a virtual machine that runs the test binaries, static programs, one
// after the other and powers off. It returns what its console showed. Its files
// go to the directory dir, which is the caller's to remove. The end of ctx is
// the end of QEMU.
//
// The error is [ErrFailed] unless every program succeeded, and that of ctx when
// it has ended.
func Run(ctx context.Context, dir string, binaries ...string) (console string, err error) {
	ctx, cancel := context.WithTimeout(ctx, bootLimit+time.Duration(len(binaries))*testLimit)
	defer cancel()
	files, err := userspace(ctx, binaries)
	if err != nil {
		return "", fmt.Errorf("vm: %w", err)
	}
	return machine{
		script:  testsScript,
		modules: modules(),
		files:   files,
		words:   []string{"TIMEOUT=" + testLimit.String()},
		options: []string{"-accel", "tcg", "-smp", "1", "-m", "512"},
	}.run(ctx, dir)
}

// userspace collects the files of the virtual machine.
func userspace(ctx context.Context, binaries []string) ([]lab.File, error) {
	paths := map[string]string{} // from the name inside to the path here
	for _, path := range binaries {
		paths["tests/"+filepath.Base(path)] = path
	}
	for _, name := range programs() {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		paths["sbin/"+name] = path
		libraries, err := sharedLibraries(ctx, path)
		if err != nil {
			return nil, err
		}
		for _, path := range libraries {
			paths[strings.TrimPrefix(path, "/")] = path
		}
	}
	var files []lab.File
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files = append(files, lab.File{Name: name, Mode: 0o755, Data: data})
	}
	return files, nil
}

// sharedLibraries lists the paths of what a program is linked with, the loader
// too.
func sharedLibraries(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	var paths []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			paths = append(paths, word)
		}
	}
	return paths, nil
}

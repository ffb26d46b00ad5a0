// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package archtest_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/virt-vnet/virt-vnet"

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	Standard   bool
	Imports    []string
	Deps       []string
	GoFiles    []string
}

// list runs go list on the module's packages.
func list(t *testing.T, env ...string) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json", "-tags", "libvirt_dlopen", module+"/...")
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	packages := map[string]pkg{}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")] = p
	}
	return packages
}

// TestImportsPointOneWay holds the layers of the design. A package that is
// named here may directly import, of this module, the listed ones only.
func TestImportsPointOneWay(t *testing.T) {
	allowed := map[string][]string{
		"vnet":                     {},
		"libvirtnet":               {"vnet"},
		"libvirtnet/virtapi":       {"vnet", "libvirtnet"},
		"switchcfg":                {"vnet"},
		"switchcfg/linux":          {"vnet", "switchcfg", "switchcfg/internal/guard", "switchcfg/internal/rtnl", "switchcfg/internal/vantage"},
		"switchcfg/linux/hostside": {"vnet"},
		"switchcfg/internal/guard": {"vnet", "switchcfg", "switchcfg/internal/nlconn", "switchcfg/internal/rtnl"},
		"switchcfg/firewall":       {"vnet"},
		"switchcfg/internal/rtnl":  {"switchcfg", "switchcfg/internal/nlconn"},
		"switchcfg/internal/ovsdb": {"vnet", "switchcfg"},
		"switchcfg/ovs":            {"vnet", "switchcfg", "switchcfg/internal/ovsdb", "switchcfg/internal/rtnl", "switchcfg/internal/vantage"},
		"switchcfg/ovn":            {"vnet", "switchcfg", "switchcfg/internal/ovsdb", "switchcfg/internal/rtnl", "switchcfg/internal/vantage"},
		"switchcfg/drivers":        {"vnet", "switchcfg", "switchcfg/linux", "switchcfg/ovs", "switchcfg/ovn"},
		"hooks":                    {"vnet", "libvirtnet", "switchcfg", "internal/state"},
		"verify":                   {"vnet"},
		"internal/bundle":          {"libvirtnet"},
		"internal/config":          {"vnet"},
		"internal/state":           {"vnet", "switchcfg"},
		"internal/history":         {"vnet", "verify"},
		"internal/report":          {"vnet", "verify", "internal/history"},
	}
	packages := list(t)
	for name, may := range allowed {
		p, ok := packages[name]
		if !ok {
			t.Errorf("there is no package %s", name)
			continue
		}
		for _, path := range p.Imports {
			ours, isOurs := strings.CutPrefix(path, module+"/")
			if isOurs && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s; it may import %v", name, ours, may)
			}
		}
	}
}

// TestModelIsStandardLibraryOnly keeps the model free to be imported anywhere.
func TestModelIsStandardLibraryOnly(t *testing.T) {
	for _, path := range list(t)["vnet"].Deps {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			t.Errorf("vnet reaches %s", path)
		}
	}
}

// TestNothingUnwantedIsReached holds what packages must not even reach through
// others, with the reason.
func TestNothingUnwantedIsReached(t *testing.T) {
	tests := []struct{ from, to, why string }{
		{"hooks", module + "/libvirtnet/virtapi", "a hook that calls libvirt deadlocks with the daemon that runs it"},
		{"cmd/virt-vnet-hook", "libvirt.org/go/libvirt", "it loads 60 libraries at every start of a guest"},
		{"cmd/virt-vnet-hook", "google.golang.org/grpc", "it costs start-up time in every start of a guest"},
		{"cmd/virt-vnet-hook", "github.com/urfave/cli/v2", "it costs start-up time in every start of a guest"},
		{"cmd/virt-vnet-hook", "modernc.org/sqlite", "it costs start-up time in every start of a guest"},
		{"verify", "modernc.org/sqlite", "verify knows of no runs but its own"},
		{"cmd/virt-vnet-hook", "github.com/gopacket/gopacket/layers", "it costs start-up time in every start of a guest"},
		{"switchcfg", "github.com/vishvananda/netlink", "the core of switchcfg is pure"},
		{"libvirtnet", "libvirt.org/go/libvirt", "libvirtnet is pure; virtapi is the connection"},
	}
	packages := list(t, "CGO_ENABLED=0")
	for _, tt := range tests {
		p, ok := packages[tt.from]
		if !ok {
			t.Errorf("there is no package %s", tt.from)
			continue
		}
		if slices.Contains(p.Deps, tt.to) {
			t.Errorf("%s reaches %s: %s", tt.from, tt.to, tt.why)
		}
	}
}

// TestHookIsPureGo proves that the hook needs no C library: every package in it
// builds without cgo.
func TestHookIsPureGo(t *testing.T) {
	if slices.Contains(list(t, "CGO_ENABLED=0")["cmd/virt-vnet-hook"].Deps, "runtime/cgo") {
		t.Error("the hook reaches runtime/cgo even with CGO_ENABLED=0")
	}
}

// TestPackagesAreDocumented wants a package comment everywhere.
func TestPackagesAreDocumented(t *testing.T) {
	for name, p := range list(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no package comment", name)
		}
	}
}

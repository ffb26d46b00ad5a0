// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

// TestNights has real guests break and heal over some nights, and looks at what
// each night says, tells and keeps.
func TestNights(t *testing.T) {
	h := newHost(t, "testdata/nights.yaml")
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	h.boot()
	n := newNights(t, h)
	t.Run("faults come and go", n.comeAndGo)
	t.Run("history shows them", n.shown)
	t.Run("disk is full", n.diskFull)
	t.Run("history is damaged", n.damaged)
	t.Run("the unit's sandbox lets it work", n.sandboxed)
	t.Run("guest is removed", n.removed) // the last one: there is no way back
}

// nights is a host and those who are told of its nights.
type nights struct {
	*host
	log string // that the notify command writes

	mu     sync.Mutex
	posted []string
	url    string
}

func newNights(t *testing.T, h *host) *nights {
	n := &nights{host: h, log: filepath.Join(t.TempDir(), "told")}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.posted = append(n.posted, m.Text)
	}))
	t.Cleanup(server.Close)
	n.url = server.URL + "/secret"
	return n
}

// night runs one, and returns what changed and who was told what.
func (n *nights) night(t *testing.T, code int, flags ...string) (changes, told string) {
	t.Helper()
	n.posted = nil
	if err := os.RemoveAll(n.log); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"verify", "--nightly", "--notify-url", n.url,
		"--notify-command", fmt.Sprintf(`sh -c 'printf %%s "$VIRT_VNET_CHANGES" >%s'`, n.log),
	}, flags...)
	out, errOut, got := n.run(args...)
	if got != code || errOut != "" {
		t.Errorf("exit code %d, want %d\n%s%s", got, code, out, errOut)
	}
	for _, m := range regexp.MustCompile(`(?m)^(NEW|STILL|FIXED|FLAPPING|GONE) +(\S+) +guest (\w+)`).FindAllStringSubmatch(out, -1) {
		changes += strings.Join(m[1:], " ") + "\n"
	}
	written, err := os.ReadFile(n.log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	_, posted, _ := strings.Cut(strings.Join(n.posted, "\n"), "\n")
	if posted != string(written) {
		t.Errorf("the command was told %q, the URL %q", written, posted)
	}
	return changes, posted
}

func (n *nights) comeAndGo(t *testing.T) {
	port := n.device("web1", "red")
	broken := func() { n.vsctl("set", "port", port, "tag=99") }
	healed := func() { n.must(0, "repair", "web1") }
	for i, step := range []struct {
		do    func()
		code  int
		flags []string
		want  string
		told  string // its beginning
	}{
		{nil, 0, nil, "", ""},
		{broken, 4, nil, "NEW WRONG_VLAN web1\n", "NEW WRONG_VLAN guest web1, NIC " + port + ": access 99"},
		{nil, 4, nil, "STILL WRONG_VLAN web1\n", ""},
		{nil, 0, []string{"--fail-on", "new"}, "STILL WRONG_VLAN web1\n", ""},
		{healed, 0, nil, "FIXED WRONG_VLAN web1\n", "FIXED WRONG_VLAN guest web1"},
		{nil, 0, nil, "", ""},
		{broken, 4, []string{"--fail-on", "new"}, "FLAPPING WRONG_VLAN web1\n", "FLAPPING WRONG_VLAN guest web1"},
		{healed, 0, nil, "FLAPPING WRONG_VLAN web1\n", ""},
	} {
		if step.do != nil {
			step.do()
		}
		changes, told := n.night(t, step.code, step.flags...)
		if changes != step.want {
			t.Errorf("night %d: changes %q, want %q", i+1, changes, step.want)
		}
		if (told == "") != (step.told == "") || !strings.HasPrefix(told, step.told) {
			t.Errorf("night %d: told %q, want %q", i+1, told, step.told)
		}
	}
}

func (n *nights) shown(t *testing.T) {
	n.must(0, "verify", "--network", "blue")
	var runs []history.Run
	if err := json.Unmarshal([]byte(n.must(0, "history", "-o", "json")), &runs); err != nil {
		t.Fatal(err)
	}
	if len(runs) != 9 || runs[0].Nightly || !slices.Equal(runs[0].Networks, []string{"blue"}) || !runs[1].Nightly {
		t.Errorf("runs %+v", runs)
	}
	table := n.must(0, "history")
	for _, want := range []string{"networks blue", "night", "FAIL", "PASS"} {
		if !strings.Contains(table, want) {
			t.Errorf("the list lacks %q:\n%s", want, table)
		}
	}
	var r verify.Report
	if err := json.Unmarshal([]byte(n.must(0, "history", "show", "2", "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if got := codes(r); !slices.Equal(got, []string{"WRONG_VLAN web1 (red)"}) {
		t.Errorf("run 2 has %v", got)
	}
	if out := n.must(0, "history", "diff", "2", "5"); !regexp.MustCompile(`(?m)^FIXED +WRONG_VLAN: guest web1`).MatchString(out) {
		t.Errorf("runs 2 and 5 differ in\n%s", out)
	}
	// A narrowed run says nothing of those that it did not look at.
	if out := n.must(0, "history", "diff", "last~1", "last"); strings.Contains(out, "web1") {
		t.Errorf("the last runs differ in\n%s", out)
	}
	n.must(2, "history", "show", "99")
}

// tiny is a state directory of the given size, on a file system of its own.
func tiny(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// oneWarning runs virt-vnet, which does its job, and wants one line beside it,
// or none when want is empty.
func (n *nights) oneWarning(t *testing.T, want string, args ...string) {
	t.Helper()
	out, errOut, code := n.run(args...)
	if code != 0 || !strings.HasPrefix(out, "PASS") {
		t.Errorf("virt-vnet %v: exit code %d\n%s%s", args, code, out, errOut)
	}
	lines := strings.Count(errOut, "\n")
	if want == "" && errOut != "" || want != "" && (lines != 1 || !strings.Contains(errOut, want)) {
		t.Errorf("virt-vnet %v says %q, want one line with %q", args, errOut, want)
	}
}

func (n *nights) diskFull(t *testing.T) {
	dir := tiny(t, "256k")
	n.oneWarning(t, "", "--state-dir", dir, "verify", "--nightly")
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, flags := range [][]string{{"--nightly"}, nil} {
		n.oneWarning(t, "no space left", append([]string{"--state-dir", dir, "verify"}, flags...)...)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.oneWarning(t, "", "--state-dir", dir, "verify", "--nightly")
	if out := n.must(0, "--state-dir", dir, "history"); strings.Count(out, "night") != 2 {
		t.Errorf("history after the disk was full:\n%s", out)
	}

	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	n.oneWarning(t, "read-only file system", "--state-dir", dir, "verify", "--nightly")
	n.oneWarning(t, "", "--state-dir", dir, "verify")
	if out := n.must(0, "--state-dir", dir, "history"); strings.Count(out, "night") != 2 {
		t.Errorf("history on a read-only file system:\n%s", out)
	}
	none := tiny(t, "4k") // not even the file fits
	n.oneWarning(t, "no space left", "--state-dir", none, "verify", "--nightly")
}

func (n *nights) damaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, history.FileName)
	nightly := []string{"--state-dir", dir, "verify", "--nightly"}
	n.oneWarning(t, "", nightly...)
	for _, damage := range []func() error{
		func() error { return os.Truncate(path, 5000) },
		func() error { return os.WriteFile(path, []byte(strings.Repeat("garbage ", 1000)), 0o600) },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		n.oneWarning(t, "is damaged", nightly...)
		n.oneWarning(t, "", nightly...)
		if out := n.must(0, "--state-dir", dir, "history"); strings.Count(out, "night") != 2 {
			t.Errorf("the new history:\n%s", out)
		}
	}
	aside, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(aside) != 2 {
		t.Errorf("set aside %v, %v", aside, err)
	}
}

func (n *nights) removed(t *testing.T) {
	if err := os.Remove(filepath.Join(state.DefaultStateDir, history.FileName)); err != nil {
		t.Fatal(err) // in the old one web1 is flapping
	}
	n.night(t, 0)
	n.vsctl("set", "port", n.device("db1", "blue"), "tag=99")
	if changes, _ := n.night(t, 4); changes != "NEW WRONG_VLAN db1\n" {
		t.Errorf("changes %q", changes)
	}
	n.virsh("destroy", "db1")
	n.virsh("undefine", "db1")
	n.spec.Topology.Guests = slices.DeleteFunc(n.spec.Topology.Guests, func(g vnet.Guest) bool { return g.Name == "db1" })
	if err := config.Write(filepath.Join(config.Dir, "site.yaml"), n.spec.Topology); err != nil {
		t.Fatal(err)
	}
	changes, told := n.night(t, 0)
	if changes != "GONE WRONG_VLAN db1\n" || !strings.HasPrefix(told, "GONE WRONG_VLAN guest db1") {
		t.Errorf("changes %q, told %q", changes, told)
	}
	if changes, _ := n.night(t, 0); changes != "" {
		t.Errorf("changes of the night after %q", changes)
	}
}

// sandboxed has a real systemd start the installed unit.
func (n *nights) sandboxed(t *testing.T) {
	const prefix = "/var/lib/installed" // neither in /tmp nor in /home, which the unit does not see
	install(t, "", prefix)
	for _, step := range []struct {
		tag  string
		code int
	}{{"20", 0}, {"99", 4}, {"20", 0}} {
		n.vsctl("set", "port", n.device("web1", "red"), "tag="+step.tag)
		out, code := startUnit(t, prefix, "")
		if code != step.code || strings.Contains(out, "warning") || strings.Contains(out, "could not tell") {
			t.Errorf("tag %s: exit code %d, want %d\n%s", step.tag, code, step.code, out)
		}
		for _, want := range []string{
			"CapBnd:\t0000008000003000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Read-only file system\n", // it is a sandbox
			"proved apart", // and everything was done in it
		} {
			if !strings.Contains(out, want) {
				t.Errorf("tag %s: the output lacks %q:\n%s", step.tag, want, out)
			}
		}
		if !regexp.MustCompile(`, (nothing changed since|\d+ (new|still|flapping|fixed))`).MatchString(out) {
			t.Errorf("tag %s: nothing is said of the nights before:\n%s", step.tag, out)
		}
	}
	for _, capability := range []string{"CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_BPF"} {
		if out, code := startUnit(t, prefix, "CapabilityBoundingSet=~"+capability); code != 6 {
			t.Errorf("without %s: exit code %d, want 6: is it needed?\n%s", capability, code, out)
		}
	}
	if info, err := os.Stat(filepath.Join(state.DefaultStateDir, history.FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history: %v, %v", info, err)
	}
}

// startUnit runs systemd as the first process of namespaces of its own, beside
// the lab's network and files, with our service as its only real unit, and one
// more setting. It returns what the service printed and its exit code.
func startUnit(t *testing.T, prefix, setting string) (string, int) {
	t.Helper()
	const units = "/run/units" // as /tmp is to be another one
	if err := os.RemoveAll(units); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(units, "out")
	for name, text := range map[string]string{
		// Nothing of the machine's own start: sysinit alone would clean /tmp.
		"sysinit.target": "[Unit]\n", "basic.target": "[Unit]\n", "shutdown.target": "[Unit]\n",
		"virt-vnet-verify.service.d/lab.conf": "[Unit]\nSuccessAction=exit-force\nFailureAction=exit-force\n" +
			"[Service]\nStandardOutput=append:" + out + "\nStandardError=inherit\n" + setting + "\n" +
			"ExecStartPre=/bin/sh -c 'cat /proc/self/status; touch /usr/it-is-writable || true'\n",
	} {
		path := filepath.Join(units, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	unit := "virt-vnet-verify.service"
	if err := os.Symlink(filepath.Join(prefix, "lib/systemd/system", unit), filepath.Join(units, unit)); err != nil {
		t.Fatal(err)
	}
	script := `set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd # of its own: nobody outside may take it for the machine's
for dir in /tmp /var/tmp /run/systemd; do mount -t tmpfs tmpfs $dir; done
for dir in /proc/sys/fs /proc/sys/kernel; do mount --bind $dir $dir; mount -o remount,bind,ro $dir; done
exec /lib/systemd/systemd --system --unit=` + unit + ` --show-status=0 --log-target=null`
	cmd := exec.CommandContext(t.Context(), "unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup", "--uts", "--ipc",
		"sh", "-c", script)
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=lab",
		"SYSTEMD_UNIT_PATH=" + units, "SYSTEMD_GENERATOR_PATH=", "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=",
	}
	talk, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("systemd: %v\n%s", err, talk)
	}
	printed, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("systemd: %v\n%s", err, talk)
	}
	return string(printed), cmd.ProcessState.ExitCode()
}

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
	"time"

	"golang.org/x/sys/unix"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/history"
	"github.com/virt-vnet/virt-vnet/internal/lab"
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
	t.Run("report cannot be written", n.unwritten)
	t.Run("disk is full", n.diskFull)
	t.Run("history is damaged", n.damaged)
	t.Run("the unit's sandbox lets it work", n.sandboxed)
	t.Run("the timer starts the unit", n.timed)
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
		if m[2] != verify.CodeSlow { // a note of how busy this machine is
			changes += strings.Join(m[1:], " ") + "\n"
		}
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

// unwritten has a night whose report goes nowhere: what changed is told
// nevertheless, for the next one does not.
func (n *nights) unwritten(t *testing.T) {
	n.posted = nil
	n.vsctl("set", "port", n.device("db1", "blue"), "tag=99")
	_, errOut, code := n.run("verify", "--nightly", "--write", "json=/dev/full", "--notify-url", n.url)
	if code != 1 || !strings.Contains(errOut, "no space left on device") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	if posted := strings.Join(n.posted, "\n"); !strings.Contains(posted, "NEW WRONG_VLAN guest db1") {
		t.Errorf("told %q", posted)
	}
	n.must(0, "repair", "db1")
	n.night(t, 0)
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
	n.installUnits(t)
	for _, step := range []struct {
		tag  string
		code int
	}{{"20", 0}, {"99", 4}, {"20", 0}} {
		n.vsctl("set", "port", n.device("web1", "red"), "tag="+step.tag)
		out := n.startUnit(t, "")
		if !strings.HasSuffix(out, fmt.Sprintf("\nended with %d\n", step.code)) || strings.Contains(out, "warning") || strings.Contains(out, "could not tell") {
			t.Errorf("tag %s: want exit code %d\n%s", step.tag, step.code, out)
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
		if out := n.startUnit(t, "CapabilityBoundingSet=~"+capability); !strings.HasSuffix(out, "\nended with 6\n") {
			t.Errorf("without %s: want exit code 6: is it needed?\n%s", capability, out)
		}
	}
	if info, err := os.Stat(filepath.Join(state.DefaultStateDir, history.FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("history: %v, %v", info, err)
	}
}

// timed has the installed timer, brought forward to every second, start the
// unit.
func (n *nights) timed(t *testing.T) {
	n.dropIn(t, nightlyService, "")
	n.dropIn(t, nightlyTimer, "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nRandomizedDelaySec=0\nAccuracySec=1us\n")
	runs := func() int {
		var runs []history.Run
		if err := json.Unmarshal([]byte(n.must(0, "history", "-o", "json")), &runs); err != nil {
			t.Fatal(err)
		}
		return len(slices.DeleteFunc(runs, func(r history.Run) bool { return !r.Nightly }))
	}
	before := runs()
	n.systemctl(t, "start", nightlyTimer)
	for deadline := time.Now().Add(time.Minute); runs() == before; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no night has passed: %s", n.systemctl(t, "show", nightlyTimer))
		}
	}
	n.systemctl(t, "stop", nightlyTimer, nightlyService)
	if out := readAll(t, unitOutput); !strings.Contains(out, "\nended with 0\n") {
		t.Errorf("what the timer started says\n%s", out)
	}
}

const (
	nightlyService = "virt-vnet-verify.service"
	nightlyTimer   = "virt-vnet-verify.timer"
	// unitOutput is where the service prints.
	unitOutput = "/run/virt-vnet-verify.out"
)

// installUnits gives the lab's systemd the units as make installs them.
func (n *nights) installUnits(t *testing.T) {
	t.Helper()
	const prefix = "/var/lib/installed" // neither in /tmp nor in /home, which the unit does not see
	install(t, "", prefix)
	if err := n.StartSystemd(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{nightlyService, nightlyTimer} {
		if err := os.Symlink(filepath.Join(prefix, "lib/systemd/system", unit), filepath.Join(lab.UnitDir, unit)); err != nil {
			t.Fatal(err)
		}
	}
}

// startUnit runs the service with one more setting, and returns what it printed.
func (n *nights) startUnit(t *testing.T, setting string) string {
	t.Helper()
	n.dropIn(t, nightlyService, setting)
	argv := n.BesideSystemd("systemctl", "start", nightlyService)
	talk, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	var exit *exec.ExitError // it does when the service fails
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", argv, err)
	}
	printed, err := os.ReadFile(unitOutput)
	if err != nil {
		t.Fatalf("%v: %s", err, talk)
	}
	return string(printed)
}

// dropIn adds settings to a unit, in place of those added before. The service
// prints into a file of its own, and what it may do and how it ended, too.
func (n *nights) dropIn(t *testing.T, unit, settings string) {
	t.Helper()
	if unit == nightlyService {
		settings = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nStandardOutput=append:" + unitOutput + "\nStandardError=inherit\n" + settings + "\n" +
			"ExecStartPre=/bin/sh -c 'cat /proc/self/status; touch /usr/it-is-writable || true'\n" +
			"ExecStopPost=/bin/sh -c 'echo; echo ended with $EXIT_STATUS'\n"
	}
	path := filepath.Join(lab.UnitDir, unit+".d", "lab.conf")
	err := errors.Join(os.RemoveAll(unitOutput), os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(settings), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	n.systemctl(t, "daemon-reload")
}

// systemctl runs it where the lab's systemd is.
func (h *host) systemctl(t *testing.T, args ...string) string {
	t.Helper()
	argv := h.BesideSystemd(append([]string{"systemctl"}, args...)...)
	return tool(t, argv[0], argv[1:]...)
}

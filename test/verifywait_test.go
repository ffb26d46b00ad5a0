// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/hooks"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/test/stage"
	"github.com/virt-vnet/virt-vnet/verify"
)

// TestVerifyWaits checks real guests that are still booting, and has libvirtd
// die under the hands of verify.
func TestVerifyWaits(t *testing.T) {
	h := newHost(t, "../examples/first-light/spec.yaml")
	h.must(0, "apply")
	h.must(0, "hooks", "install", "--reload")
	guests := stage.Guests(h.spec.Topology)
	for _, g := range guests {
		if err := h.DefineGuest(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("booting", func(t *testing.T) { booting(t, h) })
	t.Run("libvirtd restarts", func(t *testing.T) {
		for _, request := range []int{1, 3} {
			restarting(t, h, request)
		}
	})
	t.Run("libvirtd is gone", func(t *testing.T) { goneMidRun(t, h) })
	t.Run("libvirtd hangs", func(t *testing.T) { hangingMidRun(t, h) })
	t.Run("checked after the start", func(t *testing.T) { checkedAfterStart(t, h) })
	t.Run("bundle", func(t *testing.T) { bundled(t, h) })
}

func booting(t *testing.T, h *host) {
	starting := time.Now()
	for _, g := range h.spec.Topology.Guests {
		if err := h.StartGuest(t.Context(), g.Name); err != nil {
			t.Fatal(err)
		}
	}
	started := time.Since(starting)
	began := time.Now()
	stdout, stderr, code := h.run("--log-level", "info", "verify", "--wait", "2m", "-o", "json")
	took := time.Since(began)
	var r verify.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	waited := 0
	for _, n := range r.NICs {
		if n.ReachableAfter > 0 {
			waited++
		}
		// It counts from the guest's own start, which was before verify's.
		if most := started + time.Since(starting); n.ReachableAfter > most {
			t.Errorf("%s was reachable after %v, of %v in all", n.Endpoint, n.ReachableAfter, most)
		}
		t.Logf("%s: reachable after %v", n.Endpoint, n.ReachableAfter)
	}
	if waited == 0 || !strings.Contains(stderr, "waiting for ") {
		t.Errorf("nobody was waited for, in %v:\n%s", took, stderr)
	}
}

// restarting kills libvirtd at one of verify's requests and starts it again.
func restarting(t *testing.T, h *host, request int) {
	killed := make(chan error, 2)
	uri := between(t, request, func() {
		killed <- h.Libvirtd().Kill(t.Context())
		time.AfterFunc(time.Second, func() { killed <- h.Libvirtd().Start(t.Context()) })
	})
	stdout, stderr, code := h.run("-c", uri, "verify")
	for range 2 {
		select {
		case err := <-killed:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("request %d never came", request)
		}
	}
	if code != 0 {
		t.Errorf("libvirtd died at request %d: exit code %d, want 0\n%s%s", request, code, stdout, stderr)
	}
}

// goneMidRun kills libvirtd for good: nothing can be told then.
func goneMidRun(t *testing.T, h *host) {
	uri := between(t, 2, func() {
		if err := h.Libvirtd().Kill(t.Context()); err != nil {
			t.Error(err)
		}
	})
	stdout, stderr, code := h.run("-c", uri, "verify", "-o", "json")
	if code != 6 || !strings.Contains(stdout, "libvirt went away during the run") {
		t.Errorf("exit code %d, want 6\n%s%s", code, stdout, stderr)
	}
	if err := h.Libvirtd().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// hangingMidRun stops libvirtd in the middle of a run, which then ends.
func hangingMidRun(t *testing.T, h *host) {
	uri := between(t, 2, func() {
		if err := h.Libvirtd().Pause(); err != nil {
			t.Error(err)
		}
	})
	began := time.Now()
	stdout, stderr, code := h.run("-c", uri, "verify", "-o", "json")
	if code != 6 || !strings.Contains(stdout, "does it hang?") {
		t.Errorf("exit code %d after %v, want 6\n%s%s", code, time.Since(began), stdout, stderr)
	}
	if err := h.Libvirtd().Resume(); err != nil {
		t.Fatal(err)
	}
}

// checkedAfterStart calls the hook as libvirt does when a guest's CPUs run. A real
// systemd then runs the unit as it will be installed, but for the paths. It sees
// processes of its own PID namespace only, so that the hook must run there.
func checkedAfterStart(t *testing.T, h *host) {
	h.must(0, "hooks", "install", "--verify-on-start")
	started := func(beside ...string) {
		t.Helper()
		argv := append(beside, "/etc/libvirt/hooks/qemu.d/virt-vnet", "web1", "started", "begin", "-")
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(h.virsh("dumpxml", "web1"))
		cmd.Env = []string{}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("the hook: %v, %q", err, out)
		}
	}
	started()
	if status := h.must(0, "hooks", "status"); !strings.Contains(status, "the guest is not checked: start virt-vnet-verify@web1.service: systemd does not run here") ||
		!strings.Contains(status, "check after each start: systemd has no virt-vnet-verify@.service yet") {
		t.Errorf("without systemd the status is\n%s", status)
	}

	if err := h.StartSystemd(t.Context()); err != nil {
		t.Fatal(err)
	}
	const bin, out, results = "/run/virt-vnet-bin/", "/run/verify.out", "/run/verify.results" // PrivateTmp hides the test's own directory
	unit := readAll(t, "../cmd/virt-vnet/systemd/"+hooks.CheckUnit)
	unit = strings.Replace(unit, "@BINDIR@/", bin, 1) + "StandardOutput=append:" + out + "\nStandardError=append:" + out + "\n" +
		// systemd forgets a unit that has ended well, and how it ended.
		"ExecStopPost=/bin/sh -c 'echo $SERVICE_RESULT $EXIT_STATUS >>" + results + "'\n"
	program, err := os.ReadFile(filepath.Join(h.bin, "virt-vnet"))
	if err = errors.Join(err, os.MkdirAll(bin, 0o755), os.WriteFile(bin+"virt-vnet", program, 0o755),
		os.WriteFile(results, nil, 0o644), os.WriteFile(filepath.Join(lab.UnitDir, hooks.CheckUnit), []byte(unit), 0o644)); err != nil {
		t.Fatal(err)
	}
	h.systemctl(t, "daemon-reload")
	result := func() string {
		t.Helper()
		before := readAll(t, results)
		started(h.BesideSystemd()...)
		for deadline := time.Now().Add(time.Minute); readAll(t, results) == before; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				status, _, _ := h.run("hooks", "status")
				t.Fatalf("the unit does not end\n%s", status)
			}
		}
		return strings.TrimSpace(strings.TrimPrefix(readAll(t, results), before))
	}
	if got := result(); got != "success 0" {
		t.Errorf("a healthy guest: %s\n%s", got, readAll(t, out))
	}
	limits := filepath.Join(lab.UnitDir, hooks.CheckUnit+".d", "limits.conf")
	if err := errors.Join(os.MkdirAll(filepath.Dir(limits), 0o755),
		os.WriteFile(limits, []byte("[Service]\nCapabilityBoundingSet=~CAP_NET_RAW\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	h.systemctl(t, "daemon-reload")
	if got := result(); got != "success 6" {
		t.Errorf("a guest that cannot be probed: %s\n%s", got, readAll(t, out))
	}
	if err := os.Remove(limits); err != nil {
		t.Fatal(err)
	}
	h.systemctl(t, "daemon-reload")
	h.vsctl("set", "port", h.device("web1", "red"), "tag=99")
	if got := result(); got != "exit-code 4" || !strings.Contains(readAll(t, out), "WRONG_VLAN") {
		t.Errorf("a guest in the wrong VLAN: %s\n%s", got, readAll(t, out))
	}
	h.must(0, "repair")
	h.must(0, "hooks", "install", "--verify-on-start=false")
}

// bundled packs a bundle while a guest is silent, with a secret wherever the
// host has room for one.
func bundled(t *testing.T, h *host) {
	const canary = "canary-hunter2"
	spec, err := os.ReadFile(filepath.Join(config.Dir, "site.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	spec = append(spec, "# the password is "+canary+"\n"...)
	if err := os.WriteFile(filepath.Join(config.Dir, "site.yaml"), spec, 0o644); err != nil {
		t.Fatal(err)
	}
	h.virsh("desc", "web1", "--live", canary)
	h.virsh("metadata", "web1", "https://example.org/", "--live", "--key", "x", "--set", "<login>"+canary+"</login>")
	h.vsctl("set", "bridge", "ovs0", "external_ids:secret="+canary)
	h.vsctl("add-port", "ovs0", "far0", "--", "set", "interface", "far0", "type=gre", "options:remote_ip=192.0.2.1", "options:psk="+canary)
	tool(t, "ip", "link", "set", "br0", "alias", "token "+canary)
	tool(t, "nft", "add table inet foreign { comment \"password "+canary+"\"; }")
	if _, err := h.Exec(t.Context(), "web2", "ip link set eth0 down"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	h.must(4, "verify", "--bundle", path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	dir := t.TempDir()
	tool(t, "tar", "-xzf", path, "-C", dir)
	root := filepath.Join(dir, "virt-vnet-bundle")
	manifest := readAll(t, filepath.Join(root, "MANIFEST.json"))
	device := h.device("web2", "red")
	for _, name := range []string{
		"report.json", "report.txt", "versions.json", "libvirt/domains/web1.xml", "libvirt/networks/red.xml", "spec/1-site.yaml",
		"state/lib/networks/red.json", "host/links.json", "host/rules.json", "ovs/show.txt", "ovs/ovs0-flows.txt", "captures/" + device + ".pcap",
	} {
		if readAll(t, filepath.Join(root, name)) == "" {
			t.Errorf("%s is not there:\n%s", name, manifest)
		}
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(readAll(t, path), canary) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var r verify.Report
	if err := json.Unmarshal([]byte(readAll(t, filepath.Join(root, "report.json"))), &r); err != nil || len(r.Problems) == 0 {
		t.Errorf("report.json: %v, %d problems", err, len(r.Problems))
	}
	if _, stderr, code := h.run("verify", "--bundle", "/nosuch/b.tar.gz"); code != 2 || !strings.Contains(stderr, "/nosuch") {
		t.Errorf("nowhere to write: exit code %d, %s", code, stderr)
	}
}

func readAll(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

// between stands between libvirtd and its clients, and calls strike when the
// n-th question for the XML of a guest comes, before it passes it on. It returns
// the URI for the clients.
func between(t *testing.T, n int, strike func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	listener, err := net.Listen("unix", path) //nolint:noctx // it only makes a file
	if err != nil {
		t.Fatal(err)
	}
	b := &middle{n: n, strike: strike}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { b.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	return "qemu+unix:///system?socket=" + path
}

type middle struct {
	mu     sync.Mutex
	n      int
	strike func()
}

// serve passes one connection on, until either side ends it.
func (b *middle) serve(client net.Conn) {
	defer client.Close()                                         //nolint:errcheck // it may be closed
	server, err := net.Dial("unix", "/run/libvirt/libvirt-sock") //nolint:noctx // answered or refused at once
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // it may be closed
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	_ = b.requests(client, server)
}

// requests passes on what the client sends: messages with a length before and
// the number of the procedure in the header (https://libvirt.org/kbase/internals/rpc.html).
func (b *middle) requests(client io.Reader, server io.Writer) error {
	const domainGetXMLDesc, header = 14, 28
	for {
		var size [4]byte
		if _, err := io.ReadFull(client, size[:]); err != nil {
			return err
		}
		message := make([]byte, binary.BigEndian.Uint32(size[:]))
		copy(message, size[:])
		if len(message) < header {
			return fmt.Errorf("a message of %d bytes", len(message))
		}
		if _, err := io.ReadFull(client, message[4:]); err != nil {
			return err
		}
		if binary.BigEndian.Uint32(message[12:]) == domainGetXMLDesc {
			b.count()
		}
		if _, err := server.Write(message); err != nil {
			return err
		}
	}
}

func (b *middle) count() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n--; b.n == 0 {
		b.strike()
	}
}

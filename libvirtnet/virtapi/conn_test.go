// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
)

// openEnv makes the test binary open that URI, print what came of it, and do
// nothing else: see openElsewhere.
const openEnv = "VIRT_VNET_TEST_OPEN"

func TestMain(m *testing.M) {
	uri, ok := os.LookupEnv(openEnv)
	if !ok {
		lab.Main(m)
		return
	}
	c, err := virtapi.Open(context.Background(), uri)
	if err == nil {
		err = errors.Join(errors.New("opened"), c.Close())
	}
	_, _ = fmt.Fprintln(os.Stdout, err)
}

// openElsewhere opens uri in another process, as nobody, and returns all that
// the process printed.
func openElsewhere(t *testing.T, uri string) string {
	t.Helper()
	binary, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	const program = "/run/open.test" // private to the lab, and not in a directory that is closed to others
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	const coverage = "/run/open.coverage" // without it, a program built with -cover prints a warning
	if err := errors.Join(os.MkdirAll(coverage, 0o777), os.Chmod(coverage, 0o777)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(os.Remove(program), os.RemoveAll(coverage)) })
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = []string{openEnv + "=" + uri, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "GOCOVERDIR=" + coverage}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestOpenRefuses(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := virtapi.Open(ended, "test:///default"); !errors.Is(err, context.Canceled) {
		t.Errorf("opened after the end: %v", err)
	}
	for uri, want := range map[string]struct {
		sentinel error
		says     string
	}{
		"::::":                             {nil, "want a URI such as qemu:///system"},
		"qemu+tcp://127.0.0.1:1/system":    {virtapi.ErrNotRunning, "Connection refused"},
		"qemu+unix:///system?socket=/nope": {virtapi.ErrNotRunning, "systemctl start"},
	} {
		c, err := virtapi.Open(t.Context(), uri)
		if err == nil {
			t.Errorf("%s: opened as %s", uri, c.URI())
			continue
		}
		if want.sentinel != nil && !errors.Is(err, want.sentinel) || !strings.Contains(err.Error(), want.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %v in one line with %q", uri, err, want.sentinel, want.says)
		}
	}
}

// TestOpenDefault: no URI is that of the environment.
func TestOpenDefault(t *testing.T) {
	t.Setenv("LIBVIRT_DEFAULT_URI", "test:///default")
	if c := open(t, ""); c.URI() != "test:///default" {
		t.Errorf("connected to %s", c.URI())
	}
}

func TestOpenWithoutDaemon(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	labtest.Start(t, lab.Options{})
	_, err := virtapi.Open(t.Context(), lab.URI)
	const want = "libvirt qemu:///system: open: libvirt does not answer (Failed to connect socket to '/var/run/libvirt/libvirt-sock': " +
		"No such file or directory): is it running? try: systemctl start libvirtd, or virtqemud.socket and virtnetworkd.socket; or name another one with --connect"
	if !errors.Is(err, virtapi.ErrNotRunning) || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

// TestOpenWithoutLibrary hides libvirt's library, in the lab's mount namespace.
func TestOpenWithoutLibrary(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	libraries, err := filepath.Glob("/usr/lib*/*/libvirt.so.0")
	if err != nil || len(libraries) == 0 {
		t.Fatalf("no library to hide: %v", err)
	}
	for _, library := range libraries {
		if err := syscall.Mount("/dev/null", library, "", syscall.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(library, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	const want = "libvirt.so.0 is not installed: install it: apt-get install libvirt0, dnf install libvirt-libs"
	if got := openElsewhere(t, lab.URI); got != want {
		t.Errorf("without a library: %s", got)
	}
}

// TestOverSSH reaches the daemon through libvirt's ssh transport, with an ssh that
// goes no further than this machine.
func TestOverSSH(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	labtest.Start(t, lab.Options{Libvirt: true})
	ssh := filepath.Join(t.TempDir(), "ssh")
	script := "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec sh -c \"$*\"\n"
	if err := os.WriteFile(ssh, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	c := open(t, "qemu+ssh://host/system?command="+ssh)
	if !strings.HasPrefix(c.URI(), "qemu+ssh://host/system") {
		t.Errorf("connected to %s", c.URI())
	}
	mustEnsure(t, c, golden(t, c.Version().String())["linux-plain"], on)
	if n, ok := network(t, open(t, lab.URI), "linux-plain"); !ok || !n.Active {
		t.Errorf("on the other side: %+v", n)
	}
	if err := os.WriteFile(ssh, []byte("#!/bin/sh\necho 'no route to host' >&2\nexit 255\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := virtapi.Open(t.Context(), "qemu+ssh://host/system?command="+ssh)
	if !errors.Is(err, virtapi.ErrNotRunning) || !strings.HasSuffix(err.Error(), "try: ssh HOST virsh version") {
		t.Errorf("no way to the host: %v", err)
	}
}

// TestDaemonTrouble is a daemon that forbids, hangs and dies.
func TestDaemonTrouble(t *testing.T) {
	lab.Need(t, lab.Libvirt)
	l := labtest.Start(t, lab.Options{Libvirt: true})
	t.Run("nobody", func(t *testing.T) {
		if err := os.Chmod("/run/libvirt/libvirt-sock", 0o700); err != nil {
			t.Fatal(err)
		}
		got := openElsewhere(t, lab.URI)
		if !strings.HasPrefix(got, "libvirt qemu:///system: open: not permitted (") || !strings.HasSuffix(got, "run as root, or join the group libvirt") ||
			strings.Contains(got, "\n") {
			t.Errorf("as nobody: %s", got)
		}
	})
	c := open(t, lab.URI)
	xml := golden(t, c.Version().String())["isolated"]
	t.Run("hangs", func(t *testing.T) {
		if err := l.Libvirtd().Pause(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := c.Networks(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a daemon that hangs: %v", err)
		}
		if _, err := virtapi.Open(ctx, lab.URI); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open a daemon that hangs: %v", err)
		}
		if err := l.Libvirtd().Resume(); err != nil {
			t.Fatal(err)
		}
		mustEnsure(t, c, xml, on) // the connection is still good
	})
	t.Run("dies", func(t *testing.T) {
		if err := l.Libvirtd().Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Networks(t.Context()); !errors.Is(err, virtapi.ErrNotRunning) {
			t.Errorf("networks of a daemon that died: %v", err)
		}
		if _, err := c.EnsureNetwork(t.Context(), xml, on); !errors.Is(err, virtapi.ErrNotRunning) {
			t.Errorf("ensure with a daemon that died: %v", err)
		}
		if _, err := c.Addresses(t.Context(), "web1", virtapi.SourceLease); !errors.Is(err, virtapi.ErrNotRunning) {
			t.Errorf("addresses with a daemon that died: %v", err)
		}
		if err := l.Libvirtd().Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if done := mustEnsure(t, open(t, lab.URI), xml, on); done.Outcome != virtapi.Unchanged {
			t.Errorf("after its return: %+v", done)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/hooks"
)

func TestParseEventBad(t *testing.T) {
	for name, args := range map[string][]string{
		"nothing at all":         {},
		"program only":           {"/etc/libvirt/hooks/qemu"},
		"three arguments":        {"/etc/libvirt/hooks/qemu", "g1", "start"},
		"six arguments":          {"/etc/libvirt/hooks/qemu", "g1", "start", "begin", "-", "more"},
		"no driver":              {"/usr/lib/virt-vnet/virt-vnet-hook", "g1", "start", "begin", "-"},
		"unknown driver":         {"/etc/libvirt/hooks/vmware.d/virt-vnet", "g1", "start", "begin", "-"},
		"driver of a guest":      {"/etc/libvirt/hooks/qemu.d/g1/virt-vnet", "g1", "start", "begin", "-"},
		"no program":             {"", "g1", "start", "begin", "-"},
		"empty guest":            {"/etc/libvirt/hooks/qemu", "", "start", "begin", "-"},
		"empty operation":        {"/etc/libvirt/hooks/qemu", "g1", "", "begin", "-"},
		"an option of ours":      {"/etc/libvirt/hooks/qemu", "--help"},
		"bytes that are no text": {"/etc/libvirt/hooks/qemu", "\xff\xfe"},
	} {
		t.Run(name, func(t *testing.T) {
			ev, err := hooks.ParseEvent(args, strings.NewReader("<domain/>"))
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one on one line", err)
			}
			if diff := cmp.Diff(hooks.Event{}, ev); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseEvent(t *testing.T) {
	for path, driver := range map[string]string{
		"/etc/libvirt/hooks/qemu":                 "qemu",
		"/etc/libvirt/hooks/network":              "network",
		"/etc/libvirt/hooks/qemu.d/virt-vnet":     "qemu",
		"/etc/libvirt/hooks/network.d/virt-vnet":  "network",
		"/var/lib/libvirt/hooks/lxc.d/10-network": "lxc",
		"qemu": "qemu",
	} {
		ev, err := hooks.ParseEvent([]string{path, "g1", "release", "end", "shutdown"}, strings.NewReader("<domain/>"))
		if err != nil {
			t.Fatal(err)
		}
		want := hooks.Event{
			Driver: driver, Object: "g1", Operation: "release", Sub: "end", Extra: "shutdown", Payload: []byte("<domain/>"),
		}
		if diff := cmp.Diff(want, ev); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("input/output error") }

func TestParseEventBadStdin(t *testing.T) {
	args := []string{"qemu", "g1", "start", "begin", "-"}
	if _, err := hooks.ParseEvent(args, strings.NewReader(strings.Repeat("x", 10_000_000))); !errors.Is(err, hooks.ErrPayloadTooLarge) {
		t.Errorf("10 MB: error %v, want ErrPayloadTooLarge", err)
	}
	if _, err := hooks.ParseEvent(args, brokenReader{}); err == nil || !strings.Contains(err.Error(), "stdin") {
		t.Errorf("broken pipe: error %v, want that stdin could not be read", err)
	}
}

// Whatever is passed, the hook must not panic: libvirt waits for it.
func FuzzParseEvent(f *testing.F) {
	f.Add("/etc/libvirt/hooks/qemu", "g1", "start", []byte("<domain type='kvm'><name>g1</name></domain>"))
	f.Add("/etc/libvirt/hooks/network.d/virt-vnet", "red", "port-created", []byte("<hookData><network><name>red</name></network></hookData>"))
	f.Add(".d/x", "", "", []byte("<"))
	f.Fuzz(func(t *testing.T, program, object, operation string, payload []byte) {
		ev, err := hooks.ParseEvent([]string{program, object, operation, "begin", "-"}, strings.NewReader(string(payload)))
		if err == nil && (ev.Driver == "" || ev.Object == "") {
			t.Errorf("event %v without a driver or an object", ev)
		}
	})
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package ovs_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/ovs"
	"github.com/virt-vnet/virt-vnet/switchcfg/switchtest"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func TestOpenErrors(t *testing.T) {
	l := start(t)
	refused := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(refused, "db.sock"))
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = listener.Close()

	for name, c := range map[string]struct {
		sw   string
		dir  string
		is   error
		says string
	}{
		"no bridge": {"ovs7", "", switchcfg.ErrNoSwitch, "switch ovs7: no such switch: Open vSwitch has no bridge of that name: ovs-vsctl add-br ovs7"},
		"no socket": {"ovs0", "/nonexistent", switchcfg.ErrUnreachable, "switch ovs0: /nonexistent/db.sock: does not answer: is Open vSwitch running?"},
		"refused":   {"ovs0", refused, switchcfg.ErrUnreachable, "does not answer: is Open vSwitch running?"},
	} {
		var options []ovs.Option
		if c.dir != "" {
			options = append(options, ovs.WithRunDir(c.dir))
		}
		d, err := ovs.Open(t.Context(), vnet.Switch{Name: c.sw, Driver: vnet.DriverOVS}, options...)
		if err == nil {
			t.Errorf("%s: opened", name)
			_ = d.Close()
			continue
		}
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got error %q, want %q", name, err, c.says)
		}
	}
	if got := vsctl(t, l, "list-ports", "ovs0"); got != "" {
		t.Errorf("there are ports: %s", got)
	}
}

// TestSilentServer checks that a server that accepts and never answers costs no
// more than the caller's time.
func TestSilentServer(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "db.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // of the test's own
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = ovs.Open(ctx, ovs0, ovs.WithRunDir(dir))
	if !errors.Is(err, switchcfg.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want %v and %v", err, switchcfg.ErrUnreachable, context.DeadlineExceeded)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestMalformedServer checks that no answer, however wrong, is taken for one.
func TestMalformedServer(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		`]`, `{}{}{}`, `nonsense`, `{"id":1,"result":null,"error":null}`,
		`{"id":1,"result":[],"error":null}`, `{"id":1,"result":[{"rows":[]}],"error":null}`,
		`{"id":1,"result":[{"rows":[{"_uuid":["uuid"]}]}],"error":null}`,
		`{"id":1,"result":[{"rows":[{"_uuid":["set",[]]}]}],"error":null}`,
		`{"id":1,"result":[null,{"error":"syntax error","details":"?"}],"error":null}`,
		`{"id":1,"result":null,"error":{"error":"unknown database"}}`,
		`{"id":"1","result":[{"rows":[{"_uuid":["uuid","u1"]}]}],"error":null}`,
		`{"id":1,"method":"update","result":[{"rows":[{"_uuid":["uuid","u1"]}]}],"error":null}`,
		`{"id":null,"method":"update","params":[0]}`, `[1]`, `null`,
	} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			listener, err := net.Listen("unix", filepath.Join(dir, "db.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close() //nolint:errcheck // of the test's own
			go func() {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				var request json.RawMessage
				_ = json.NewDecoder(c).Decode(&request)
				_, _ = c.Write([]byte(reply))
				_ = c.Close()
			}()
			if d, err := ovs.Open(t.Context(), ovs0, ovs.WithRunDir(dir)); err == nil {
				t.Error("opened")
				_ = d.Close()
			}
		})
	}
}

// TestEcho checks that the driver answers the server's question whether it
// lives while it waits for an answer of its own.
func TestEcho(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, "db.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // of the test's own
	echoed := make(chan string, 1)
	go func() {
		defer close(echoed)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		var request, answer json.RawMessage
		d := json.NewDecoder(c)
		_ = d.Decode(&request)
		_, _ = c.Write([]byte(`{"id":"echo","method":"echo","params":[1,"x"]}`))
		_ = d.Decode(&answer)
		echoed <- string(answer)
		_, _ = c.Write([]byte(`{"id":1,"result":[{"rows":[{"_uuid":["uuid","u1"]}]}],"error":null}`))
	}()
	d, err := ovs.Open(t.Context(), ovs0, ovs.WithRunDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing to lose
	if diff := cmp.Diff(`{"error":null,"id":"echo","result":[1,"x"]}`, <-echoed); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDatabaseGone checks that OVSDB dying between observe and apply is an
// error, at once, and that the driver works again when OVSDB is back.
func TestDatabaseGone(t *testing.T) {
	l := start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	vsctl(t, l, "add-port", "ovs0", "vnet0")
	d := openOVS(t, "ovs0")
	p := plan(t, d, "vnet0", vlan(vnet.VLANSet{Access: 20}))
	if err := l.OVSDB().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	applied, err := d.Apply(t.Context(), p)
	if !errors.Is(err, switchcfg.ErrUnreachable) || time.Since(began) > 2*time.Second {
		t.Errorf("after %v: got error %v, want %v at once", time.Since(began), err, switchcfg.ErrUnreachable)
	}
	if err := l.OVSDB().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	undo := switchcfg.Plan{Switch: "ovs0", Changes: applied}.Reverse()
	if _, err := d.Apply(t.Context(), undo); err != nil {
		t.Errorf("undo: %v", err)
	}
	if got := vsctl(t, l, "get", "port", "vnet0", "tag"); got != "[]" {
		t.Errorf("after the undo the tag is %s", got)
	}
}

// TestVswitchdGone checks that a change which nobody puts in force is an error
// within the caller's time, and is reported as made.
func TestVswitchdGone(t *testing.T) {
	l := start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	vsctl(t, l, "add-port", "ovs0", "vnet0")
	d := openOVS(t, "ovs0")
	p := plan(t, d, "vnet0", vlan(vnet.VLANSet{Access: 20}))
	if err := l.Vswitchd().Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	applied, err := d.Apply(ctx, p)
	if !errors.Is(err, switchcfg.ErrUnreachable) || !strings.Contains(err.Error(), "wait for ovs-vswitchd to take up port vnet0") {
		t.Errorf("got error %v, want one about the wait for ovs-vswitchd", err)
	}
	if len(applied) != 1 {
		t.Errorf("says it made %d changes, want 1: the database has it", len(applied))
	}
	if _, err := d.Learned(t.Context()); !errors.Is(err, switchcfg.ErrUnreachable) {
		t.Errorf("learned: got error %v, want %v", err, switchcfg.ErrUnreachable)
	}
}

// TestAddsAsLibvirtDoes checks what a device that OVSDB did not know gets.
func TestAddsAsLibvirtDoes(t *testing.T) {
	l := start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	d := openOVS(t, "ovs0")
	p := wire(t, d, "vnet0", vnet.Policy{})
	for key, want := range map[string]string{
		"attached-mac": `"52:54:00:01:02:03"`,
		"iface-status": "active",
		"vm-id":        `"4dea22b3-1d52-d8f3-2516-782e98ab3fa0"`,
	} {
		if got := vsctl(t, l, "get", "interface", "vnet0", "external_ids:"+key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if id := vsctl(t, l, "get", "interface", "vnet0", "external_ids:iface-id"); len(strings.Trim(id, `"`)) != 36 {
		t.Errorf("iface-id is %s", id)
	}
	if got := vsctl(t, l, "get", "port", "vnet0", "tag"); got != "0" {
		t.Errorf("tag is %s, want 0", got)
	}
	if _, err := d.Apply(t.Context(), p.Reverse()); err != nil {
		t.Fatal(err)
	}
	if got := vsctl(t, l, "--columns=name", "find", "interface", "name=vnet0"); got != "" {
		t.Errorf("the interface is still there: %s", got)
	}
}

// TestInterfaceError checks that what ovs-vswitchd cannot do is an error, and
// that the undo of it works.
func TestInterfaceError(t *testing.T) {
	l := start(t)
	d := openOVS(t, "ovs0")
	p := plan(t, d, "lo", vnet.Policy{})
	applied, err := d.Apply(t.Context(), p)
	want := "switch ovs0: port lo: ovs-vswitchd refuses it: could not add network device lo to ofproto (Invalid argument)"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %q", err, want)
	}
	if diff := cmp.Diff(p.Changes, applied); diff != "" {
		t.Errorf("made in part counts as made (-want +got):\n%s", diff)
	}
	if _, err := d.Apply(t.Context(), p.Reverse()); err != nil {
		t.Errorf("undo: %v", err)
	}
	if got := vsctl(t, l, "list-ports", "ovs0"); got != "" {
		t.Errorf("after the undo there is still %s", got)
	}
}

// TestDeviceGone checks that a port whose device goes away between the look and
// the transaction is an error, and that nothing is made then. ovs-vswitchd would
// not say so: it may not have noticed yet.
func TestDeviceGone(t *testing.T) {
	l := start(t)
	for _, device := range []string{"vnet0", "vnet1"} {
		ip(t, "tuntap", "add", "dev", device, "mode", "tap")
		vsctl(t, l, "add-port", "ovs0", device)
	}
	d := openOVS(t, "ovs0")
	p := plan(t, d, "vnet0", vlan(vnet.VLANSet{Access: 20}))
	p.Changes = append(p.Changes, plan(t, d, "vnet1", vlan(vnet.VLANSet{Access: 20})).Changes...)
	ip(t, "link", "del", "vnet0")
	applied, err := d.Apply(t.Context(), p)
	if !errors.Is(err, switchcfg.ErrNoPort) || !strings.Contains(err.Error(), "port vnet0") {
		t.Errorf("got error %v, want %v of vnet0", err, switchcfg.ErrNoPort)
	}
	if len(applied) > 0 {
		t.Errorf("says it made %v", applied)
	}
	for _, device := range []string{"vnet0", "vnet1"} {
		if got := vsctl(t, l, "get", "port", device, "tag"); got != "[]" {
			t.Errorf("%s has tag %s, want none", device, got)
		}
	}
}

// TestUndoOfWhatNoSpecCanSay checks that VLAN settings which only ovs-vsctl can
// make are seen as drift and come back on undo.
func TestUndoOfWhatNoSpecCanSay(t *testing.T) {
	l := start(t)
	ip(t, "tuntap", "add", "dev", "vnet0", "mode", "tap")
	vsctl(t, l, "add-port", "ovs0", "vnet0")
	look := func() string {
		return vsctl(t, l, "--columns=tag,trunks,vlan_mode", "list", "port", "vnet0")
	}
	for _, c := range []struct {
		set  []string
		seen string
	}{
		{[]string{"tag=20", "trunks=10,11,12", "vlan_mode=dot1q-tunnel"}, "tunnel 20 and tag=20 trunks=10-12 vlan_mode=dot1q-tunnel"},
		{[]string{"tag=20", "trunks=10"}, "access 20 and tag=20 trunks=10"},
		{[]string{"trunks=0,10"}, "trunk 10 and trunks=0,10"},
		{[]string{"vlan_mode=native-untagged"}, "trunk 1-4094 and vlan_mode=native-untagged"},
		{[]string{"tag=20", "vlan_mode=access"}, "access 20"},
		{[]string{"tag=20"}, "access 20"},
		{[]string{"trunks=10,11,13"}, "trunk 10-11,13"},
		{[]string{"vlan_mode=trunk"}, "trunk 1-4094"},
		{[]string{"tag=10", "trunks=10,20", "vlan_mode=native-tagged"}, "trunk 10,20 native 10 tagged"},
	} {
		vsctl(t, l, "clear", "port", "vnet0", "tag", "trunks", "vlan_mode")
		vsctl(t, l, append([]string{"set", "port", "vnet0"}, c.set...)...)
		before := look()
		d := openOVS(t, "ovs0")
		p := plan(t, d, "vnet0", vlan(vnet.VLANSet{Access: 30}))
		if got := p.Changes[0].Before.Settings.VLAN.String(); got != c.seen {
			t.Errorf("%v: observed %q, want %q", c.set, got, c.seen)
		}
		for _, p := range []switchcfg.Plan{p, p.Reverse()} {
			if _, err := d.Apply(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		// Saying what goes without saying is the one thing that is not kept.
		want := strings.NewReplacer(": access", ": []", ": trunk", ": []").Replace(before)
		if diff := cmp.Diff(want, look()); diff != "" {
			t.Errorf("%v: not restored (-want +got):\n%s", c.set, diff)
		}
	}
}

// TestConflict checks that Apply looks again when a port changed hands between
// its look and its transaction: the plan still holds, or it is refused.
func TestConflict(t *testing.T) {
	l := start(t)
	for _, device := range []string{"vnet0", "vnet1", "vnet2"} {
		ip(t, "tuntap", "add", "dev", device, "mode", "tap")
		vsctl(t, l, "add-port", "ovs0", device)
	}
	d := openOVS(t, "ovs0")
	access := vlan(vnet.VLANSet{Access: 20})

	p := plan(t, d, "vnet0", access)
	vsctl(t, l, "del-port", "vnet0", "--", "add-port", "ovs0", "vnet0", "--", "set", "port", "vnet0", "external_ids:theirs=1")
	if _, err := d.Apply(t.Context(), p); err != nil {
		t.Errorf("a port made anew: %v", err)
	}
	if got := vsctl(t, l, "get", "port", "vnet0", "tag", "external_ids:theirs"); got != "20\n\"1\"" {
		t.Errorf("tag and foreign key are %q", got)
	}

	p = plan(t, d, "vnet1", access)
	vsctl(t, l, "set", "port", "vnet1", "external_ids:virt-vnet-guest=another")
	if applied, err := d.Apply(t.Context(), p); !errors.Is(err, switchcfg.ErrNotOwned) || len(applied) > 0 {
		t.Errorf("a port taken: applied %v, error %v, want %v", applied, err, switchcfg.ErrNotOwned)
	}

	p = plan(t, d, "vnet2", access)
	vsctl(t, l, "del-port", "vnet2", "--", "add-port", "ovs1", "vnet2")
	if applied, err := d.Apply(t.Context(), p); !errors.Is(err, switchcfg.ErrNotOwned) || len(applied) > 0 {
		t.Errorf("a port moved: applied %v, error %v, want %v", applied, err, switchcfg.ErrNotOwned)
	}
	for _, device := range []string{"vnet1", "vnet2"} {
		if got := vsctl(t, l, "get", "port", device, "tag"); got != "[]" {
			t.Errorf("%s has tag %s, want none", device, got)
		}
	}
}

func TestPermission(t *testing.T) {
	start(t)
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	got := helper(t, "open", nobody)
	want := "switch ovs0: /run/openvswitch/db.sock: not permitted: needs root (with CAP_DAC_OVERRIDE) or the group of Open vSwitch\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// As where Open vSwitch runs as a user of its own.
	if err := os.Chown("/run/openvswitch/db.sock", 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=open")
	if got, err := cmd.CombinedOutput(); err != nil || string(got) != want {
		t.Errorf("root without CAP_DAC_OVERRIDE: got %q, want %q (%v)", got, want, err)
	}
	if got := helper(t, "open", nil); got != "" {
		t.Errorf("as root: %s", got)
	}
}

// TestSweep checks that a vantage whose process has died goes with the next
// one, and that a living process keeps its own.
func TestSweep(t *testing.T) {
	l := start(t)
	d := openOVS(t, "ovs0")
	mine, err := d.OpenVantage(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if out := helper(t, "vantage", nil); out != "" {
		t.Fatal(out)
	}
	if got := strings.Fields(vsctl(t, l, "list-ports", "ovs0")); len(got) != 2 {
		t.Fatalf("there are ports %v, want mine and the dead process's", got)
	}
	second, err := d.OpenVantage(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{mine, second}, strings.Fields(vsctl(t, l, "list-ports", "ovs0"))); diff != "" {
		t.Errorf("vantages (-want +got):\n%s", diff)
	}
}

// TestNewerDatabase does with a database of a version that nobody has seen what it
// does with that of today.
func TestNewerDatabase(t *testing.T) {
	l := start(t)
	newer := switchtest.Newer(t, "/usr/share/openvswitch/vswitch.ovsschema")
	if out, err := l.Run(t.Context(), "ovsdb-client", "--timeout=10", "convert", "unix:/run/openvswitch/db.sock", newer); err != nil {
		t.Fatal(err, out)
	}
	switchtest.Conformance(t, fixture(l))
	a := station(t, l, "ovs0", "a", 1)
	sw := vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS, Uplink: "bond0"}
	for _, device := range []string{"near1", "near2"} {
		ip(t, "tuntap", "add", "dev", device, "mode", "tap")
	}
	sw.Bond = vnet.Bond{Members: []string{"near1", "near2"}}
	port := limited(a, vnet.QoS{Inbound: vnet.Rate{Bits: testRate}})
	port.Policy.AntiSpoof = true
	setSwitch(t, openSwitch(t, sw), sw, port)
}

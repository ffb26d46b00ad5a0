// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/virt-vnet/virt-vnet/internal/state"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const uuid = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

func newStore(t *testing.T) state.Store {
	t.Helper()
	dir := t.TempDir()
	return state.Store{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run")}
}

func network(name string) state.Network {
	return state.Network{
		Network: vnet.Network{
			Name: name, Mode: vnet.ModeBridge, Switch: "ovs0", MTU: 9000,
			Policy:     vnet.Policy{VLAN: vnet.VLANSet{Trunk: vnet.VLANRanges{{First: 20, Last: 29}}, Native: 10}, Flood: vnet.ToggleOff},
			Portgroups: []vnet.Portgroup{{Name: "web", Default: true, Policy: vnet.Policy{Isolated: true}}},
			OnFailure:  vnet.FailureWarn,
		},
		Switch: vnet.Switch{Name: "ovs0", Driver: vnet.DriverOVS, Uplink: "eno1"},
	}
}

func guest() state.Guest {
	port := switchcfg.Port{Device: "vnet0", Switch: "ovs0", Settings: switchcfg.Settings{MTU: 1500}}
	after := port
	after.Owner = switchcfg.Owner{Guest: uuid, MAC: vnet.MAC{0x52, 0x54, 0, 0, 0, 1}, Network: "red"}
	after.Settings.VLAN = &vnet.VLANSet{Access: 20}
	return state.Guest{
		Guest:    vnet.GuestRef{Name: "g1", UUID: uuid},
		Updated:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		Complete: true,
		Ports:    []vnet.Port{{Device: "vnet0", Switch: "ovs0", Network: "red", Guest: vnet.GuestRef{Name: "g1", UUID: uuid}}},
		Switches: []vnet.Switch{{Name: "ovs0", Driver: vnet.DriverOVS}},
		Undo:     []switchcfg.Plan{{Switch: "ovs0", Changes: []switchcfg.Change{{Device: "vnet0", Before: port, After: after}}}},
	}
}

func TestBadRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"empty":               {"", state.ErrDamaged},
		"torn":                {`{"format":1,"network":{"name":"re`, state.ErrDamaged},
		"garbage":             {"\x00\x01\x02", state.ErrDamaged},
		"not a record":        {`[]`, state.ErrDamaged},
		"no format":           {`{"network":{"name":"red"}}`, state.ErrDamaged},
		"newer":               {`{"format":2,"network":{"name":"red"}}`, state.ErrNewer},
		"newer, other types":  {`{"format":7,"network":["red"]}`, state.ErrNewer},
		"value from nowhere":  {`{"format":1,"network":{"name":"red","mode":"teleport"}}`, state.ErrDamaged},
		"of another network":  {`{"format":1,"network":{"name":"blue"}}`, state.ErrDamaged},
		"of no network":       {`{"format":1}`, state.ErrDamaged},
		"zeros after a crash": {strings.Repeat("\x00", 300), state.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if err := s.PutNetwork(network("blue")); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(s.StateDir, "networks", "red.json"), tc.text)
			_, err := s.Network("red")
			if !errors.Is(err, tc.want) {
				t.Fatalf("Network: %v, want %v", err, tc.want)
			}
			if !strings.Contains(err.Error(), "red.json") {
				t.Errorf("the error does not name the file: %v", err)
			}
			if err := s.PutNetwork(network("red")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Network("red"); err != nil {
				t.Errorf("after writing it anew: %v", err)
			}
		})
	}
}

func TestBadRecordHidesNoOther(t *testing.T) {
	s := newStore(t)
	if err := s.PutGuest(guest()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.RunDir, "guests", "ffffffff-1d52-d8f3-2516-782e98ab3fa0.json"), "{")
	write(t, filepath.Join(s.RunDir, "guests", ".new-123"), "{")
	write(t, filepath.Join(s.RunDir, "guests", "README"), "not a record")
	guests, err := s.Guests()
	if len(guests) != 1 || guests[0].Guest.Name != "g1" {
		t.Errorf("Guests: %v, want g1", guests)
	}
	if !errors.Is(err, state.ErrDamaged) || strings.Contains(err.Error(), "README") || strings.Contains(err.Error(), ".new") {
		t.Errorf("Guests: error %v, want one damaged record", err)
	}
}

func TestNetworks(t *testing.T) {
	s := newStore(t)
	if _, err := s.Network("red"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v, want fs.ErrNotExist", err)
	}
	if list, err := s.Networks(); len(list) != 0 || err != nil {
		t.Errorf("no directory: %v, %v, want nothing", list, err)
	}
	for _, name := range []string{"red", "blue", "red"} {
		if err := s.PutNetwork(network(name)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Network("red")
	if err != nil {
		t.Fatal(err)
	}
	want := network("red")
	want.Format = 1
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("Network (-want +got):\n%s", diff)
	}
	list, err := s.Networks()
	if err != nil || len(list) != 2 || list[0].Network.Name != "blue" {
		t.Errorf("Networks: %v, %v, want blue and red", list, err)
	}
	for range 2 { // gone already is fine
		if err := s.RemoveNetwork("red"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Network("red"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v, want fs.ErrNotExist", err)
	}
}

func TestGuests(t *testing.T) {
	s := newStore(t)
	if _, err := s.Guest(uuid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v, want fs.ErrNotExist", err)
	}
	if err := s.PutGuest(guest()); err != nil {
		t.Fatal(err)
	}
	got, err := s.Guest(strings.ToUpper(uuid))
	if err != nil {
		t.Fatal(err)
	}
	want := guest()
	want.Format = 1
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("Guest (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := s.RemoveGuest(uuid); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Guests(); len(list) != 0 || err != nil {
		t.Errorf("Guests: %v, %v, want none", list, err)
	}
}

// No name may lead out of the directory, and no two names to one file.
func TestNamesStayInside(t *testing.T) {
	s := newStore(t)
	names := []string{"../x", "..", ".", "", ".hidden", "a/b", "a%2Fb", "rot und grün", "red\n", "-", "red.json"}
	for _, name := range names {
		if err := s.PutNetwork(network(name)); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	for _, name := range names {
		if got, err := s.Network(name); err != nil || got.Network.Name != name {
			t.Errorf("%q: %q, %v", name, got.Network.Name, err)
		}
	}
	list, err := s.Networks()
	if err != nil || len(list) != len(names) {
		t.Errorf("%d networks, %v, want %d", len(list), err, len(names))
	}
	outside, err := filepath.Glob(filepath.Join(s.StateDir, "*"))
	if err != nil || len(outside) != 1 {
		t.Errorf("files beside the directory: %v, %v", outside, err)
	}
	long := strings.Repeat("n", 300)
	if _, err := s.Network(long); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("name of 300 bytes: %v, want an error of its own", err)
	}
}

func TestNoUUID(t *testing.T) {
	s := newStore(t)
	for _, bad := range []string{
		"", "g1", "../../etc/passwd", uuid + "0", uuid[:35], strings.ReplaceAll(uuid, "-", "0"),
		"4dea22b3-1d52-d8f3-2516-782e98ab3fag", "4dea22b3/1d52-d8f3-2516-782e98ab3fa0",
	} {
		_, errGet := s.Guest(bad)
		_, errLock := s.LockGuest(t.Context(), bad)
		errPut := s.PutGuest(state.Guest{Guest: vnet.GuestRef{UUID: bad}})
		for _, err := range []error{errGet, errLock, errPut, s.RemoveGuest(bad)} {
			if err == nil || !strings.Contains(err.Error(), "no UUID") || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: error %v, want that it is no UUID", bad, err)
			}
		}
	}
	if _, err := os.Stat(s.RunDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}

func TestRuns(t *testing.T) {
	s := newStore(t)
	if _, err := s.LastRun("qemu"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no run: %v, want fs.ErrNotExist", err)
	}
	failed := state.Run{Driver: "qemu", Object: "g1", Operation: "start", Result: state.ResultRefused, Error: "no"}
	fine := state.Run{Driver: "qemu", Object: "g1", Operation: "release", Result: state.ResultOK, Duration: time.Millisecond}
	for _, run := range []state.Run{failed, fine} {
		if err := s.PutRun(run); err != nil {
			t.Fatal(err)
		}
	}
	last, err := s.LastRun("qemu")
	if err != nil || last.Operation != "release" {
		t.Errorf("LastRun: %v, %v, want release", last, err)
	}
	lastError, err := s.LastError()
	if err != nil || lastError.Error != "no" {
		t.Errorf("LastError: %v, %v, want the one of start", lastError, err)
	}
	if err := s.PutReload(state.Reload{PIDs: []int{7}}); err != nil {
		t.Fatal(err)
	}
	if reload, err := s.LastReload(); err != nil || !cmp.Equal(reload.PIDs, []int{7}) {
		t.Errorf("LastReload: %v, %v", reload, err)
	}
	for range 2 {
		if err := s.RemoveRuns(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.LastRun("qemu"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v, want fs.ErrNotExist", err)
	}
}

// A reader must never see half a record while it is written.
func TestWritesAreAtomic(t *testing.T) {
	s := newStore(t)
	if err := s.PutNetwork(network("red")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for range 200 {
			if err := s.PutNetwork(network("red")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for reads := 0; ; reads++ {
		select {
		case err := <-done:
			if err != nil || reads == 0 {
				t.Fatalf("%v after %d reads", err, reads)
			}
			return
		default:
		}
		if _, err := s.Network("red"); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

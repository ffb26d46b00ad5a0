// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/virt-vnet/virt-vnet/libvirtnet"
)

// maxPayload is the most XML the hook takes, in bytes. A domain with a thousand
// devices has less than a megabyte.
const maxPayload = 4 << 20

// Event is one call of the hook program by libvirt.
type Event struct {
	// Driver is libvirt's driver: "qemu", "network", ...
	Driver string
	// Object is the name of the guest or the network.
	Object string
	// Operation, Sub and Extra are the other three arguments, such as
	// "start", "begin" and "-".
	Operation string
	Sub       string
	Extra     string
	// Payload is what libvirt wrote to stdin: the XML of the object.
	Payload []byte
}

// libvirtDrivers are those that call hooks (virHookDriver).
func libvirtDrivers() []string {
	return []string{"daemon", "qemu", "lxc", "network", "libxl", "bhyve"}
}

// ErrPayloadTooLarge means that there was more XML on stdin than any guest has.
var ErrPayloadTooLarge = errors.New("too much XML on stdin")

// ParseEvent reads an event from the arguments libvirt passes, the program's
// own name first, and from stdin. The driver is the program's file name, or the
// directory it is in: ".../hooks/qemu", ".../hooks/qemu.d/virt-vnet". The event
// is valid but for its payload when the error is [ErrPayloadTooLarge].
func ParseEvent(args []string, stdin io.Reader) (Event, error) {
	ev, err := parseArgs(args)
	if err != nil {
		return Event{}, err
	}
	ev.Payload, err = readPayload(stdin)
	return ev, err
}

func parseArgs(args []string) (Event, error) {
	const usage = "want the arguments of a libvirt hook: OBJECT OPERATION SUB-OPERATION EXTRA"
	if len(args) < 4 || len(args) > 5 {
		return Event{}, fmt.Errorf("%d arguments: %s", max(len(args)-1, 0), usage)
	}
	ev := Event{Driver: driverOf(args[0]), Object: args[1], Operation: args[2], Sub: args[3], Extra: "-"}
	if len(args) == 5 {
		ev.Extra = args[4]
	}
	if !slices.Contains(libvirtDrivers(), ev.Driver) {
		return Event{}, fmt.Errorf("%q is no libvirt driver: the program must run as .../hooks/qemu or .../hooks/qemu.d/NAME, "+
			"or one of %s", ev.Driver, strings.Join(libvirtDrivers(), ", "))
	}
	if ev.Object == "" || ev.Operation == "" {
		return Event{}, errors.New("an empty argument: " + usage)
	}
	return ev, nil
}

// driverOf tells the driver from the path the program was started by.
func driverOf(path string) string {
	if driver, ok := strings.CutSuffix(filepath.Base(filepath.Dir(path)), ".d"); ok {
		return driver
	}
	return filepath.Base(path)
}

// readPayload reads all of stdin up to the limit. What is beyond stays unread.
func readPayload(stdin io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(stdin, maxPayload+1))
	if err != nil {
		return data, fmt.Errorf("read stdin: %w", err)
	}
	if len(data) > maxPayload {
		return data, fmt.Errorf("%w: more than %d bytes: this is no libvirt domain", ErrPayloadTooLarge, maxPayload)
	}
	return data, nil
}

// parsePort returns what the network hook's XML says of the NIC that plugs in,
// as a guest with that one NIC. Before libvirt 5.5 it says the network only.
func parsePort(payload []byte) (libvirtnet.Domain, error) {
	n, err := libvirtnet.ParseHookNetwork(payload)
	if err != nil {
		return libvirtnet.Domain{}, err
	}
	nic := libvirtnet.DomainNIC{Type: "network", Network: n.Name, Bridge: n.Bridge}
	if n.Port == nil {
		return libvirtnet.Domain{NICs: []libvirtnet.DomainNIC{nic}}, nil
	}
	nic.MAC, nic.Portgroup = n.Port.MAC, n.Port.Portgroup
	return libvirtnet.Domain{Name: n.Port.Owner.Name, UUID: n.Port.Owner.UUID, NICs: []libvirtnet.DomainNIC{nic}}, nil
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// siblingPrefix starts the names of our macvlans, which go on with the process
// and a number.
const siblingPrefix = "vvs"

// openSibling makes a macvlan beside the macvtaps on a device of the host. The
// host itself cannot look: a macvlan's lower device never reaches its children
// (ip-link(8)).
func openSibling(lower link, number int) (string, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("%s%d.%d", siblingPrefix, os.Getpid(), number)
	attrs.ParentIndex = lower.index
	device := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := netlink.LinkAdd(device); err != nil {
		return "", lacking(fmt.Errorf("add macvlan %s: %w", attrs.Name, err), capNetAdmin)
	}
	if err := startSibling(device); err != nil {
		return "", errors.Join(fmt.Errorf("macvlan %s: %w", attrs.Name, err), closeSibling(attrs.Name))
	}
	return attrs.Name, nil
}

func startSibling(device *netlink.Macvlan) error {
	mark, err := alias("vantage")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetAlias(device, mark); err != nil {
		return err
	}
	quiet(device.Name)
	return netlink.LinkSetUp(device)
}

// closeSibling removes the macvlan. The kernel may have done so: it goes with the
// device below it.
func closeSibling(name string) error {
	device, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(device)
	}
	if errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove macvlan %s: %w", name, err)
	}
	return nil
}

// aliasFormat marks a device as ours (ip-link(8), alias): what it is for, and
// the process it belongs to. A process ID means nothing in another process
// namespace, so that is there too.
const aliasFormat = "virt-vnet %s pid=%d ns=%s"

func alias(purpose string) (string, error) {
	ns, err := processNamespace()
	return fmt.Sprintf(aliasFormat, purpose, os.Getpid(), ns), err
}

func processNamespace() (string, error) { return os.Readlink("/proc/self/ns/pid") }

// sweepSiblings removes the macvlans of processes that are gone.
func sweepSiblings(host links) error {
	var errs []error
	for name, l := range host {
		if l.kind != "macvlan" || !strings.HasPrefix(name, siblingPrefix) || !orphan(l.alias) {
			continue
		}
		if err := closeSibling(name); err != nil {
			errs = append(errs, fmt.Errorf("a dead process left it: %w", err))
		}
	}
	return errors.Join(errs...)
}

// orphan reports whether the process that an alias of ours names is gone.
func orphan(text string) bool {
	var purpose, ns string
	var pid int
	if _, err := fmt.Sscanf(text, aliasFormat, &purpose, &pid, &ns); err != nil || pid <= 0 {
		return false
	}
	here, err := processNamespace()
	return err == nil && here == ns && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// quiet keeps the host's IP stack from using a device of ours: no router
// solicitations into the guests' network, no forwarding of their answers, and no
// answers of its own for the host's other addresses, which guests would take to
// be at a MAC that is soon gone.
// Where sysctls are read-only the device is merely noisier.
func quiet(device string) {
	for path, value := range map[string]string{
		"/proc/sys/net/ipv6/conf/" + device + "/disable_ipv6": "1",
		"/proc/sys/net/ipv4/conf/" + device + "/forwarding":   "0",
		"/proc/sys/net/ipv4/conf/" + device + "/arp_ignore":   "1",
	} {
		_ = os.WriteFile(path, []byte(value), 0)
	}
}

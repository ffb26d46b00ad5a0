// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package virtapi

import (
	"errors"
	"fmt"
	"strings"

	"libvirt.org/go/libvirt"
)

// Errors of this package. Test for them with [errors.Is].
var (
	// ErrNoLibrary means that this machine has no libvirt client library.
	ErrNoLibrary = errors.New("libvirt.so.0 is not installed")
	// ErrNotRunning means that no libvirt answers at the URI, or no longer.
	ErrNotRunning = errors.New("libvirt does not answer")
	// ErrPermission means that the caller may not use libvirt there.
	ErrPermission = errors.New("not permitted")
	// ErrNoNetwork means that libvirt has no network of that name.
	ErrNoNetwork = errors.New("no such network")
	// ErrForeign means that a network is there and is not ours to change.
	ErrForeign = errors.New("not ours: it has no virt-vnet mark")
	// ErrInUse means that running guests are on a network.
	ErrInUse = errors.New("in use")
	// ErrNoGuest means that libvirt has no guest of that name.
	ErrNoGuest = errors.New("no such guest")
	// ErrNoInterface means that a guest has no interface with that MAC address.
	ErrNoInterface = errors.New("no such interface")
)

// openError says why a connection could not be opened, and what to do.
func openError(uri string, err error) error {
	if uri == "" {
		uri = "default URI"
	}
	lv, ok := errors.AsType[libvirt.Error](err)
	if !ok {
		return fmt.Errorf("libvirt %s: open: %w", uri, err)
	}
	says := lv.Message
	switch sentinel := classify(lv); {
	case errors.Is(sentinel, ErrNoLibrary):
		return fmt.Errorf("%w: install it: apt-get install libvirt0, dnf install libvirt-libs", sentinel)
	case errors.Is(sentinel, ErrPermission):
		return fmt.Errorf("libvirt %s: open: %w (%s): run as root, or join the group libvirt", uri, sentinel, says)
	case lv.Code == libvirt.ERR_SYSTEM_ERROR, lv.Domain == libvirt.FROM_RPC, errors.Is(sentinel, ErrNotRunning):
		return fmt.Errorf("libvirt %s: open: %w (%s): %s", uri, ErrNotRunning, says, startHint(uri))
	default:
		return fmt.Errorf("libvirt %s: open: %s: want a URI such as qemu:///system or qemu+ssh://host/system", uri, says)
	}
}

// startHint says how to get a libvirt to answer.
func startHint(uri string) string {
	if strings.Contains(uri, "+ssh:") {
		return "can you log in there? try: ssh HOST virsh version"
	}
	return "is it running? try: systemctl start libvirtd, or virtqemud.socket and virtnetworkd.socket; or name another one with --connect"
}

// callError says what failed, of which object, with the sentinel that fits. No
// error stays none.
func callError(what string, err error) error {
	if err == nil {
		return nil
	}
	lv, ok := errors.AsType[libvirt.Error](err)
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	if sentinel := classify(lv); sentinel != nil {
		return fmt.Errorf("%s: %w (%s)", what, sentinel, lv.Message)
	}
	return fmt.Errorf("%s: %s", what, lv.Message)
}

// classify returns the sentinel for an error of libvirt, or nil. Libvirt has no
// codes for most of what can go wrong with a socket: there the message decides.
// It is always in English here, because Go programs set no locale.
func classify(err libvirt.Error) error {
	switch err.Code {
	case libvirt.ERR_NO_NETWORK:
		return ErrNoNetwork
	case libvirt.ERR_NO_DOMAIN:
		return ErrNoGuest
	case libvirt.ERR_AUTH_FAILED, libvirt.ERR_AUTH_CANCELLED, libvirt.ERR_AUTH_UNAVAILABLE,
		libvirt.ERR_ACCESS_DENIED, libvirt.ERR_OPERATION_DENIED:
		return ErrPermission
	case libvirt.ERR_SYSTEM_ERROR, libvirt.ERR_INTERNAL_ERROR, libvirt.ERR_RPC, libvirt.ERR_NO_CONNECT, libvirt.ERR_INVALID_CONN:
	default:
		return nil
	}
	for _, sign := range []struct {
		text     string
		sentinel error
	}{
		{"libvirt.so", ErrNoLibrary},
		{"ermission denied", ErrPermission},
		{"client socket is closed", ErrNotRunning},
		{"onnection reset", ErrNotRunning},
		{"roken pipe", ErrNotRunning},
		{"End of file while reading", ErrNotRunning},
		{"connection closed due to keepalive timeout", ErrNotRunning},
		{"ailed to connect socket", ErrNotRunning},
	} {
		if strings.Contains(err.Message, sign.text) {
			return sign.sentinel
		}
	}
	return nil
}

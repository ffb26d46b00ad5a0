// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"runtime/debug"
)

// programPath is the main package of the hook program: how one of ours is told
// from other people's.
const programPath = "github.com/virt-vnet/virt-vnet/cmd/virt-vnet-hook"

// isOurs reports whether the program at path, or where a link there leads to, is
// some version of our hook program.
func isOurs(path string) bool {
	_, ours := programVersion(path)
	return ours
}

// programVersion returns the version of the hook program at path, and whether it
// is one.
func programVersion(path string) (version string, ours bool) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	info, err := buildInfo(data)
	if err != nil || info.Path != programPath {
		return "", false
	}
	return info.Main.Version, true
}

var errNoBuildInfo = errors.New("no build information of Go")

// buildInfo reads what the Go linker writes into every program since Go 1.18
// (see package debug/buildinfo, which does the same, and whose packages for all
// the formats of executables would be initialised at each start of a guest): a
// header of 32 bytes at a multiple of 16, then two strings with their lengths,
// Go's version and the modules, the latter between marks of 16 bytes.
func buildInfo(program []byte) (*debug.BuildInfo, error) {
	const magic, header, align, inlineFlag, mark = "\xff Go buildinf:", 32, 16, 2, 16
	for at := 0; ; at += align {
		next := bytes.Index(program[at:], []byte(magic))
		if next < 0 {
			return nil, errNoBuildInfo
		}
		at += next
		if at%align != 0 {
			at -= at % align // not at its place: text that mentions it
			continue
		}
		rest := program[at:]
		if len(rest) < header || rest[len(magic)+1]&inlineFlag == 0 {
			continue
		}
		_, rest, ok := prefixed(rest[header:])
		if !ok {
			continue
		}
		modules, _, ok := prefixed(rest)
		if !ok || len(modules) <= 2*mark {
			continue
		}
		return debug.ParseBuildInfo(string(modules[mark : len(modules)-mark]))
	}
}

// prefixed splits off bytes that stand behind their number.
func prefixed(data []byte) (head, rest []byte, ok bool) {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return nil, nil, false
	}
	return data[size : size+int(n)], data[size+int(n):], true
}

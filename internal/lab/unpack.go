// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// errNotUnpacked says that the installed kernel must boot as it is.
var errNotUnpacked = errors.New("kernel cannot be started unpacked")

// unpack writes the kernel that is packed in k.image to path. QEMU starts
// an ELF kernel with a PVH entry directly: without firmware and without
// unpacking under emulation, which halves a guest's time to boot. Any error
// means that the packed one has to do.
func (k kernel) unpack(ctx context.Context, path string) error {
	config, err := os.ReadFile(strings.Replace(k.image, "vmlinuz", "config", 1))
	if err != nil || !strings.Contains(string(config), "\nCONFIG_PVH=y\n") {
		return errNotUnpacked
	}
	if _, err := os.Stat(path); err == nil {
		return nil // an earlier Lab of this process did it
	}
	image, err := os.ReadFile(k.image)
	if err != nil {
		return err
	}
	packed, err := payload(image)
	if err != nil {
		return err
	}
	elf, err := unpack(ctx, packed)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(elf, []byte("\x7fELF")) {
		return errNotUnpacked
	}
	if err := os.WriteFile(path+".new", elf, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// payload cuts the packed kernel out of a bzImage, by the fields setup_sects,
// payload_offset and payload_length of Documentation/arch/x86/boot.rst.
func payload(image []byte) ([]byte, error) {
	if len(image) < 0x250 {
		return nil, errNotUnpacked
	}
	start := (int(image[0x1f1])+1)*512 + int(binary.LittleEndian.Uint32(image[0x248:]))
	end := start + int(binary.LittleEndian.Uint32(image[0x24c:]))
	if end > len(image) || end < start+8 {
		return nil, errNotUnpacked
	}
	if packer(image[start:end]) != "gzip" {
		end -= 4 // the unpacked size, which only gzip has in its own format
	}
	return image[start:end], nil
}

// packer names the program that unpacks data, or nothing.
func packer(data []byte) string {
	for magic, name := range map[string]string{"\xfd7zXZ\x00": "xz", "\x28\xb5\x2f\xfd": "zstd", "\x1f\x8b": "gzip"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return name
		}
	}
	return ""
}

// unpack returns data unpacked, or as it is when it is not packed.
func unpack(ctx context.Context, data []byte) ([]byte, error) {
	name := packer(data)
	if name == "" {
		return data, nil
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, name, "-dc")
	cmd.Stdin, cmd.Stdout = bytes.NewReader(data), &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return out.Bytes(), nil
}

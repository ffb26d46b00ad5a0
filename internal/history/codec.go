// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// pack is gzip of JSON.
func pack(v any) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(w).Encode(v), w.Close()); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

func unpack(data []byte, v any) error {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := json.NewDecoder(r).Decode(v); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	// The checksum is at the end.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package history

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"iter"

	"github.com/virt-vnet/virt-vnet/verify"
)

// pack is gzip of JSON values, one after the other, so that no more than one is
// in memory as text.
func pack(values iter.Seq[any]) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	encoder := json.NewEncoder(w)
	for v := range values {
		if err := encoder.Encode(v); err != nil {
			return nil, fmt.Errorf("pack: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return b.Bytes(), nil
}

// unpack calls read with what gives back the values, in turn.
func unpack(data []byte, read func(next func(any) error) error) error {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := read(json.NewDecoder(r).Decode); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	// The checksum is at the end.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// packedReport comes before the NICs and the pairs of a report, which may be
// very many.
type packedReport struct {
	Report verify.Report `json:"report"` // without them
	NICs   int           `json:"nics"`
	Pairs  int           `json:"pairs"`
}

func packReport(r verify.Report) ([]byte, error) {
	return pack(func(yield func(any) bool) {
		head := packedReport{Report: r, NICs: len(r.NICs), Pairs: len(r.Pairs)}
		head.Report.NICs, head.Report.Pairs = nil, nil
		if !yield(head) {
			return
		}
		for i := range r.NICs {
			if !yield(&r.NICs[i]) {
				return
			}
		}
		for i := range r.Pairs {
			if !yield(&r.Pairs[i]) {
				return
			}
		}
	})
}

func unpackReport(data []byte) (verify.Report, error) {
	var head packedReport
	err := unpack(data, func(next func(any) error) error {
		if err := next(&head); err != nil {
			return err
		}
		head.Report.NICs = []verify.NICResult{}
		for range head.NICs {
			var n verify.NICResult
			if err := next(&n); err != nil {
				return err
			}
			head.Report.NICs = append(head.Report.NICs, n)
		}
		for range head.Pairs {
			var p verify.PairResult
			if err := next(&p); err != nil {
				return err
			}
			head.Report.Pairs = append(head.Report.Pairs, p)
		}
		return nil
	})
	return head.Report, err
}

func packProblem(p verify.Problem) ([]byte, error) {
	return pack(func(yield func(any) bool) { yield(p) })
}

func unpackProblem(data []byte) (p verify.Problem, err error) {
	err = unpack(data, func(next func(any) error) error { return next(&p) })
	return p, err
}

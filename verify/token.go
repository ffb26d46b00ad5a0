// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"bytes"
	"encoding/binary"
)

// token identifies one of our frames wherever it turns up: the run, what the
// frame is for, and the NICs it goes from and to, by their index in the run.
// The zero token is on none of our frames.
type token uint64

// purpose is what a frame is for.
type purpose uint8

const (
	purposeProbe     purpose = iota + 1 // from a vantage
	purposeUnicast                      // as a guest, to one MAC
	purposeBroadcast                    // as a guest, to everybody
	purposeGateway                      // as a guest, to its gateway
	purposeProbe6                       // from a vantage, over IPv6
	purposeRouse                        // from a vantage, to whoever does not answer that
	purposeConflict                     // from a vantage, to all who have an address
	purposeLength                       // from a vantage, as long as the last field says
	purposeLatency                      // from a vantage, the how manyth the last field says
)

// The fields of a token, in bits. 2^18 NICs is far beyond one host.
const (
	indexBits   = 18
	purposeBits = 4
	runBits     = 64 - 2*indexBits - purposeBits

	maxNICs = 1<<indexBits - 1
)

func newToken(run uint32, p purpose, from, to int) token {
	t := uint64(run) & (1<<runBits - 1)
	t = t<<purposeBits | uint64(p)
	t = t<<indexBits | uint64(from)
	return token(t<<indexBits | uint64(to))
}

func (t token) run() uint32      { return uint32(t >> (2*indexBits + purposeBits)) }
func (t token) purpose() purpose { return purpose(t >> (2 * indexBits) & (1<<purposeBits - 1)) }
func (t token) from() int        { return int(t >> indexBits & maxNICs) }
func (t token) to() int          { return int(t & maxNICs) }

func (t token) put(b []byte) {
	if t == 0 || len(b) < markLength {
		return
	}
	copy(b, magic[:])
	binary.BigEndian.PutUint64(b[len(magic):], uint64(t))
}

func readToken(b []byte) token {
	if len(b) < markLength || !bytes.Equal(b[:len(magic)], magic[:]) {
		return 0
	}
	return token(binary.BigEndian.Uint64(b[len(magic):]))
}

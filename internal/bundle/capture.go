// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// MaxFrames is how many frames a capture has at most, and maxFrame how many
// bytes of one.
const (
	MaxFrames = 64
	maxFrame  = 400
)

// Capture listens at a device until ctx ends or there are MaxFrames frames, and
// returns them as a pcap file. Both directions are seen. Only what configures a
// network (ARP, ND, ICMP, DHCP, spanning tree, LLDP) is kept whole; of everything
// else the headers are. ready is called as soon as it listens. It needs
// CAP_NET_RAW.
func Capture(ctx context.Context, device string, ready func()) (data []byte, frames int, err error) {
	handle, err := pcapgo.NewEthernetHandle(device)
	if err != nil {
		return nil, 0, fmt.Errorf("capture at %s: %w", device, err)
	}
	closed := context.AfterFunc(ctx, func() { _ = handle.Close() }) // the read below fails then
	defer func() {
		if closed() {
			err = errors.Join(err, handle.Close())
		}
	}()
	var out bytes.Buffer
	file := pcapgo.NewWriterNanos(&out)
	if err := file.WriteFileHeader(maxFrame, layers.LinkTypeEthernet); err != nil {
		return nil, 0, err
	}
	ready()
	for frames < MaxFrames {
		frame, info, err := handle.ReadPacketData()
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			break
		}
		if err != nil {
			return nil, 0, fmt.Errorf("capture at %s: %w", device, err)
		}
		frame = headers(frame)
		info.CaptureLength = len(frame)
		if err := file.WritePacket(info, frame); err != nil {
			return nil, 0, err
		}
		frames++
	}
	return out.Bytes(), frames, nil
}

// headers is a frame without what it carries for others.
func headers(frame []byte) []byte {
	end := 0
	for _, layer := range gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy).Layers() {
		switch layer.LayerType() {
		case layers.LayerTypeEthernet, layers.LayerTypeDot1Q, layers.LayerTypeLLC, layers.LayerTypeSNAP,
			layers.LayerTypeIPv4, layers.LayerTypeIPv6:
			end += len(layer.LayerContents())
			continue
		}
		end += kept(layer)
		break
	}
	return frame[:min(len(frame), end, maxFrame)]
}

// kept is how many bytes are kept of a layer and what is in it.
func kept(layer gopacket.Layer) int {
	const quote = 20 + 8 // the headers of a datagram that an ICMP error quotes
	head, payload := len(layer.LayerContents()), len(layer.LayerPayload())
	switch layer := layer.(type) {
	case *layers.ARP, *layers.STP, *layers.LinkLayerDiscovery:
		return head + payload
	case *layers.TCP:
		return head
	case *layers.UDP:
		if next := layer.NextLayerType(); next == layers.LayerTypeDHCPv4 || next == layers.LayerTypeDHCPv6 {
			return head + payload
		}
		return head
	case *layers.ICMPv4:
		switch layer.TypeCode.Type() {
		case layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem:
			return head + quote
		}
		return head
	case *layers.ICMPv6:
		switch layer.TypeCode.Type() {
		case layers.ICMPv6TypeRouterSolicitation, layers.ICMPv6TypeRouterAdvertisement,
			layers.ICMPv6TypeNeighborSolicitation, layers.ICMPv6TypeNeighborAdvertisement:
			return head + payload
		case layers.ICMPv6TypePacketTooBig, layers.ICMPv6TypeDestinationUnreachable:
			return head + 4 + 40 + 8
		}
		return head + 4
	}
	return 0
}

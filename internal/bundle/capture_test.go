// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/virt-vnet/virt-vnet/internal/bundle"
	"github.com/virt-vnet/virt-vnet/internal/lab"
	"github.com/virt-vnet/virt-vnet/internal/lab/labtest"
)

func TestMain(m *testing.M) { lab.Main(m) }

// A port of a bridge is captured while a station pings and tells a secret.
func TestCapture(t *testing.T) {
	lab.Need(t)
	l := labtest.Start(t, lab.Options{})
	if err := l.AddLinuxBridge(t.Context(), "br0"); err != nil {
		t.Fatal(err)
	}
	here := &lab.Station{Name: "here", Bridge: "br0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}}
	there := &lab.Station{Name: "there", Bridge: "br0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}}
	for _, s := range []*lab.Station{here, there} {
		if err := l.AddStation(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	talk := func() {
		go func() {
			defer stop()
			if err := here.WaitPing(ctx, netip.MustParseAddr("10.0.0.2"), 10*time.Second); err != nil {
				t.Error(err)
			}
			if err := here.Do(func() error { return tell(ctx, "10.0.0.2:5555") }); err != nil {
				t.Error(err)
			}
			time.Sleep(100 * time.Millisecond)
		}()
	}
	data, frames, err := bundle.Capture(ctx, here.Device, talk)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(canary)) {
		t.Error("the secret is in the capture")
	}
	reader, err := pcapgo.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[gopacket.LayerType]int{}
	read := 0
	for {
		frame, _, err := reader.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		read++
		for _, layer := range gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layers() {
			seen[layer.LayerType()]++
		}
	}
	if read != frames || frames == 0 || frames > bundle.MaxFrames {
		t.Errorf("%d frames, %d said", read, frames)
	}
	for _, want := range []gopacket.LayerType{layers.LayerTypeARP, layers.LayerTypeICMPv4, layers.LayerTypeUDP} {
		if seen[want] < 1 {
			t.Errorf("no %s: %v", want, seen)
		}
	}
	if seen[layers.LayerTypeICMPv4] < 2 {
		t.Errorf("one direction only: %v", seen)
	}
}

// tell sends the secret in short and in long datagrams.
func tell(ctx context.Context, to string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", to)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing was buffered
	for _, text := range []string{canary, string(bytes.Repeat([]byte(canary), 50))} {
		_, err = conn.Write([]byte(text))
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = nil // the answer to the one before, which quotes it
		}
	}
	return err
}

func TestCaptureOfNothing(t *testing.T) {
	lab.Need(t)
	if _, _, err := bundle.Capture(t.Context(), "nosuch0", func() {}); err == nil {
		t.Error("captured at a device that is not there")
	}
}

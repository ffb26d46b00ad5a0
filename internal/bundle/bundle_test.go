// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/virt-vnet/virt-vnet/internal/bundle"
)

// unpack returns the files of an archive.
func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	archive := tar.NewReader(zipped)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Mode != 0o600 || header.Uid != 0 || header.Uname != "" {
			t.Errorf("%s: mode %o of %d %q", header.Name, header.Mode, header.Uid, header.Uname)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(content)
	}
}

func TestBundle(t *testing.T) {
	at := time.Date(2026, 3, 1, 2, 3, 4, 567, time.FixedZone("", 3600))
	write := func() []byte {
		var b bundle.Bundle
		b.AddText("spec/1-site.yaml", []byte("# password: "+canary+"\nnetworks: {}\n"))
		b.AddJSON("host/rules.json", []byte(`{"secret":"`+canary+`"}`))
		b.AddJSON("host/broken.json", []byte("password "+canary))
		b.AddXML("libvirt/domains/web1.xml", []byte(domainXML))
		b.AddXML("libvirt/domains/web2.xml", []byte("<domain>"))
		b.Add("captures/vnet0.pcap", []byte{1, 2, 3})
		b.AddText("long.txt", bytes.Repeat([]byte("x"), 9<<20))
		b.Miss("ovs/show.txt", errors.New("exit status 1: password "+canary))
		b.Miss("hook.log", errors.New("no journalctl"))
		var out bytes.Buffer
		if err := b.Write(&out, at); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	data := write()
	if !bytes.Equal(data, write()) {
		t.Error("the same files make different bundles")
	}
	files := unpack(t, data)
	for name, content := range files {
		if bytes.Contains([]byte(content), []byte(canary)) {
			t.Errorf("the secret is in %s:\n%s", name, content)
		}
	}
	wantNames := []string{
		"virt-vnet-bundle/MANIFEST.json", "virt-vnet-bundle/captures/vnet0.pcap", "virt-vnet-bundle/host/broken.json",
		"virt-vnet-bundle/host/rules.json", "virt-vnet-bundle/libvirt/domains/web1.xml", "virt-vnet-bundle/long.txt",
		"virt-vnet-bundle/spec/1-site.yaml",
	}
	if diff := cmp.Diff(wantNames, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	var m bundle.Manifest
	if err := json.Unmarshal([]byte(files[wantNames[0]]), &m); err != nil {
		t.Fatal(err)
	}
	wantMissing := []bundle.Missing{
		{What: "hook.log", Why: "no journalctl"},
		{What: "libvirt/domains/web2.xml", Why: "XML: not a whole document"},
		{What: "ovs/show.txt", Why: "exit status 1: password [removed]"},
	}
	if diff := cmp.Diff(wantMissing, m.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	if m.Version != 1 || !m.Created.Equal(at.Truncate(time.Second)) || len(m.Files) != 6 {
		t.Errorf("manifest %+v", m)
	}
	for _, f := range m.Files {
		if f.Size != len(files["virt-vnet-bundle/"+f.Name]) || f.Cut != (f.Name == "long.txt") {
			t.Errorf("manifest has %+v", f)
		}
		if kept := f.Name == "captures/vnet0.pcap" || f.Name == "long.txt"; kept != (f.Removed == 0) {
			t.Errorf("manifest has %+v", f)
		}
	}
}

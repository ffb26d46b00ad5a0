// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package bundle

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"
)

// Version is the version of the layout of bundles.
const Version = 1

// root is the directory that all files of a bundle are in.
const root = "virt-vnet-bundle"

// maxFile is the most bytes of one file. The rest is cut off, which the manifest
// says.
const maxFile = 8 << 20

// Bundle is the files of a bundle while they are collected.
type Bundle struct {
	files  map[string]entry
	missed []Missing
}

type entry struct {
	data    []byte
	removed int
	cut     bool
}

// Missing is something that should be in a bundle and is not.
type Missing struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Manifest is the file MANIFEST.json of a bundle.
type Manifest struct {
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	Files   []File    `json:"files"`
	Missing []Missing `json:"missing"`
}

// File is one file of a bundle.
type File struct {
	Name string `json:"name"`
	Size int    `json:"size"`
	// Removed is how many places were taken out of it as secret or as none of
	// the network's business.
	Removed int `json:"removed,omitempty"`
	// Cut means that the file was too long, and its end is missing.
	Cut bool `json:"cut,omitempty"`
}

// Add adds a file as it is. Use it for what holds no secret by its making.
func (b *Bundle) Add(name string, data []byte) { b.add(name, data, 0) }

// AddText adds a text without the secrets in it.
func (b *Bundle) AddText(name string, data []byte) {
	text, removed := Text(string(data))
	b.add(name, []byte(text), removed)
}

// AddJSON adds a JSON document without the secrets in it. What is no JSON is
// added as text.
func (b *Bundle) AddJSON(name string, data []byte) {
	clean, removed, err := JSON(data)
	if err != nil {
		b.AddText(name, data)
		return
	}
	b.add(name, clean, removed)
}

// AddXML adds the parts that concern the network of libvirt's XML of a domain or
// a network.
func (b *Bundle) AddXML(name string, data []byte) {
	clean, removed, err := XML(data)
	if err != nil {
		b.Miss(name, err)
		return
	}
	text, more := Text(clean)
	b.add(name, []byte(text), removed+more)
}

func (b *Bundle) add(name string, data []byte, removed int) {
	if b.files == nil {
		b.files = map[string]entry{}
	}
	kept := data[:min(len(data), maxFile)]
	b.files[name] = entry{kept, removed, len(kept) < len(data)}
}

// Miss notes that something could not be had.
func (b *Bundle) Miss(what string, why error) {
	text, _ := Text(why.Error())
	b.missed = append(b.missed, Missing{what, text})
}

// Write writes the bundle as a gzip-compressed tar archive. The same files and
// the same time make the same bytes.
func (b *Bundle) Write(w io.Writer, created time.Time) error {
	created = created.UTC().Truncate(time.Second)
	manifest, err := b.manifest(created)
	if err != nil {
		return err
	}
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	put := func(name string, data []byte) error {
		header := &tar.Header{Name: path.Join(root, name), Mode: 0o600, Size: int64(len(data)), ModTime: created, Format: tar.FormatPAX}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("bundle: %s: %w", name, err)
		}
		_, err := archive.Write(data)
		return err
	}
	if err := put("MANIFEST.json", manifest); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		if err := put(name, b.files[name].data); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return zipped.Close()
}

func (b *Bundle) manifest(created time.Time) ([]byte, error) {
	m := Manifest{Version: Version, Created: created, Files: []File{}, Missing: []Missing{}}
	for _, name := range slices.Sorted(maps.Keys(b.files)) {
		e := b.files[name]
		m.Files = append(m.Files, File{name, len(e.data), e.removed, e.cut})
	}
	m.Missing = append(m.Missing, b.missed...)
	slices.SortFunc(m.Missing, func(x, y Missing) int { return cmp.Or(cmp.Compare(x.What, y.What), cmp.Compare(x.Why, y.Why)) })
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/bundle"
	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/report"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

const (
	// commandLimit bounds each program that is run for a bundle.
	commandLimit = 5 * time.Second
	// maxCaptures is at how many ports frames are captured.
	maxCaptures = 16
)

func bundleFlag() cli.Flag {
	return &cli.StringFlag{
		Name:  "bundle",
		Usage: "also pack report, definitions, states, rules and frames of failing ports into `FILE`.tar.gz for a colleague, without secrets",
	}
}

// bundler makes the file of --bundle.
type bundler struct {
	bundle.Bundle

	site *site
	spec *config.Spec
	look *looker
	file *renameio.PendingFile
}

// newBundler makes sure that the file can be written, before the long run.
func newBundler(path string, s *site, spec *config.Spec) (*bundler, error) {
	file, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o600), renameio.IgnoreUmask())
	if err != nil {
		return nil, usagef("--bundle %s: %w", path, err)
	}
	return &bundler{site: s, spec: spec, file: file}, nil
}

// pack collects everything and writes the file.
func (b *bundler) pack(ctx context.Context, result report.Result) error {
	b.report(result)
	b.captures(ctx, result.Report)
	b.libvirt(ctx)
	b.specFiles()
	b.states("state/run", b.site.store.RunDir)
	b.states("state/lib", b.site.store.StateDir)
	for _, p := range b.programs() {
		b.program(ctx, p)
	}
	b.versions()
	if err := b.Write(b.file, result.Started); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := b.file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return nil
}

func (b *bundler) report(result report.Result) {
	var data, text bytes.Buffer
	if err := report.JSON(&data, result); err != nil {
		b.Miss("report.json", err)
	} else {
		b.AddJSON("report.json", data.Bytes())
	}
	if err := report.Table(&text, result, report.Style{Width: 100}); err != nil {
		b.Miss("report.txt", err)
	} else {
		b.AddText("report.txt", text.Bytes())
	}
}

// captures asks the guests that failed once more and records what their ports
// see.
func (b *bundler) captures(ctx context.Context, result verify.Report) {
	var guests, devices []string
	for _, n := range result.NICs {
		bad := n.Status == verify.StatusFail || n.Status == verify.StatusInconclusive
		if !bad || n.Device == "" || slices.Contains(devices, n.Device) {
			continue
		}
		if len(devices) == maxCaptures {
			b.Miss("captures", fmt.Errorf("more than %d ports failed: the others are not captured", maxCaptures))
			break
		}
		guests, devices = append(guests, n.Guest), append(devices, n.Device)
	}
	if len(devices) == 0 {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	var mu sync.Mutex // of the bundle
	var listening, done sync.WaitGroup
	for _, device := range devices {
		listening.Add(1)
		ready := sync.OnceFunc(listening.Done)
		done.Go(func() {
			defer ready()
			data, frames, err := bundle.Capture(ctx, device, ready)
			mu.Lock()
			defer mu.Unlock()
			switch name := "captures/" + url.PathEscape(device) + ".pcap"; {
			case err != nil:
				b.Miss(name, err)
			case frames == 0:
				b.Miss(name, errors.New("not one frame was seen"))
			default:
				b.Add(name, data)
			}
		})
	}
	listening.Wait()
	_, err := b.look.verify(ctx, verify.Options{Switches: b.look, Guests: guests, Log: b.site.log}, 0)
	stop()
	done.Wait()
	if err != nil {
		b.Miss("captures: the guests were not asked again", err)
	}
}

// libvirt takes the definitions of our networks and of the guests in them.
func (b *bundler) libvirt(ctx context.Context) {
	err := b.site.again(ctx, func() error {
		guests, err := b.site.guests(ctx)
		for _, g := range guests {
			if _, expected := b.site.topology.Guest(g.Name); !expected && !usesAny(g.Domain, b.site.topology.Networks) {
				continue
			}
			text, err := b.site.conn.DomainXML(ctx, g.Name, false)
			if err != nil {
				return err
			}
			b.AddXML("libvirt/domains/"+url.PathEscape(g.Name)+".xml", []byte(text))
		}
		return err
	})
	if err != nil {
		b.Miss("libvirt/domains", err)
	}
	networks, err := b.site.conn.Networks(ctx)
	for _, n := range networks {
		if _, ours := b.site.topology.Network(n.Name); ours {
			b.AddXML("libvirt/networks/"+url.PathEscape(n.Name)+".xml", []byte(n.XML))
		}
	}
	if err != nil {
		b.Miss("libvirt/networks", err)
	}
}

func (b *bundler) specFiles() {
	for i, name := range b.spec.Files() {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Miss("spec", err)
			continue
		}
		// Files of several directories may have one name.
		b.AddText(fmt.Sprintf("spec/%d-%s", i+1, filepath.Base(name)), data)
	}
}

// states takes the records below dir.
func (b *bundler) states(name, dir string) {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed since it was listed
		}
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(dir, path)
		if err == nil {
			b.AddJSON(name+"/"+filepath.ToSlash(rest), data)
		}
		return err
	})
	if err != nil {
		b.Miss(name, err)
	}
}

// program is one to run for its output, which goes to the file name.
type program struct {
	name string
	argv []string
}

// programs are those that show what the host does with frames.
func (b *bundler) programs() []program {
	list := []program{
		{"host/uname.txt", []string{"uname", "-a"}},
		{"host/links.json", []string{"ip", "-d", "-s", "-j", "link"}},
		{"host/addresses.json", []string{"ip", "-j", "address"}},
		{"host/routes.json", []string{"ip", "-j", "route", "show", "table", "all"}},
		{"host/bridge-links.json", []string{"bridge", "-d", "-j", "link"}},
		{"host/bridge-vlans.json", []string{"bridge", "-j", "vlan"}},
		{"host/bridge-fdb.json", []string{"bridge", "-s", "-j", "fdb"}},
		{"host/rules.json", []string{"nft", "-j", "list", "ruleset"}},
		{"host/queues.json", []string{"tc", "-s", "-j", "qdisc", "show"}},
		{"host/sysctl-bridge.txt", []string{"sysctl", "net.bridge"}},
		{"hook.log", []string{"journalctl", "--identifier=virt-vnet-hook", "--lines=500", "--no-pager", "--output=short-iso"}},
	}
	for _, sw := range b.site.topology.Switches {
		if sw.Driver != vnet.DriverOVS {
			continue
		}
		name := "ovs/" + url.PathEscape(sw.Name)
		list = append(list,
			program{name + "-flows.txt", []string{"ovs-ofctl", "dump-flows", sw.Name}},
			program{name + "-fdb.txt", []string{"ovs-appctl", "fdb/show", sw.Name}})
		if !slices.ContainsFunc(list, func(p program) bool { return p.name == "ovs/show.txt" }) {
			list = append(list, program{"ovs/show.txt", []string{"ovs-vsctl", "--timeout=5", "show"}})
		}
	}
	return list
}

func (b *bundler) program(ctx context.Context, p program) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.WaitDelay = time.Second
	var errText bytes.Buffer
	cmd.Stderr = &errText
	out, err := cmd.Output()
	if err != nil {
		b.Miss(p.name, fmt.Errorf("%s: %w: %s", strings.Join(p.argv, " "), err, bytes.TrimSpace(errText.Bytes())))
	}
	switch {
	case len(out) == 0:
	case filepath.Ext(p.name) == ".json":
		b.AddJSON(p.name, out)
	default:
		b.AddText(p.name, out)
	}
}

func (b *bundler) versions() {
	data, err := json.Marshal(map[string]string{
		"virtVnet": version(), "go": runtime.Version(), "libvirt": b.site.conn.Version().String(), "uri": b.site.conn.URI(),
	})
	if err != nil {
		b.Miss("versions.json", err)
		return
	}
	b.AddJSON("versions.json", data)
}

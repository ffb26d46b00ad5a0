// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/verify"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func verifyCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "verify",
		Usage:     "prove which guests can talk and which cannot, and name what is broken",
		ArgsUsage: "[GUEST...]",
		Description: "Looks at every running guest with a NIC in a network of the spec, and at the guests the spec lists.\n" +
			"With hosts in the spec, guests of the other hosts are in the report, too: as their libvirt has them and,\n" +
			"in networks of OVN, as they answer through the tunnels. A host that does not answer makes it exit with 6.\n" +
			"Exit code: 0 all is well, 4 a check failed, 5 traffic arrived where it must not,\n" +
			"6 nothing failed, but not everything could be told; with -o nagios those of a monitoring\n" +
			"plugin: 0 OK, 2 CRITICAL, 3 UNKNOWN.\n\n" +
			"Files are replaced as a whole, and only by a run that came to an end. All in one run:\n\n" +
			"    virt-vnet verify --write json=report.json --write junit=report.xml --write prometheus=virt_vnet.prom",
		Flags: slices.Concat(reportFlags(), nightlyFlags(), []cli.Flag{
			fileFlag(),
			&cli.StringSliceFlag{Name: "network", Usage: "only guests of `NETWORK`"},
			&cli.BoolFlag{Name: "here", Usage: "only guests of this host, and not those of the spec's other hosts"},
			&cli.BoolFlag{Name: "full", Usage: "try every pair of guests, not one of each kind"},
			&cli.BoolFlag{Name: "latency", Usage: "measure how long answers take, in a slow pass of its own"},
			&cli.BoolFlag{Name: "dhcp", Usage: "ask for an address, and take none, in networks with guests that have none"},
			&cli.BoolFlag{Name: "in-guest", Usage: "look into guests that fail, by running ip in them through their agents"},
			&cli.DurationFlag{Name: "wait", Usage: "first wait up to `TIME`, such as 5m, for guests that are still booting"},
			bundleFlag(),
		}),
		Action: func(c *cli.Context) error {
			out, err := openReports(c, std)
			if err != nil {
				return asPlugin(c, std, err)
			}
			defer out.discard()
			err = onVerifyingHost(c, std, func(spec *config.Spec, s *site) error { return runVerify(c, std, out, spec, s) })
			return asPlugin(c, std, err)
		},
	}
}

func runVerify(c *cli.Context, std stdio, out reports, spec *config.Spec, s *site) error {
	if len(spec.Topology.Networks) == 0 {
		return usagef("there is no network in the spec, so nothing is expected of any guest; see virt-vnet define network --help")
	}
	s.elsewhere, s.only = len(spec.Topology.Hosts) > 0 && !c.Bool("here"), c.Args().Slice()
	if !s.local && !s.elsewhere {
		return usagef("verify looks at the switches of this machine, and %s is not this machine: run it there", s.conn.URI())
	}
	for _, name := range c.StringSlice("network") {
		if _, ok := spec.Topology.Network(name); !ok {
			return usagef("there is no network %s in the spec", name)
		}
	}
	if err := knownCodes(spec.Topology.Waivers); err != nil {
		return err
	}
	night, err := newNight(c)
	if err != nil {
		return err
	}
	look := &looker{site: s}
	defer look.close()
	var pack *bundler
	if path := c.String("bundle"); path != "" {
		if pack, err = newBundler(path, s, spec); err != nil {
			return err
		}
		pack.look = look
		defer pack.file.Cleanup() //nolint:errcheck // it is a temporary file still
	}
	result, err := look.report(c, std)
	if err != nil {
		return err
	}
	past := s.remember(c, std, &result)
	known := newResult(result, past)
	err = out.write(known)
	if err == nil && pack != nil {
		err = pack.pack(c.Context, known)
	}
	// Also of a report that got nowhere: no later night tells what changed in this.
	verdict := night.end(c, std, result, past)
	return cmp.Or(err, verdict)
}

// knownCodes checks that what waivers waive can come up.
func knownCodes(waivers []vnet.Waiver) error {
	for _, w := range waivers {
		same := func(i verify.CodeInfo) bool { return i.Code == w.Code }
		if w.Code != "" && !slices.ContainsFunc(verify.Codes(), same) {
			return usagef("%s: no problem has the code %s; docs/checks.md lists them", w.Where, w.Code)
		}
	}
	return nil
}

// report runs the check, with its progress on a terminal.
func (l *looker) report(c *cli.Context, std stdio) (verify.Report, error) {
	opts := verify.Options{
		Switches: l,
		Guests:   c.Args().Slice(),
		Networks: c.StringSlice("network"),
		Full:     c.Bool("full"),
		Latency:  c.Bool("latency") || c.Bool("nightly"),
		DHCP:     c.Bool("dhcp"),
		Log:      l.site.log,
		Progress: func(stage string) { l.site.log.Info("verify", "stage", stage) },
	}
	if c.Bool("in-guest") {
		in := &insider{uri: l.site.conn.URI()}
		defer in.close()
		opts.Inside = in
	}
	if c.Bool("nightly") { // at night there is time to hear every client
		opts.Timing.Discover = verify.DiscoverPause
	}
	if isTerminal(std.err) {
		step, done := showProgress(std.err)
		defer done()
		opts.Progress = step
	}
	started := time.Now()
	report, err := l.verify(c.Context, opts, c.Duration("wait"))
	if errors.Is(err, virtapi.ErrNotRunning) {
		return lostLibvirt(started, err), nil
	}
	return report, whole(std, report, err)
}

// whole returns the error of a run without a report. That one which has a report
// could not remove something is worth a line, and no more.
func whole(std stdio, report verify.Report, err error) error {
	if err == nil || report.Version == 0 {
		return err
	}
	warn(std, "%v", err)
	return nil
}

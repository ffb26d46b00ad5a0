// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/libvirtnet"
	"github.com/virt-vnet/virt-vnet/libvirtnet/virtapi"
	"github.com/virt-vnet/virt-vnet/switchcfg"
	"github.com/virt-vnet/virt-vnet/switchcfg/drivers"
	"github.com/virt-vnet/virt-vnet/vnet"
)

func defineCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:        "define",
		Usage:       "define a network, or an interface of a guest",
		Subcommands: []*cli.Command{defineNetworkCommand(std), defineInterfaceCommand(std)},
	}
}

func defineNetworkCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:      "network",
		Usage:     "define, autostart and start a network in libvirt, and have its guests wired",
		ArgsUsage: "NAME",
		Description: "Takes the network from flags, or from a spec with -f (all networks of it when no NAME is given).\n" +
			"A network defined by flags is kept as one file in the config directory, to be edited by hand.\n\n" +
			"  virt-vnet define network red --switch ovs0 --vlan 20\n" +
			"  virt-vnet define network trunk --switch br0 --trunk 10,20-29 --native 10\n" +
			"  virt-vnet define network edge --mode macvtap --device eno1",
		Flags: append(networkFlags(), fileFlag(), printXMLFlag(), libvirtVersionFlag()),
		Action: func(c *cli.Context) error {
			spec, networks, err := networksToDefine(c)
			if err != nil {
				return err
			}
			if c.Bool("print-xml") {
				return printNetworks(c, std, spec.Topology, networks)
			}
			return defineNetworks(c, std, spec, networks)
		},
	}
}

func networkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "mode", Usage: "bridge (default with --switch), macvtap (default with --device), nat or isolated"},
		&cli.StringFlag{Name: "switch", Usage: "`BRIDGE` the guests plug into"},
		&cli.StringFlag{Name: "driver", Usage: "linux or ovs, for a switch that is neither in the spec nor on this host"},
		&cli.StringFlag{Name: "vlan", Usage: "access VLAN `ID`"},
		&cli.StringFlag{Name: "trunk", Usage: "tagged VLANs, such as 10,20-29, or all"},
		&cli.StringFlag{Name: "native", Usage: "VLAN `ID` of a trunk's untagged frames"},
		&cli.BoolFlag{Name: "native-tagged", Usage: "send frames of the native VLAN with a tag, too"},
		&cli.StringFlag{Name: "device", Usage: "host `DEVICE` of a macvtap network"},
		&cli.StringFlag{Name: "macvtap", Usage: "bridge, vepa, private or passthrough"},
		&cli.IntFlag{Name: "mtu", Usage: "MTU in `BYTES`"},
		&cli.StringFlag{Name: "profile", Usage: "guest (default), or appliance: a router or firewall, which forwards for others"},
		&cli.BoolFlag{Name: "anti-spoof", Usage: "drop what guests send as somebody else, as a DHCP server or as a router"},
		&cli.StringFlag{Name: "inbound", Usage: "`RATE` towards each guest, such as 100mbit"},
		&cli.StringFlag{Name: "outbound", Usage: "`RATE` from each guest, such as 100mbit"},
		&cli.BoolFlag{Name: "isolated", Usage: "keep guests from each other, not from the uplink"},
		&cli.StringFlag{Name: "subnet", Usage: "addresses that live here, such as 10.0.20.0/24"},
		&cli.StringFlag{Name: "gateway", Usage: "router of the subnet"},
		&cli.StringFlag{Name: "on-failure", Usage: "when a guest cannot be wired: refuse its start (default) or warn"},
	}
}

// withoutLibvirt is the version that XML is printed for when no libvirt
// answers: all from then on take it.
const withoutLibvirt libvirtnet.Version = 5_000_000

func printXMLFlag() cli.Flag {
	return &cli.BoolFlag{Name: "print-xml", Usage: "print the libvirt XML and change nothing; needs no libvirt"}
}

func libvirtVersionFlag() cli.Flag {
	return &cli.StringFlag{
		Name:  "libvirt-version",
		Usage: "with --print-xml, the `VERSION` to print for; default is that of the libvirt that answers, or else " + withoutLibvirt.String(),
	}
}

// networksToDefine returns the whole spec as it will be, and which of its
// networks to define.
func networksToDefine(c *cli.Context) (*config.Spec, []vnet.Network, error) {
	name := c.Args().First()
	if c.Args().Len() > 1 {
		return nil, nil, usagef("define network takes one NAME, got %v", c.Args().Slice())
	}
	spec, err := loadSpec(c)
	if err != nil {
		return nil, nil, err
	}
	if c.IsSet("file") {
		return fromFile(c, spec, name)
	}
	if name == "" {
		return nil, nil, usagef("define network needs a NAME, or a spec with -f")
	}
	n, err := networkFromFlags(c, name)
	if err != nil {
		return nil, nil, usage(err)
	}
	if at, declared := spec.Where("networks", name); declared && !ownFile(c, spec, name) {
		return nil, nil, usagef("network %s is declared in %s: change it there, then run virt-vnet apply", name, at)
	}
	next, err := withNetwork(c, spec, n)
	if err != nil {
		return nil, nil, err
	}
	n, _ = next.Topology.Network(name)
	return next, []vnet.Network{n}, nil
}

func fromFile(c *cli.Context, spec *config.Spec, name string) (*config.Spec, []vnet.Network, error) {
	for _, flag := range networkFlags() {
		if c.IsSet(flag.Names()[0]) {
			return nil, nil, usagef("--%s and -f exclude each other", flag.Names()[0])
		}
	}
	if name == "" {
		return spec, spec.Topology.Networks, nil
	}
	n, ok := spec.Topology.Network(name)
	if !ok {
		return nil, nil, usagef("there is no network %s in %v", name, c.StringSlice("file"))
	}
	return spec, []vnet.Network{n}, nil
}

// withNetwork returns the spec with n in it, in place of the one of its name,
// and with the switch that n names, if the host has it.
func withNetwork(c *cli.Context, spec *config.Spec, n vnet.Network) (*config.Spec, error) {
	t := spec.Topology
	t.Networks = slices.DeleteFunc(slices.Clone(t.Networks), func(old vnet.Network) bool { return old.Name == n.Name })
	t.Networks = append(t.Networks, n)
	if _, known := t.Switch(n.Switch); !known && n.Switch != "" {
		driver, err := findDriver(c.Context, n.Switch, c.String("driver"))
		if err != nil {
			return nil, err
		}
		t.Switches = append(slices.Clone(t.Switches), vnet.Switch{Name: n.Switch, Driver: driver})
	}
	data, err := config.Encode(t)
	if err != nil {
		return nil, err
	}
	next, err := config.Parse("define network "+n.Name, data)
	if err != nil {
		return nil, usage(flagErrors(err))
	}
	return next, nil
}

// flagErrors leaves out the file and line of errors about a network that came
// from flags.
func flagErrors(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		var at *config.Error
		if errors.As(e, &at) {
			e = errors.New(at.Text)
		}
		errs = append(errs, e)
	}
	return errors.Join(errs...)
}

// findDriver is the driver that the user named, or that of the host's switch.
func findDriver(ctx context.Context, name, driver string) (vnet.Driver, error) {
	var d vnet.Driver
	if driver != "" {
		if err := d.UnmarshalText([]byte(driver)); err != nil {
			return 0, usage(fmt.Errorf("--driver: %w", err))
		}
		return d, nil
	}
	d, err := drivers.Detect(ctx, name)
	if errors.Is(err, switchcfg.ErrNoSwitch) {
		return 0, usagef("%w; declare it under switches: in the spec, or name its kind with --driver linux or --driver ovs", err)
	}
	return d, err
}

func networkFromFlags(c *cli.Context, name string) (vnet.Network, error) {
	n := vnet.Network{
		Name: name, Switch: c.String("switch"), Device: c.String("device"), MTU: c.Int("mtu"),
		Policy: vnet.Policy{Isolated: c.Bool("isolated"), AntiSpoof: c.Bool("anti-spoof")},
	}
	vlan := &n.Policy.VLAN
	vlan.NativeTagged = c.Bool("native-tagged")
	parsers := map[string]func(text string) error{
		"mode":       text(&n.Mode),
		"macvtap":    text(&n.Macvtap),
		"profile":    text(&n.Policy.Profile),
		"inbound":    text(&n.Policy.QoS.Inbound.Bits),
		"outbound":   text(&n.Policy.QoS.Outbound.Bits),
		"on-failure": text(&n.OnFailure),
		"vlan":       parsed(&vlan.Access, vnet.ParseVLANID),
		"native":     parsed(&vlan.Native, vnet.ParseVLANID),
		"trunk":      parsed(&vlan.Trunk, vnet.ParseVLANRanges),
		"subnet":     parsed(&n.Subnet, netip.ParsePrefix),
		"gateway":    parsed(&n.Gateway, netip.ParseAddr),
	}
	var errs []error
	for _, flag := range c.FlagNames() {
		if parse := parsers[flag]; parse != nil {
			if err := parse(c.String(flag)); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", flag, err))
			}
		}
	}
	return n, errors.Join(errs...)
}

// text parses with UnmarshalText.
func text(v interface{ UnmarshalText(text []byte) error }) func(string) error {
	return func(s string) error { return v.UnmarshalText([]byte(s)) }
}

// parsed parses with a function that returns the value.
func parsed[T any](v *T, parse func(string) (T, error)) func(string) error {
	return func(s string) (err error) {
		*v, err = parse(s)
		return err
	}
}

func printNetworks(c *cli.Context, std stdio, t vnet.Topology, networks []vnet.Network) error {
	version, err := printVersion(c)
	if err != nil {
		return err
	}
	for _, n := range networks {
		sw, _ := t.Switch(n.Switch)
		xml, err := libvirtnet.NetworkXML(n, sw, version)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		fmt.Fprintln(std.out, xml)
	}
	return nil
}

// printVersion is the libvirt version that --print-xml is for.
func printVersion(c *cli.Context) (libvirtnet.Version, error) {
	if text := c.String("libvirt-version"); text != "" {
		v, err := libvirtnet.ParseVersion(text)
		if err != nil {
			return 0, usage(err)
		}
		return v, nil
	}
	conn, err := virtapi.Open(c.Context, c.String("connect"))
	if err != nil {
		return withoutLibvirt, nil //nolint:nilerr // printing needs no libvirt
	}
	return conn.Version(), conn.Close()
}

// defineNetworks applies the networks and, when they came from flags, keeps
// them as files.
func defineNetworks(c *cli.Context, std stdio, spec *config.Spec, networks []vnet.Network) error {
	s, err := openSite(c, std, spec.Topology, c.String("connect"))
	if err != nil {
		return err
	}
	defer s.conn.Close() //nolint:errcheck // the work is done or has failed already
	keep := !c.IsSet("file") && s.local
	if keep {
		if err := checkFiles(c, networks[0]); err != nil {
			return err
		}
	}
	if err := s.apply(c.Context, networks, std); err != nil || !keep {
		return err
	}
	return keepNetwork(c, spec, networks[0])
}

// ownFile reports whether a network is declared in the file that define keeps it
// in, and nothing else is.
func ownFile(c *cli.Context, spec *config.Spec, name string) bool {
	at, declared := spec.Where("networks", name)
	return declared && at.File == networkFile(c, name) && spec.Alone("networks", name)
}

// checkFiles refuses to write over a file that holds something else.
func checkFiles(c *cli.Context, n vnet.Network) error {
	on, err := loadSpec(c)
	if err != nil {
		return err
	}
	files := map[string]bool{networkFile(c, n.Name): ownFile(c, on, n.Name)}
	if _, declared := on.Where("switches", n.Switch); n.Switch != "" && !declared {
		files[switchFile(c, n.Switch)] = false
	}
	for file, ours := range files {
		if _, err := os.Lstat(file); err == nil && !ours {
			return usagef("%s exists and holds something else: move it away, or declare network %s in it and run virt-vnet apply", file, n.Name)
		}
	}
	return nil
}

func networkFile(c *cli.Context, name string) string {
	return filepath.Join(c.String("config"), name+".yaml")
}

func switchFile(c *cli.Context, name string) string {
	return filepath.Join(c.String("config"), "switch-"+name+".yaml")
}

// keepNetwork writes the network's own file in the config directory, and one
// for its switch when no file declares that yet.
func keepNetwork(c *cli.Context, spec *config.Spec, n vnet.Network) error {
	on, err := loadSpec(c)
	if err != nil {
		return err
	}
	if sw, ok := spec.Topology.Switch(n.Switch); ok {
		if _, declared := on.Where("switches", sw.Name); !declared {
			if err := config.Write(switchFile(c, sw.Name), vnet.Topology{Switches: []vnet.Switch{sw}}); err != nil {
				return err
			}
		}
	}
	if sw, ok := spec.Topology.Switch(n.Switch); ok && n.MTU == sw.MTUFor(n) {
		n.MTU = 0 // it follows from the switch
	}
	return config.Write(networkFile(c, n.Name), vnet.Topology{Networks: []vnet.Network{n}})
}

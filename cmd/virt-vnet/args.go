// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of the command before its arguments, because the
// library stops looking for flags at the first argument, and people write
// "define network red --vlan 20". What comes after "--" stays an argument.
func flagsFirst(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	path, rest := args[:1:1], args[1:]
	commands, flags := app.Commands, app.Flags
	for {
		var own []string
		own, rest = takeFlags(flags, rest)
		path = append(path, own...)
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return len(rest) > 0 && c.HasName(rest[0]) })
		if i < 0 {
			break
		}
		path, rest = append(path, rest[0]), rest[1:]
		commands, flags = commands[i].Subcommands, commands[i].Flags
	}
	var arguments []string
	for len(rest) > 0 && rest[0] != "--" {
		arguments, rest = append(arguments, rest[0]), rest[1:]
		var own []string
		own, rest = takeFlags(flags, rest)
		path = append(path, own...)
	}
	if len(arguments)+len(rest) > 0 {
		path = append(path, "--")
	}
	return append(append(path, arguments...), strip(rest)...)
}

// takeFlags splits the flags with their values off the front of args.
func takeFlags(flags []cli.Flag, args []string) (own, rest []string) {
	n := 0
	for n < len(args) && strings.HasPrefix(args[n], "-") && args[n] != "-" && args[n] != "--" {
		if takesValue(flags, args[n]) {
			n++
		}
		n++
	}
	n = min(n, len(args))
	return args[:n], args[n:]
}

// takesValue reports whether the argument after flag is its value.
func takesValue(flags []cli.Flag, flag string) bool {
	name := strings.TrimLeft(flag, "-")
	if strings.Contains(name, "=") {
		return false
	}
	i := slices.IndexFunc(flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
	if i < 0 {
		return false
	}
	with, ok := flags[i].(cli.DocGenerationFlag)
	return ok && with.TakesValue()
}

func strip(rest []string) []string {
	if len(rest) > 0 && rest[0] == "--" {
		return rest[1:]
	}
	return rest
}

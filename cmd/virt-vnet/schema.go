// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
	"github.com/virt-vnet/virt-vnet/internal/report"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the spec, for editors, or of a report",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "report", Usage: "that of what verify -o json writes"},
		},
		Action: func(c *cli.Context) error {
			of := config.Schema
			if c.Bool("report") {
				of = report.Schema
			}
			schema, err := of()
			if err != nil {
				return err
			}
			_, err = std.out.Write(schema)
			return err
		},
	}
}

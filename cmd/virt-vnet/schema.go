// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"github.com/urfave/cli/v2"

	"github.com/virt-vnet/virt-vnet/internal/config"
)

func schemaCommand(std stdio) *cli.Command {
	return &cli.Command{
		Name:  "schema",
		Usage: "print the JSON Schema of the spec, for editors",
		Action: func(*cli.Context) error {
			schema, err := config.Schema()
			if err != nil {
				return err
			}
			_, err = std.out.Write(schema)
			return err
		},
	}
}

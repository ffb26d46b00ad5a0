// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package hooks_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/virt-vnet/virt-vnet/internal/lab"
)

// scratch is a directory for what is built once for all tests.
var scratch string

func TestMain(m *testing.M) {
	if spec, ok := os.LookupEnv(startEnv); ok {
		startUnit(spec)
		return
	}
	lab.Main(withScratch{m})
}

type withScratch struct{ *testing.M }

// Run runs the tests and removes the directory.
func (m withScratch) Run() int {
	dir, err := os.MkdirTemp("", "virt-vnet-hooks-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // nothing can be done about it
	scratch = dir
	return m.M.Run()
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package golden compares what a test made with a file of the repository, and
// writes the file when the test runs with -update. Generated documents and
// expected outputs are kept this way.
package golden

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// Check fails the test when the file does not hold got.
func Check(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run this test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not current; look at the difference, and run this test with -update if it is right (-file +now):\n%s", file, diff)
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package verify

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCodesAreAll holds the constants of codes.go against the list.
func TestCodesAreAll(t *testing.T) {
	text, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}
	var codes, listed []string
	for _, m := range regexp.MustCompile(`(?m)^\tCode\w+ += "(\w+)"$`).FindAllStringSubmatch(string(text), -1) {
		codes = append(codes, m[1])
	}
	for _, c := range Codes() {
		listed = append(listed, c.Code)
	}
	slices.Sort(codes)
	slices.Sort(listed)
	if diff := cmp.Diff(codes, listed); diff != "" {
		t.Errorf("constants, and what Codes has (-want +got):\n%s", diff)
	}
}

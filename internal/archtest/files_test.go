// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// root is the top of the checkout, seen from this package.
const root = "../.."

// goFiles returns the Go files of the repository.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryFileHasItsLicense(t *testing.T) {
	const header = "// SPDX-License-Identifier: Apache-2.0\n// Copyright The virt-vnet Authors\n"
	for _, name := range goFiles(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(data), header) {
			t.Errorf("%s does not start with\n%s", name, header)
		}
	}
}

// TestSkipsAreCounted keeps tests from skipping on their own: internal/lab.Need
// is the one place that may skip, and make test turns its skips into failures.
func TestSkipsAreCounted(t *testing.T) {
	for _, name := range goFiles(t) {
		if strings.Contains(filepath.ToSlash(name), "internal/lab/") || filepath.Base(name) == "files_test.go" {
			continue
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range []string{".Skip(", ".Skipf(", ".SkipNow("} {
			if strings.HasSuffix(name, "_test.go") && strings.Contains(string(data), "t"+call) {
				t.Errorf("%s calls t%s); use lab.Need", name, call)
			}
		}
	}
}

// TestExamplesAreWhole wants of every example what its user needs. That each is
// run is the business of test/examples_test.go, which walks the directory.
func TestExamplesAreWhole(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(root, "examples", "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, dir := range dirs {
		for _, name := range []string{"README.md", "spec.yaml", "plan.txt"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Errorf("example %s: %v", filepath.Base(dir), err)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package state_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestIncoming(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name  string
		then  func(t *testing.T, dir string) error
		later time.Duration
		want  bool
	}{
		{"at once", nil, 0, true},
		{"when its disks are made", nil, 30 * time.Minute, true},
		{"another day", nil, 24 * time.Hour, false},
		{"damaged", func(_ *testing.T, dir string) error {
			return os.WriteFile(filepath.Join(dir, "incoming", uuid+".json"), []byte("{"), 0o600)
		}, 24 * time.Hour, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			err := s.PutIncoming(uuid, now)
			if err == nil && test.then != nil {
				err = test.then(t, s.RunDir)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.TakeIncoming(uuid, now.Add(test.later)); err != nil || got != test.want {
				t.Errorf("comes from elsewhere: %t, %v, want %t", got, err, test.want)
			}
			if got, err := s.TakeIncoming(uuid, now); err != nil || got {
				t.Errorf("the next time: %t, %v, want false", got, err)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxNamed bounds how many guests an error names.
const maxNamed = 5

// causes is what went wrong with guests: a switch that does not answer is one
// error, however many guests are on it.
type causes []cause

type cause struct {
	err    error
	guests []string
}

// add takes note of the error of one guest, if it has one.
func (c *causes) add(guest string, err error) {
	if err == nil {
		return
	}
	same := func(other cause) bool { return other.err.Error() == err.Error() }
	if i := slices.IndexFunc(*c, same); i >= 0 {
		(*c)[i].guests = append((*c)[i].guests, guest)
		return
	}
	*c = append(*c, cause{err, []string{guest}})
}

// error is one error for each cause, or nil.
func (c causes) error() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, fmt.Errorf("%s: %w", guestNames(one.guests), one.err))
	}
	return errors.Join(errs...)
}

func guestNames(names []string) string {
	switch more := len(names) - maxNamed; {
	case len(names) == 1:
		return "guest " + names[0]
	case more > 0:
		return fmt.Sprintf("guests %s and %d more", strings.Join(names[:maxNamed], ", "), more)
	default:
		return "guests " + strings.Join(names, ", ")
	}
}

// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package report writes what a verification found: [Table] for people, [JSON]
// for machines.
//
// Both write the same report the same way every time, so that two runs can be
// compared as text. Out of scope: what to conclude from a report, which is
// verify's [verify.Report.Verdict], and where it goes.
package report

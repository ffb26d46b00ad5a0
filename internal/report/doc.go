// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package report writes what a verification found: [Table] and [HTML] for
// people, [JSON] for programs, [JUnit] for CI systems, [Prometheus] and [Nagios]
// for monitoring. [Write] writes any of them by its name.
//
// They write the same report the same way every time, so that two runs can be
// compared as text, and take names and texts for what they are: those of others.
// Out of scope: what to conclude from a report, which is verify's
// [verify.Report.Verdict], and where it goes.
package report

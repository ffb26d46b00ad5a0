// SPDX-License-Identifier: Apache-2.0
// Copyright The virt-vnet Authors

// Package history remembers what verifications found, and says what changed
// between them.
//
// The store is one SQLite file. Every run is in it whole, as compressed JSON;
// of nightly runs, which look at the whole site under the same conditions, also
// a few small rows that make comparing fast: the status and latency of each
// NIC, and how each problem stood. Runs are compared with the nightly runs
// before them, never with what somebody ran by hand in between.
//
// # How a problem stands
//
// A problem is the same as one before when it has the same code and is about
// the same subject. A NIC is known by its guest, MAC and network, for its device
// has another name after each start. A run finds a problem present; or absent,
// when it checked the same thing and that was fine; or it cannot tell, because
// the check was inconclusive or was not reached. What cannot be told leaves a
// problem as it stood.
//
//   - new: present, and absent the night before.
//   - still: present, and present the night before.
//   - fixed: absent, and present the night before.
//   - gone: none of the NICs it was about is there any more, and every libvirt
//     told of its guests.
//   - flapping: it changed between present and absent at least 3 times in the
//     last 7 nights, this one included. It is called flapping, present or not,
//     until it has not changed for 3 nights in a row; then it is still there, or
//     fixed.
//
// # What is slow
//
// A NIC's latency, the median of a paced measurement, is compared with the
// medians of up to 14 nights before, when there are at least 5. It is slow
// when it is above their median by more than 5 times their median absolute
// deviation, and at least 1.5 times that median, and at least 1 ms above it.
// That is a note, [verify.CodeSlow], in the report's problems. It makes no
// verdict worse, for a busy host is no broken network.
//
// # The file
//
// It has a rollback journal, not a write-ahead log: there is one short
// transaction a run, readers are rare, and a single file at rest can be read
// from a read-only file system, copied, and set aside when it is damaged. A
// crash or a full disk in the middle leaves what was there before.
//
// Out of scope: printing, and telling somebody.
package history

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
#
# Runs every test, one package at a time because many boot guests, and fails
# when one that can run on this machine was skipped. The linter has vetted all.
set -u
log=bin/test.log
mkdir -p bin
echo "running every test; details in $log"
: >"$log" # so that it can be followed at once
VIRT_VNET_REQUIRE_LAB=1 go test -vet=off -count=1 -p 1 -timeout 30m -v ./... >"$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null' INT TERM
tail --pid="$pid" -n +1 -f "$log" | grep --line-buffered -E '^(ok|FAIL|---|panic:|    --- (FAIL|SKIP))' | grep --line-buffered -v -- '^--- PASS'
wait "$pid"
status=$?
if [ "$status" != 0 ]; then
	echo "---- what failed, from $log:"
	grep -E -B 40 '^ *--- FAIL' "$log" | tail -n 200
fi
# What was broken, and what verify named.
sed -n '/rows: the cause, columns: what verify named:/,/^ *--- \|^ *[a-z_]*_test\.go/p' "$log" | grep -v -e '---'
passed=$(grep -c -E '^ *--- PASS' "$log")
failed=$(grep -c -E '^ *--- FAIL' "$log")
skipped=$(grep -c -E '^ *--- SKIP' "$log")
if [ "$skipped" != 0 ]; then
	echo "these tests were skipped, and none may be here:"
	grep -E -A 3 '^ *--- SKIP' "$log"
	status=1
fi
if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"

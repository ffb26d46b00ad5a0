#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright The virt-vnet Authors
#
# Installs what building, the lab and the tests need and what is missing, from
# Debian's own packages, and those of more lists if any are given. Run as root:
# make demo and make test do.
set -eu

here=$(dirname "$0")
# The Go that go.mod names comes by itself once there is one from 1.21 on.
go_is_usable() {
	command -v go >/dev/null && GOTOOLCHAIN=local go version | grep -Eq 'go1\.(2[1-9]|[3-9][0-9])'
}

# Programs whose packages start a service when they are installed are taken out
# of them: Prometheus' own checker of metrics, and the guest agent, for the lab's
# guests and not for this machine.
programs=/var/cache/virt-vnet
taken='prometheus:usr/bin/promtool qemu-guest-agent:usr/sbin/qemu-ga'
# not_taken lists those of them that are not here.
not_taken() {
	for what in $taken; do
		program=${what##*/}
		command -v "$program" >/dev/null || [ -x "$programs/$program" ] || echo "$what"
	done
}

missing=
for package in $(awk '!/^#/ && NF { print $1 }' "$here/../internal/lab/packages.txt" "$here/packages.txt" "$@" | sort -u); do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
untaken=$(not_taken)
if [ -z "$missing$untaken" ] && go_is_usable; then
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	echo "setup: not root, so these packages cannot be installed:$missing$(go_is_usable || echo ' golang-go (1.21 or newer)')${untaken:+ $(echo "$untaken" | tr "\n" " ") (the program is enough)}" >&2
	exit 1
fi

export DEBIAN_FRONTEND=noninteractive
if [ -n "$missing$untaken" ]; then
	apt-get update -qq
fi
if [ -n "$missing" ]; then
	echo "setup: installing$missing"
	# shellcheck disable=SC2086 # a list of words
	apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

for what in $untaken; do
	package=${what%%:*} path=${what#*:}
	echo "setup: fetching ${path##*/}"
	scratch=$(mktemp -d)
	# Root's own directory is closed to the user that apt downloads as.
	(cd "$scratch" && apt-get -o APT::Sandbox::User=root download -qq "$package")
	dpkg-deb --fsys-tarfile "$scratch/$package"_*.deb | tar -x -C "$scratch" "./$path"
	install -D -m 0755 "$scratch/$path" "$programs/${path##*/}"
	rm -r "$scratch"
done

# Debian 12's Go is too old, that of its backports is not. The backports are
# used for this one package, and the machine's list of sources stays as it is.
if ! go_is_usable; then
	echo "setup: installing Go from Debian's backports"
	lists=$(mktemp -d)
	trap 'rm -rf "$lists"' EXIT
	mkdir -p "$lists/parts" "$lists/state/partial"
	. /etc/os-release
	mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
		sed -nE 's/^(deb|URIs:) +(\[[^]]*\] +)?(https?:[^ ]*debian\/?)( .*)?$/\3/p' | head -n 1)
	echo "deb ${mirror:?no Debian mirror in the list of sources} $VERSION_CODENAME-backports main" >"$lists/parts/backports.list"
	cp /etc/apt/sources.list.d/* "$lists/parts/" 2>/dev/null || true
	chmod -R a+rX "$lists"
	set -- -o "Dir::Etc::sourceparts=$lists/parts" -o "Dir::State::lists=$lists/state"
	apt-get "$@" update -qq
	apt-get "$@" install -y -qq --no-install-recommends -t "$VERSION_CODENAME-backports" golang-go >/dev/null
fi

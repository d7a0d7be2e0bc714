#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Gets the newest of Debian 12's cloud kernels of a series, and prints the directory with what is in its package
# (boot/vmlinuz-*, lib/modules/*). Called by run.sh. Installs nothing and changes nothing of apt's: its sources, lists
# and archives are a set of their own in DIR, where they stay for the next time.
#
#   tests/kernels/fetch.sh SERIES DIR      SERIES: 6.1 or 6.12
#
# Debian's mirror is http://deb.debian.org, or what MIRROR says.
set -euo pipefail
series=$1
apt=$2/apt
readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The one that is there already; an unfinished directory has another name.
there() {
	find "$1" -mindepth 1 -maxdepth 1 -name "linux-image-$series.[0-9]*-cloud-amd64" | sort -V | tail -1
}

sources() {
	local suite
	for suite in debian:bookworm debian:bookworm-backports debian-security:bookworm-security; do
		echo "deb [arch=amd64 signed-by=$KEYRING] ${MIRROR:-http://deb.debian.org}/${suite%:*} ${suite#*:} main"
	done
}

apt_with() { # TOOL ARGUMENT...
	local tool=$1
	shift
	"$tool" -q -o "Dir::Etc::SourceList=$apt/sources.list" -o "Dir::Etc::SourceParts=$apt/none" \
		-o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt" -o "APT::Sandbox::User=$(id -un)" \
		-o APT::Architecture=amd64 -o APT::Architectures=amd64 "$@"
}

newest() {
	apt_with apt-cache pkgnames "linux-image-$series." |
		grep -xE "linux-image-${series//./\\.}\.[0-9]+(-[0-9]+|\+deb[0-9]+)?-cloud-amd64" | sort -V | tail -1
}

mkdir -p "$2"
dir=$(there "$2")
if [ -z "$dir" ]; then
	mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/none"
	sources >"$apt/sources.list"
	apt_with apt-get update >&2
	package=$(newest)
	if [ -z "$package" ]; then
		echo "fetch: Debian 12 has no cloud kernel $series any more" >&2
		exit 1
	fi
	dir=$2/$package
	rm -rf "$dir.part" "$apt/$package"_*.deb
	(cd "$apt" && apt_with apt-get download "$package" >&2)
	dpkg -x "$apt/$package"_*.deb "$dir.part"
	rm -f "$apt/$package"_*.deb
	/sbin/depmod -b "$dir.part" "$(ls "$dir.part/lib/modules")"
	mv "$dir.part" "$dir"
fi
echo "$dir"

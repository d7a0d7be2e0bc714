#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Makes the guest's root file system, an archive that its kernel unpacks into memory. Called by run.sh. The guest runs
# what this machine runs: programs and libraries as they are here, with what was built; and of its kernel's modules
# those that the mesh and its tests use.
#
#   tests/kernels/image.sh KERNEL-DIR OUTPUT [E2E-TEST]...      $BUILD: what was built
set -euo pipefail
readonly MODULES='veth bridge tcp_diag dummy'
readonly PACKAGES='bash coreutils curl dash findutils grep hostname iproute2 kmod mawk mount procps sed util-linux'
kernel=$1 output=$2
shift 2
cd "$(dirname "$0")/../.."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

libraries() { # of what is on stdin, NUL between names; scripts have none
	{ xargs -0 ldd 2>/dev/null || true; } | grep -oE '/[^ :()]+\.so[^ :()]*'
}

copy() { # files on stdin, a line each, to the same places
	sed -E 's,^/(bin|sbin|lib|lib64)/,/usr/\1/,' | sort -u | xargs cp -L --parents -t "$root"
}

add_modules() {
	local version
	version=$(ls "$kernel/lib/modules")
	# shellcheck disable=SC2086 # a list
	/sbin/modprobe -d "$kernel" -S "$version" -a --show-depends $MODULES | awk '$1 == "insmod" { print $2 }' |
		sort -u | sed "s|^$kernel||" | (cd "$kernel" && sed 's/^/./' | xargs cp --parents -t "$root")
	cp "$kernel/lib/modules/$version"/modules.* "$root/lib/modules/$version/"
}

# A tree as the tests expect it: tests/run.sh, sources that name the tests, what was built.
add_project() { # E2E-TEST...
	local test file
	mkdir -p "$root/mesh/build/tests/e2e"
	for file in meshd mesh-agent meshctl demo tests/bpf tests/bench; do
		cp -r "$BUILD/$file" "$root/mesh/build/$(dirname "$file")"
	done
	for test in "$@"; do
		cp "$BUILD/tests/e2e/test_$test" "$root/mesh/build/tests/e2e"
		cp --parents "tests/e2e/test_$test.c" "$root/mesh"
	done
	cp --parents -t "$root/mesh" tests/run.sh demo/vhost tests/bpf/test_*.c
	find "$root/mesh/build" -type f \( -name '*.d' -o -name '*.o' \) -delete
	find "$root/mesh/build" -type f -exec strip {} +
}

mkdir -p "$root"/{usr/{bin,sbin,lib,lib64},etc,dev,proc,sys,run,tmp,root,var/lib}
for file in bin sbin lib lib64; do
	ln -s "usr/$file" "$root/$file"
done
# shellcheck disable=SC2086 # a list
{
	dpkg -L $PACKAGES | grep -xE '(/usr)?/s?bin/[^/]+'
	echo /usr/bin/awk
} | copy
add_modules
add_project "$@"
find "$root" -type f -perm -100 -print0 | libraries | copy
printf 'root:x:0:0::/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
cp tests/kernels/init "$root/init"
(cd "$root" && find . -mindepth 1 -print0 | cpio --quiet -0 -o -H newc -R 0:0) >"$output"

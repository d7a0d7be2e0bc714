#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing to build and test sockmesh, on Debian 12 or newer. `make` calls it; with nothing missing it
# only looks, and is quick. It starts no daemon and changes nothing but packages.
#
#   deploy/install-deps.sh [--list] [GROUP]...    --list: only print what is missing
#
# Without a GROUP: what `make` and `make demo` need. Groups add to that:
#   tests     what `make test` runs beside the product: Prometheus, a browser, and what reads formats strictly
#   bench     what `make bench` compares with
#   clang     the sanitizers of clang, for `make fuzz` and CC=clang
#   format    clang-format
#   kernels   qemu and what makes its guests, for `make test-kernels`
set -euo pipefail

# PACKAGE FILE...: a package is missing when one of its files is. A file may be a pattern.
readonly BUILD_PACKAGES='
clang /usr/bin/clang
llvm /usr/bin/llvm-strip
bpftool /usr/sbin/bpftool
make /usr/bin/make
gcc /usr/bin/gcc /usr/lib/gcc/*/*/libasan.so
libc6-dev /usr/include/stdio.h
linux-libc-dev /usr/include/linux/bpf.h
libbpf-dev /usr/include/bpf/libbpf.h
libelf-dev /usr/include/libelf.h
zlib1g-dev /usr/include/zlib.h
libmicrohttpd-dev /usr/include/microhttpd.h
libcjson-dev /usr/include/cjson/cJSON.h
libcurl4-gnutls-dev /usr/include/*/curl/curl.h
libcmocka-dev /usr/include/cmocka.h
libsqlite3-dev /usr/include/sqlite3.h
libseccomp-dev /usr/include/seccomp.h
iproute2 /sbin/ip
curl /usr/bin/curl
util-linux /usr/bin/unshare /usr/bin/setpriv
procps /usr/bin/pgrep'
# promtool comes with prometheus
readonly TESTS_PACKAGES='
prometheus /usr/bin/prometheus /usr/bin/promtool
python3-prometheus-client /usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py
chromium /usr/bin/chromium
graphviz /usr/bin/dot'
readonly BENCH_PACKAGES='
wrk /usr/bin/wrk
nginx-light /usr/sbin/nginx
haproxy /usr/sbin/haproxy
nftables /usr/sbin/nft'
# clang does not depend on its runtime, but recommends it
readonly CLANG_PACKAGES='
libclang-rt-dev /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.asan-*.a /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a'
readonly FORMAT_PACKAGES='
clang-format /usr/bin/clang-format'
readonly KERNELS_PACKAGES='
qemu-system-x86 /usr/bin/qemu-system-x86_64
cpio /usr/bin/cpio
kmod /sbin/depmod /sbin/modprobe
binutils /usr/bin/strip
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg'

say() {
	echo "install-deps: $*" >&2
}

missing() { # reads lines as above, prints the packages that are missing
	local package file files
	while read -r package files; do
		for file in $files; do # patterns are meant to expand here
			if [ ! -e "$file" ]; then
				echo "$package"
				break
			fi
		done
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >&2
}

# Debian starts the services of what it installs, unless this file says no (invoke-rc.d(8)).
readonly POLICY=/usr/sbin/policy-rc.d
forbid_services() {
	[ ! -e $POLICY ] || return 0
	trap 'as_root rm -f $POLICY' EXIT
	printf '#!/bin/sh\nexit 101\n' | as_root tee $POLICY >/dev/null
	as_root chmod 755 $POLICY
}

# Nor shall they start at the next boot: tests and the benchmark start their own.
disable_services() { # PACKAGE...
	local package
	command -v systemctl >/dev/null || return 0
	for package in "$@"; do
		case $package in
		nginx-light) as_root systemctl --quiet disable nginx.service ;;
		haproxy) as_root systemctl --quiet disable haproxy.service ;;
		prometheus) as_root systemctl --quiet disable prometheus.service ;;
		esac
	done
}

install() { # PACKAGE...
	local known
	if ! grep -qsE '^ID(_LIKE)?=.*debian' /etc/os-release || ! command -v apt-get >/dev/null; then
		say "this is not Debian: install what corresponds to: $*"
		exit 1
	fi
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		say "needs root or sudo to install: $*"
		exit 1
	fi
	say "installing: $*"
	forbid_services
	known=$(apt-cache --quiet=0 policy "$@" 2>/dev/null | grep -c 'Candidate: [^(]' || true)
	if [ "$known" -lt $# ]; then
		apt update
	fi
	# a stale list names packages that the archive has replaced since
	if ! apt install --no-install-recommends "$@"; then
		apt update
		apt install --no-install-recommends "$@"
	fi
	disable_services "$@"
}

wanted=$BUILD_PACKAGES
list_only=
for argument in "$@"; do
	case $argument in
	--list) list_only=yes ;;
	tests) wanted+=$TESTS_PACKAGES ;;
	bench) wanted+=$BENCH_PACKAGES ;;
	clang) wanted+=$CLANG_PACKAGES ;;
	format) wanted+=$FORMAT_PACKAGES ;;
	kernels) wanted+=$KERNELS_PACKAGES ;;
	*)
		say "unknown argument $argument: tests, bench, clang, format, kernels or --list"
		exit 2
		;;
	esac
done
list=$(missing <<<"$wanted")
packages=()
[ -z "$list" ] || mapfile -t packages <<<"$list"
if [ "$list_only" ]; then
	[ ${#packages[@]} = 0 ] || printf '%s\n' "${packages[@]}"
	exit 0
fi
if [ ${#packages[@]} -gt 0 ]; then
	install "${packages[@]}"
fi

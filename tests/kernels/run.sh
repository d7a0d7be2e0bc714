#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make test-kernels`: the BPF tests and a smoke of the main path under other kernels than this machine's: Debian 12's
# cloud kernels in qemu, one after the other. Needs neither root nor KVM (it emulates, so it takes some minutes a
# kernel) and no network but for the first download, which stays in $BUILD/kernels.
#
#   tests/kernels/run.sh [--e2e "NAME..."] [SERIES]...      default: --e2e smoke 6.1 6.12
#
# Shows what the guests print, then how many instructions the verifier processed, as a table for docs/performance.md
# (with this machine's kernel when run by root), and ends like tests/run.sh: N passed, N failed. Exit: 0 all passed, 1
# not, 2 usage.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD
readonly LIMIT=1800 # seconds for one guest: this machine may be busy
readonly DIR=$BUILD/kernels
readonly MEMORY=1024 # MiB
e2e=smoke
passed=0 failed=0 skipped=0
failures=()
qemu=''

fail() { # KERNEL WHY COUNT
	failures+=("$1: $2")
	failed=$((failed + $3))
}

stop_guest() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null
	[ -z "$qemu" ] || wait "$qemu"
	qemu=''
}
trap stop_guest EXIT
trap 'exit 130' INT TERM HUP

# Two serial lines: the kernel's log, and what the tests print. Nothing of this machine is shared with it, and it has no
# network device. Ends with this script, however that ends.
boot() { # KERNEL-DIR IMAGE CONSOLE-LOG OUTPUT TESTS
	local printer out
	exec {out}> >(exec tee "$4")
	printer=$!
	setpriv --pdeathsig TERM timeout -k 5 $LIMIT setpriv --pdeathsig KILL \
		qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m $MEMORY -no-user-config -nodefaults \
		-display none -nic none -no-reboot -kernel "$1"/boot/vmlinuz-* -initrd "$2" \
		-append "console=ttyS0 panic=-1 quiet mesh.run=$5" -serial "file:$3" -serial stdio \
		</dev/null >&"$out" 2>&1 &
	qemu=$!
	exec {out}>&-
	wait $qemu
	qemu=''
	wait $printer
}

number() { # WORD FILE: in front of it in the last line that counts
	sed -nE "s/^([0-9]+ passed.*)$/\1/p" "$2" | tail -1 | grep -oE "[0-9]+ $1" | grep -oE '^[0-9]+' || echo 0
}

judge() { # KERNEL OUTPUT CONSOLE-LOG
	local bad
	if ! grep -q '^guest: [0-9]' "$2"; then
		fail "$1" "the guest did not come to its end" 1
		printf '%s\n' "--- the last it said" "$(tail -n 40 "$2")" "--- its kernel" "$(tail -n 40 "$3")"
		return
	fi
	bad=$(number failed "$2")
	passed=$((passed + $(number passed "$2")))
	skipped=$((skipped + $(number skipped "$2")))
	if [ "$bad" -gt 0 ]; then
		fail "$1" "$(sed -n 's/^FAILED //p' "$2" | paste -sd ';')" "$bad"
	elif ! grep -q '^guest: 0' "$2"; then
		fail "$1" "$(grep '^guest: ' "$2")" 1
	fi
}

run_kernel() { # SERIES
	local kernel image=$DIR/image-$1 output=$DIR/output-$1 console=$DIR/console-$1 tests
	if ! kernel=$(tests/kernels/fetch.sh "$1" "$DIR"); then
		fail "$1" "its package could not be had" 1
		return
	fi
	printf '\n=== %s\n' "$(basename "$kernel")"
	# shellcheck disable=SC2086 # a list
	if ! tests/kernels/image.sh "$kernel" "$image" $e2e; then
		fail "$1" "its root file system could not be made" 1
		return
	fi
	# shellcheck disable=SC2086 # a list
	tests=bpf$(printf ',e2e,%s' $e2e)
	boot "$kernel" "$image" "$console" "$output" "$tests"
	rm -f "$image"
	judge "$1" "$output" "$console"
}

# Columns: PROGRAM, then each kernel.
table() { # [NAME OUTPUT]...
	local names='' files=()
	while [ $# -gt 0 ]; do
		names+=" $1 |"
		files+=("$2")
		shift 2
	done
	printf '\n| instructions that the verifier processed |%s\n' "$names"
	awk 'FNR == 1 { f++ }
	     $1 == "verifier:" { if (!($2 in row)) { row[$2] = ++n; name[n] = $2 } seen[$2, f] = $3 }
	     END { printf "|---|"; for (i = 1; i <= f; i++) printf "---|"; print ""
	           for (r = 1; r <= n; r++) { printf "| `%s` |", name[r]
	           for (i = 1; i <= f; i++) printf " %s |", (name[r], i) in seen ? seen[name[r], i] : "-"; print "" } }' \
		"${files[@]}"
}

here() { # OUTPUT: the same of this machine's kernel
	demo/vhost run --name test -- "$BUILD/tests/bpf/test_verifier" >"$1" 2>&1
}

if [ "${1:-}" = --e2e ]; then
	[ $# -ge 2 ] || set -- --help
	e2e=$2
	shift 2
fi
case "${1:-}" in
-*)
	sed -n '7s/^# *//p' "$0" >&2
	exit 2
	;;
esac
[ $# -gt 0 ] || set -- 6.1 6.12
if [ "$(uname -m)" != x86_64 ]; then
	echo "SKIPPED: the guests are of x86-64, this machine is not"
	[ "${CI:-}" != true ]
	exit
fi
mkdir -p "$DIR"
columns=()
for series in "$@"; do
	run_kernel "$series"
	[ ! -e "$DIR/output-$series" ] || columns+=("$series" "$DIR/output-$series")
done
if [ "$(id -u)" = 0 ] && here "$DIR/output-here"; then
	columns+=("$(uname -r | cut -d. -f1,2), this machine's" "$DIR/output-here")
fi
[ ${#columns[@]} = 0 ] || table "${columns[@]}"
echo
[ ${#failures[@]} = 0 ] || printf 'FAILED %s\n' "${failures[@]}"
if [ $skipped = 0 ]; then
	echo "$passed passed, $failed failed"
else
	echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ]

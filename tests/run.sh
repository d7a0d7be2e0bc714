#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the test programs that make has built, and ends with one line: N passed, N failed[, N skipped].
#
#   tests/run.sh [unit] [bpf] [e2e [NAME]]      (default: all three; NAME runs tests/e2e/test_NAME.c only)
#
# bpf and e2e run as root, each program on a fresh virtual host (demo/vhost). Without root they are skipped; with
# CI=true whatever is skipped counts as a failure too. Exit: 0 all passed, 1 not, 2 usage.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD
export UBSAN_OPTIONS=print_stacktrace=1
readonly LIMIT=600 # seconds for one program
passed=0 failed=0 skipped=0
failures=()
output=$(mktemp) || exit 1
trap 'rm -f "$output"' EXIT
trap 'exit 130' INT TERM HUP

fail() { # NAME WHY COUNT
	failures+=("$1: $2")
	failed=$((failed + $3))
}

skip() { # NAME WHY COUNT
	skipped=$((skipped + $3))
	[ "${CI:-}" != true ] || fail "$1" "skipped on CI ($2)" "$3"
}

# Adds up the numbers in front of (or behind) cmocka's words; it prints one summary per group.
sum() { # REGEX
	grep -oE "$1" "$output" | grep -oE '[0-9]+' | awk '{ n += $1 } END { print n + 0 }'
}

judge() { # NAME STATUS
	local ok bad off
	ok=$(grep -o '\[       OK \] ' "$output" | wc -l)
	bad=$(sum '^ [0-9]+ FAILED TEST\(S\)')
	off=$(sum '\[  SKIPPED \] [0-9]+ test')
	passed=$((passed + ok))
	[ "$off" = 0 ] || skip "$1" "see its output" "$off"
	if [ "$bad" -gt 0 ]; then
		fail "$1" "$bad failed: $(sed -nE 's/.*\[  (FAILED|ERROR)   ?\] ([A-Za-z_0-9]+)$/\2/p' "$output" | sort -u | xargs)" "$bad"
	elif [ "$2" = 124 ]; then
		fail "$1" "not done after $LIMIT s" 1
	elif [ "$2" != 0 ]; then
		fail "$1" "exit status $2" 1
	elif [ $((ok + off)) = 0 ]; then
		fail "$1" "no test ran" 1
	fi
}

run_one() { # KIND SOURCE
	local name program host=()
	name=$(basename "$2" .c)
	program=$BUILD/tests/$1/$name
	printf '\n== %s/%s\n' "$1" "$name"
	if [ ! -x "$program" ]; then
		fail "$1/$name" "not built: $program" 1
		return
	fi
	[ "$1" = unit ] || host=(demo/vhost run --name "test" --)
	timeout --foreground -k 30 $LIMIT "${host[@]}" "$program" 2>&1 | tee "$output"
	judge "$1/$name" "${PIPESTATUS[0]}"
}

run_kind() { # KIND [NAME]
	local source sources
	# shellcheck disable=SC2206 # without a NAME the pattern is meant to expand
	sources=(tests/$1/test_${2:-*}.c)
	if [ ! -e "${sources[0]}" ]; then
		fail "$1" "there is no ${sources[0]}" 1
	elif [ "$1" != unit ] && [ "$(id -u)" != 0 ]; then
		printf '\nSKIPPED: %s tests need root\n' "$1"
		skip "$1" "needs root" ${#sources[@]}
	else
		for source in "${sources[@]}"; do
			run_one "$1" "$source"
		done
	fi
}

[ $# -gt 0 ] || set -- unit bpf e2e
while [ $# -gt 0 ]; do
	case $1 in
	unit | bpf) run_kind "$1" ;;
	e2e)
		run_kind e2e "${2:-}"
		[ $# -lt 2 ] || shift
		;;
	*)
		sed -n '5s/^# *//p' "$0" >&2
		exit 2
		;;
	esac
	shift
done
echo
[ ${#failures[@]} = 0 ] || printf 'FAILED %s\n' "${failures[@]}"
if [ $skipped = 0 ]; then
	echo "$passed passed, $failed failed"
else
	echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ]

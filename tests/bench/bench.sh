#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compares the mesh with no mesh and with other proxies, interleaved in one run. Prints tables and the goals, a block for
# docs/performance.md ($BUILD/bench.md too). Exit 1: a goal was not reached.
#
#   tests/bench/bench.sh [--rounds N (4)] [--seconds N (2)] [--idle N (8000)] [--only PART] [--accelerate MODE (auto)]
#
# Parts, each in a file of its own (part_PART.sh): http, tcp, accelerate, sidecar, telemetry, floor. A part gives PART_start, PART_round,
# PART_end and PART_report; its hosts live as long as its rounds. --accelerate: of mesh-agent.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
rounds=4 seconds=2 idle=8000 accelerate=auto parts="http tcp accelerate sidecar telemetry floor"
usage() {
	sed -n '6s/^# *//p' "$0" >&2
	exit 2
}
# shellcheck disable=SC2034 # idle is of part_http.sh, accelerate of hosts.sh
while [ $# -gt 0 ]; do
	[ $# -ge 2 ] || usage
	case $1 in
	--rounds) rounds=$2 ;;
	--seconds) seconds=$2 ;;
	--idle) idle=$2 ;;
	--only) parts=$2 ;;
	--accelerate) accelerate=$2 ;;
	*) usage ;;
	esac
	shift 2
done
for part in $parts; do
	[ -r "tests/bench/part_$part.sh" ] || usage
done
deploy/install-deps.sh bench || exit 1
work=$(mktemp -d) || exit 1
# shellcheck disable=SC2086 # a list
for file in hosts report measure proxies $(printf 'part_%s ' $parts); do
	# shellcheck source=/dev/null
	. "tests/bench/$file.sh"
done

# shellcheck disable=SC2317 # called by trap
cleanup() {
	hosts_end
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

for part in $parts; do
	"${part}_start"
	for ((round = 1; round <= rounds; round++)); do
		echo "$part: round $round of $rounds" >&2
		"${part}_round"
	done
	"${part}_end"
	hosts_end
done
{
	report_head "\`tests/bench/bench.sh --rounds $rounds --seconds $seconds\`: interleaved rounds of turns of at most a second"
	for part in $parts; do
		echo
		"${part}_report"
	done
	echo
	report_goals
} | tee "$BUILD/bench.md"
exit "${PIPESTATUS[0]}"

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# HTTP with acceleration (as bench.sh --accelerate says) and without: two hosts, one worker each. c=1 and c=32,
# three sizes of bodies, new connections, and two hops (client -> relay -> origin, both through the mesh).
# Placements: everything on CPU 1; and client, relay and origin on CPU 0, the agent on CPU 1.

readonly ACCEL_CASES="off on" BODIES="128 16384 262144"
readonly ACCEL_ORIGIN=9000 ACCEL_RELAY=9001 ACCEL_FRESH=9010
# a port for each size of bodies: the mesh judges by a port's traffic whether it is to skip TCP
declare -A ACCEL_PORT=([128]=$ACCEL_ORIGIN [16384]=9011 [262144]=9012)

accelerate_start() {
	local where size
	for where in $ACCEL_CASES; do
		for size in $BODIES; do
			case_add "$where-$size" "$where" "${ACCEL_PORT[$size]}" as=workload proxy=agent
		done
		case_add "$where" "$where" $ACCEL_ORIGIN as=workload proxy=agent fresh=$ACCEL_FRESH
		case_add "$where-2" "$where" $ACCEL_RELAY as=workload proxy=agent
		host_start "$where"
		agent_start "$where" "$([ "$where" = off ] && echo off)"
		service_start "$where" origin --port $ACCEL_ORIGIN -- \
			"$tools/origin" --port "$ACCEL_ORIGIN,$ACCEL_FRESH,${ACCEL_PORT[16384]},${ACCEL_PORT[262144]}"
		service_start "$where" relay --port $ACCEL_RELAY -- \
			"$tools/relay" --port $ACCEL_RELAY --to "${to[$where]}"
		client_cpu=0
		until_ok "the relay ($where)" client "$where" curl -sf "http://${to[$where-2]}/"
	done
}

accelerate_place() { # CPU of the programs, CPU of the agents
	local where
	client_cpu=$1
	for where in $ACCEL_CASES; do
		pin "$where" origin "$1"
		pin "$where" relay "$1"
		pin "$where" agent "$2"
		pin "$where" meshd "$2"
	done
}

accelerate_round() {
	local CASES=$ACCEL_CASES seconds=1 cpus size
	for cpus in one two; do
		if [ $cpus = one ]; then accelerate_place 1 1; else accelerate_place 0 1; fi
		for size in $BODIES; do
			CASES="off-$size on-$size"
			in_turn latency "$cpus" "?len=$size"
			in_turn throughput "c32-$cpus" "?len=$size"
		done
		CASES=$ACCEL_CASES
		in_turn connections "new-$cpus"
		CASES="off-2 on-2"
		in_turn latency "hops-$cpus" '' 32
		CASES=$ACCEL_CASES
	done
}

accelerate_end() {
	:
}

# shellcheck disable=SC2046 # lists of numbers
accelerate_goals() {
	local cpus size slow=()
	for cpus in one two; do
		for size in $BODIES; do
			slow+=("$(paired "p50-$cpus" "on-$size" "off-$size")" "$(paired "c32-$cpus" "off-$size" "on-$size")")
		done
	done
	goal 'time per request with acceleration, worst ratio to without, of 12 keep-alive cases' "$(largest "${slow[@]}")" '<=' 1.05
	goal 'new connections, the same' "$(largest "$(paired new-one off on)" "$(paired new-two off on)")" '<=' 1.10
	goal 'p99 of two hops at c=32 on one CPU, ratio to without' "$(paired p99-hops-one on-2 off-2)" '<=' 1.05
	goal 'p99 of two hops at c=32 on two CPUs, ratio to without' "$(paired p99-hops-two on-2 off-2)" '<=' 1.05
}

accelerate_report() {
	local CASES cpus size
	table 'without acceleration' 'with acceleration'
	for cpus in one two; do
		for size in $BODIES; do
			CASES="off-$size on-$size"
			row "p50 of c=1, body of $size B, ${CPUS[$cpus]}, us" "p50-$cpus" '%.1f'
			row "requests/s, c=32, body of $size B, ${CPUS[$cpus]}" "c32-$cpus" '%.0f'
			row 'CPU seconds of the proxy per 100k of them' "cpu-c32-$cpus" '%.2f'
		done
		CASES=$ACCEL_CASES
		row "new connections/s, ${CPUS[$cpus]}" "new-$cpus" '%.0f'
		CASES="off-2 on-2"
		row "two hops, requests/s, c=32, ${CPUS[$cpus]}" "rate-hops-$cpus" '%.0f'
		row "two hops, p99 of c=32, ${CPUS[$cpus]}, us" "p99-hops-$cpus" '%.0f'
	done
	accelerate_goals
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What it costs to see everything: HTTP through a mesh that measures nothing (--telemetry off), through one that measures but
# samples no trace, one that samples 1 % of them, and one that samples all; the same with the access log in a file besides. A
# host each, one worker each, meshd on the agent's CPU. Placements: everything on CPU 1, where what the supervisor and meshd use is taken
# from the requests; and client and origin on CPU 0, agent and meshd on CPU 1.
#
# A process has its luck with where its memory lies, a per cent or two for as long as it lives: each round has hosts of its own.
#
# The floor of these goals: the same mesh without telemetry, when the client itself sends the lines that a worker adds to a
# request (the contract's: traceparent, x-trace-id, x-span-id) and the answer is longer by the one that it adds there
# (x-trace-id; here in the origin's name). Nothing is measured then, but somebody reads them.
#
# BASE=DIR: the first host runs the programs of that build instead (one from before there was telemetry).

readonly TELEMETRY_CASES="off none one all log" TELEMETRY_ORIGIN=9000 TELEMETRY_NAMED=9001
# Turns of throughput in a round, at least: a goal of 3 % is not seen among turns that differ by 5.
readonly TELEMETRY_TURNS=$((seconds < 6 ? 6 : seconds))
readonly TELEMETRY_LINES='traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00
x-trace-id: 4bf92f3577b34da6a3ce929d0e0e4736
x-span-id: 00f067aa0ba902b7'
readonly TELEMETRY_NAME="origin, x-trace-id: 4bf92f3577b34da6a3ce929d0e0e4736" # 46 bytes more than "origin"
declare -A TELEMETRY_SAMPLING=([off]=0 [none]=0 [one]=0.01 [all]=1 [log]=1)

telemetry_flags() { # HOST
	case $1 in
	off) [ -n "${BASE:-}" ] || echo --telemetry off ;;
	log) echo --access-log /run/access.log ;;
	esac
}

telemetry_start() { :; }

telemetry_hosts() {
	local where build=$BUILD
	for where in $TELEMETRY_CASES; do
		BUILD=$build
		[ "$where" != off ] || BUILD=${BASE:-$build}
		case_add "$where" "$where" $TELEMETRY_ORIGIN as=workload proxy=agent
		host_start "$where"
		# shellcheck disable=SC2046 # words
		agent_start "$where" "$accelerate" $(telemetry_flags "$where")
		service_start "$where" origin --port $TELEMETRY_ORIGIN -- "$tools/origin" --port $TELEMETRY_ORIGIN
		echo "{\"service\":\"origin\",\"tracing\":{\"sampling\":${TELEMETRY_SAMPLING[$where]}}}" >"$work/$where.json"
		on "$where" "$BUILD/meshctl" apply -f "$work/$where.json" >/dev/null || die "the sampling of $where"
		client_cpu=1
		until_ok "the origin ($where)" client "$where" curl -sf "http://${to[$where]}/"
	done
	BUILD=$build
	case_add lines off $TELEMETRY_NAMED as=workload proxy=agent
	lines[lines]=$TELEMETRY_LINES
	service_start off named --port $TELEMETRY_NAMED -- "$tools/origin" --port $TELEMETRY_NAMED --name "$TELEMETRY_NAME"
	until_ok "the named origin" client lines curl -sf "http://${to[lines]}/"
}

telemetry_place() { # CPU of the programs, CPU of the mesh
	local where
	client_cpu=$1
	for where in $TELEMETRY_CASES; do
		pin "$where" origin "$1"
		pin "$where" agent "$2"
		pin "$where" meshd "$2"
	done
	pin off named "$1"
}

# What meshd does for them, too: it is not on the way of a request, but on the same machine.
telemetry_throughput() { # CASE METRIC
	local meshd before n
	meshd=$(pids "${host[$1]}" meshd | xargs)
	before=$(cpu_of "$1" "$meshd")
	throughput "$@"
	n=${value[$1.$2]% }
	add "$1" "cpu-meshd-$2" "$(awk -v a="$before" -v b="$(cpu_of "$1" "$meshd")" -v n="${n##* }" 'BEGIN { printf "%.3f", (b - a) / 1e9 / n * 1e5 }')"
}

telemetry_round() {
	local CASES=$TELEMETRY_CASES
	telemetry_hosts
	telemetry_place 1 1
	seconds=$STEADY in_turn latency telemetry
	CASES="lines $TELEMETRY_CASES"
	seconds=$TELEMETRY_TURNS in_turn telemetry_throughput telemetry-one
	telemetry_place 0 1
	seconds=$TELEMETRY_TURNS in_turn telemetry_throughput telemetry-two
	telemetry_losses
	hosts_end
}

telemetry_losses() {
	local where
	for where in none one all log; do # nobody is to have been spared by an error
		on "$where" curl -sf http://127.0.0.1:15020/metrics | grep -E '^mesh_(ring_lost|spans_)' | sed "s/^/$where: /" >&2
	done
}

telemetry_end() { :; }

telemetry_goals() {
	local cpus floor
	goal 'p50 of c=1 with all traces, more than without telemetry, us' \
		"$(awk -v a="$(median all p50-telemetry)" -v b="$(median off p50-telemetry)" 'BEGIN { printf "%.2f", a - b }')" '<=' 3
	for cpus in one two; do
		floor=$(paired "telemetry-$cpus" lines off)
		goal "requests/s with all traces, ${CPUS[$cpus]}, ratio to without telemetry" "$(paired "telemetry-$cpus" all off)" '>=' 0.90 "$floor"
		goal "requests/s with 1 % of traces, ${CPUS[$cpus]}, the same" "$(paired "telemetry-$cpus" one off)" '>=' 0.97 "$floor"
	done
}

telemetry_report() {
	local CASES=$TELEMETRY_CASES cpus
	table 'without telemetry' 'no trace sampled' '1 % of traces' 'all traces' 'and access log'
	row 'p50 of c=1 on one CPU, us' p50-telemetry '%.1f'
	row 'p99 of c=1 on one CPU, us' p99-telemetry '%.1f'
	for cpus in one two; do
		row "requests/s, c=32, ${CPUS[$cpus]}" "telemetry-$cpus" '%.0f'
		row 'CPU seconds of supervisor and worker per 100k of them' "cpu-telemetry-$cpus" '%.2f'
		row 'CPU seconds of meshd, likewise' "cpu-meshd-telemetry-$cpus" '%.3f'
	done
	telemetry_goals
}

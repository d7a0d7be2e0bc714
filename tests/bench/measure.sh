# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Clients of HTTP for the parts of bench.sh. A case is a way to reach an origin: which host the client is on, what it is
# there, where it connects to, and which processes on the way are ours to count.
# Needs: hosts.sh, report.sh; $client_cpu, $seconds, $congestion.

declare -A host to path as proxy fresh
declare -A lines # of a case: header lines that its client sends under load, besides

# as=workload: a workload of the mesh. as=netns: one in a network namespace of its own. as=POD: in that namespace of the
# host. proxy=NAME: whose CPU time counts (/run/NAME.pid of the host). fresh=PORT: for new connections: the mesh judges
# by the traffic of a port whether its connections are to skip TCP.
case_add() { # CASE HOST PORT|ADDRESS:PORT [path=PATH] [as=...] [proxy=NAME] [fresh=PORT]
	local case=$1 word
	host[$case]=$2
	to[$case]=$3
	[[ $3 = *:* ]] || to[$case]=127.0.0.1:$3
	path[$case]=/ as[$case]='' proxy[$case]='' fresh[$case]=${to[$case]}
	shift 3
	for word in "$@"; do
		case $word in
		path=*) path[$case]=${word#*=} ;;
		as=*) as[$case]=${word#*=} ;;
		proxy=*) proxy[$case]=${word#*=} ;;
		fresh=*) fresh[$case]=127.0.0.1:${word#*=} ;;
		esac
	done
}

client() { # CASE CMD...: runs a client where and how that case has it
	local case=$1 run=()
	shift
	case ${as[$case]} in
	'') ;;
	workload) run=("$BUILD/meshctl" run --service client --) ;;
	netns) run=("$BUILD/meshctl" run --service client --netns --) ;;
	*) run=(nsenter "--net=/run/netns/${as[$case]}") ;;
	esac
	on "${host[$case]}" "${run[@]}" taskset -c "$client_cpu" sh -c 'ulimit -n 20000
		sysctl -qw net.ipv4.tcp_congestion_control=$0; exec "$@"' $congestion "$@"
}

# A client of HTTP. The mesh learns from a program's connections whether its sockets may skip TCP, so every case has made
# a request before.
http_client() { # CASE CMD...
	local case=$1
	shift
	# shellcheck disable=SC2016
	client "$case" sh -c '"$0" --to "$1" --path "$2" --seconds 0 >/dev/null && shift 2 && exec "$@"' \
		"$tools/lat" "${to[$case]}" "${path[$case]}" "$@"
}

proxy_pids() { # CASE
	[ -z "${proxy[$1]}" ] || pids "${host[$1]}" "${proxy[$1]}"
}

cpu_of() { # CASE PIDS: what processes of its host have used so far, ns
	on "${host[$1]}" sh -c "for p in $2; do cat /proc/\$p/task/*/schedstat; done" |
		awk '{ n += $1 } END { printf "%.0f", n }'
}

cpu_ns() { # CASE: the same of its proxy's
	local list
	list=$(proxy_pids "$1" | xargs)
	[ -z "$list" ] && echo 0 && return
	cpu_of "$1" "$list"
}

# 32 keep-alive connections for a second: METRIC, cpu-METRIC (s of the proxy per 100k requests).
throughput() { # CASE METRIC [QUERY]
	local out before after n line headers=(-H "x-user-id: 42")
	while read -r line; do
		[ -z "$line" ] || headers+=(-H "$line")
	done <<<"${lines[$1]:-}"
	before=$(cpu_ns "$1")
	out=$(http_client "$1" wrk -t1 -c32 -d1s --latency "${headers[@]}" "http://${to[$1]}${path[$1]}${3:-}") || die "wrk ($1)"
	after=$(cpu_ns "$1")
	grep -qE 'Non-2xx|Socket errors' <<<"$out" && die "errors with $1: $out"
	add "$1" "$2" "$(awk '/^Requests\/sec/ { print $2 }' <<<"$out")"
	n=$(awk '/requests in/ { print $1 }' <<<"$out")
	add "$1" "cpu-$2" "$(awk -v a="$before" -v b="$after" -v n="$n" 'BEGIN { printf "%.3f", (b - a) / 1e9 / n * 1e5 }')"
}

# One keep-alive connection, or more: p50-METRIC, p99-METRIC (us), rate-METRIC (requests/s).
latency() { # CASE METRIC [QUERY [CONNECTIONS]]
	local out
	out=$(http_client "$1" "$tools/lat" --to "${to[$1]}" --path "${path[$1]}${3:-}" --connections "${4:-1}" --seconds 1) ||
		die "lat ($1)"
	add "$1" "p50-$2" "$(awk '{ print $2 }' <<<"$out")"
	add "$1" "p99-$2" "$(awk '{ print $5 }' <<<"$out")"
	add "$1" "rate-$2" "$(awk '{ print $10 }' <<<"$out")"
}

connections() { # CASE METRIC
	local out
	out=$(http_client "$1" "$tools/connrate" --to "${fresh[$1]}" --path "${path[$1]}" --seconds 1) || die "connrate ($1): $out"
	add "$1" "$2" "$(awk '{ print $1 }' <<<"$out")"
}

# Turns in a round, at least, where a goal is a median of few: a turn beside other work takes 1.4 times as long.
readonly STEADY=$((seconds < 3 ? 3 : seconds))

# The speed of a shared machine changes within seconds, also by what was done in the seconds before: a second of each case,
# and again, and another one is the first each time.
turns=0
in_turn() { # MEASURE METRIC [QUERY]
	local s i cases
	read -ra cases <<<"$CASES"
	for ((s = 0; s < seconds; s++, turns++)); do
		for i in "${!cases[@]}"; do "$1" "${cases[(turns + i) % ${#cases[@]}]}" "${@:2}"; done
	done
}

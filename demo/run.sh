#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make demo`: four services that know nothing of a mesh, the mesh, and some traffic, on a virtual host of their own
# (demo/vhost), so that nothing of this machine is touched and nothing is left behind. Runs until Ctrl-C, or for
# DEMO_SECONDS. The web page is at 127.0.0.1:15080 (DEMO_PORT) of this machine. Exit: 0; 1 when something did not start (the end of its log is shown).
set -u
self=$(realpath "$0")
here=$(dirname "$self")
BUILD=$(realpath -m "${BUILD:-$here/../build}")
export BUILD

if [ "${1:-}" != __inside ]; then
	[ "$(id -u)" = 0 ] || exec sudo --preserve-env=BUILD,DEMO_SECONDS,DEMO_PORT "$self"
	# the page is for a browser of this machine; BUILD/demo/door brings it there
	exec "$BUILD/demo/door" "${DEMO_PORT:-15080}" "$here/vhost" run --name mesh-demo -- "$self" __inside
fi

readonly LOGS=/run/demo
readonly GATEWAY=http://127.0.0.1:8080
readonly PATIENCE=100 # tenths of a second that a service has to appear
export MESH_CONTROL=unix:/run/mesh/meshd.sock
export PATH=$BUILD:$PATH
pids=()
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\e[1m' plain=$'\e[0m'
fi

title() {
	printf '\n%s%s%s\n' "$bold" "$*" "$plain"
}

# Services before what serves them, each in its turn.
stop() { # STATUS
	local i
	trap '' INT TERM HUP
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill -TERM "${pids[i]}" 2>/dev/null
		wait "${pids[i]}" 2>/dev/null
	done
	exit "$1"
}

fail() { # WHAT LOG
	echo "demo: $1" >&2
	[ ! -s "$LOGS/$2.log" ] || tail -n 15 "$LOGS/$2.log" | sed 's/^/    /' >&2
	stop 1
}

start() { # NAME CMD...
	local name=$1
	shift
	"$@" >"$LOGS/$name.log" 2>&1 </dev/null &
	pids+=($!)
}

endpoint_of() { # SERVICE: the address of its first endpoint
	meshctl get endpoints "$1" 2>/dev/null | awk 'NR == 2 { print $3 }'
}

# Starts one of the four in its own cgroup and network namespace, and waits until the mesh has found it. $address: where.
start_service() { # NAME [VAR=VALUE...]
	local i name=$1
	shift
	start "$name" env "$@" meshctl run --netns --service "$name" -- "$BUILD/demo/$name"
	for ((i = 0; i < PATIENCE; i++)); do
		address=$(endpoint_of "$name")
		[ -z "$address" ] || return 0
		kill -0 "${pids[-1]}" 2>/dev/null || break
		sleep 0.1
	done
	fail "$name did not come up" "$name"
}

# A request seen by the proxy: one line of the access log for each call; nested by who called whom.
show_path() { # REQUEST-ID
	grep -F "\"requestId\":\"$1\"" "$LOGS/access.log" | awk '
		function text(key) { return match($0, "\"" key "\":\"[^\"]*\"") ? \
			substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5) : "" }
		function number(key) { return match($0, "\"" key "\":[0-9.]+") ? \
			substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3) : "" }
		function show(caller, depth,    i) {
			for (i = 1; i <= n; i++)
				if (from[i] == caller) {
					printf "  %-36s %s\n", sprintf("%*s%s -> %s", 2 * depth, "", caller, to[i]), line[i]
					show(to[i], depth + 1)
				}
		}
		{ n++; from[n] = text("caller"); to[n] = text("callee")
		  line[n] = sprintf("%-14s %s %-8s %s  %6.2f ms", text("endpoint"), text("method"), text("path"), \
			number("status"), number("duration")) }
		END { show("gateway", 0) }'
}

wait_for_log() { # REQUEST-ID LINES
	local i
	for ((i = 0; i < PATIENCE; i++)); do
		[ "$(grep -cF "\"requestId\":\"$1\"" "$LOGS/access.log" 2>/dev/null)" != "$2" ] || return 0
		sleep 0.1
	done
	fail "the request did not pass through all services" agent
}

trap 'stop 0' INT TERM HUP
mkdir -p "$LOGS/state" "$LOGS/conf.d" /run/mesh

if [ -n "${DOOR:-}" ]; then
	start door "$BUILD/demo/door" --serve 15000
	exec {DOOR}>&- # nobody else's
fi
start meshd meshd --state "$LOGS/state" --config "$LOGS/conf.d"
meshd=$!
start agent mesh-agent --cgroup /sys/fs/cgroup --gateway-default frontend --access-log "$LOGS/access.log"
agent=$!
start check meshctl check --wait 20s
check=$!
daemon_ended() { # PID
	[ "$1" != "$meshd" ] || fail "meshd ended" meshd
	[ "$1" != "$agent" ] || fail "mesh-agent ended" agent
}
wait -n -p ended "$check" "$meshd" "$agent" || failed=1
daemon_ended "$ended"
[ -z "${failed:-}" ] || fail "the mesh did not come up" check

start_service database
database=$address
start_service cache
cache=$address
start_service backend "DATABASE_URL=http://$database" "CACHE_URL=http://$cache"
start_service frontend "BACKEND_URL=http://$address"

title "The services, found when they began to listen (nobody registered them)"
meshctl get services -o wide

title "200 requests through the gateway, $GATEWAY/"
curl -s -o "$LOGS/body" -w '%{http_code}\n' "$GATEWAY/?n=[1-200]" | sort | uniq -c |
	while read -r count status; do echo "  $count answered $status"; done
sed 's/^/  /' "$LOGS/body"

title "One request and its path through the services (from the access log)"
curl -s -o /dev/null -H 'x-request-id: demo-request' "$GATEWAY/"
wait_for_log demo-request 4
show_path demo-request

title "Try next, in another terminal (demo/enter runs a command, or a shell, on this virtual host)"
programs=$(realpath -m --relative-base="$here/.." "$BUILD/demo")
hint() { # COMMAND WHAT
	printf '  demo/enter %s\n        # %s\n' "$1" "$2"
}
hint "meshctl get services -o wide" "the same table, now"
hint "meshctl run --netns --service database -- $programs/database" "a second database: it joins by itself, and leaves with Ctrl-C"
hint "curl -X POST 'http://$database/chaos?delay=300'" "makes the first database slow (delay=0 ends it)"
hint "curl -i $GATEWAY/" "a request of your own"
hint "meshctl top" "rate, errors and latency of each service, live"
hint "meshctl tap" "every call as it passes, a line each"
hint "meshctl trace list" "the latest requests; meshctl trace show ID draws one of them"
hint "meshctl check" "what the mesh verifies of itself"

curl -s -o /dev/null --rate 5/s "$GATEWAY/?n=[1-100000000]" & # so that there is something to see
pids+=($!)
sleep "${DEMO_SECONDS:-infinity}" &
timer=$!
pids+=("$timer")
[ -z "${DOOR:-}" ] || title "The same in a browser of this machine: http://127.0.0.1:${DEMO_PORT:-15080}/"
title "Running${DEMO_SECONDS:+ for $DEMO_SECONDS s} with 5 requests a second. Ctrl-C ends it and removes everything."
wait -n -p ended "$meshd" "$agent" "$timer"
daemon_ended "$ended"
stop 0

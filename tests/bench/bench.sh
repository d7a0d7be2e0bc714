#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Compares no proxy, sockmesh, the same with everything configured that a service can have, its gateway, nginx and
# HAProxy: one worker each, the same origin, client and placement,
# interleaved in one run. Prints a table, the goals, and a block for docs/performance.md ($BUILD/bench.md too).
#
#   tests/bench/bench.sh [--rounds N (5)] [--seconds N (3)] [--idle N (8000)]
#
# Two virtual hosts (demo/vhost): `plain` has the origin, nginx and HAProxy and no BPF program at all; `mesh` has the same
# origin as a service and the mesh. Throughput and new connections twice: client and origin on CPU 0 and the proxy on
# CPU 1, and everything on CPU 1. Latency: everything on CPU 1.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
rounds=5 seconds=3 idle=8000
while [ $# -gt 0 ]; do
	case $1 in
	--rounds) rounds=$2 ;;
	--seconds) seconds=$2 ;;
	--idle) idle=$2 ;;
	*)
		sed -n '6s/^# *//p' "$0" >&2
		exit 2
		;;
	esac
	shift 2
done
deploy/install-deps.sh bench || exit 1
tools=$BUILD/tests/bench
work=$(mktemp -d) || exit 1
readonly CASES="direct mesh armed gateway nginx haproxy"
readonly ORIGIN=9000 NGINX=9001 HAPROXY=9002 ARMED=9003 GATEWAY=8080
declare -A value host=([direct]=plain [nginx]=plain [haproxy]=plain [mesh]=mesh [armed]=mesh [gateway]=mesh)
declare -A port=([direct]=$ORIGIN [mesh]=$ORIGIN [armed]=$ARMED [gateway]=$GATEWAY [nginx]=$NGINX [haproxy]=$HAPROXY)
declare -A path=([direct]=/ [mesh]=/ [armed]=/ [gateway]=/origin/ [nginx]=/ [haproxy]=/)
hosts=()

die() {
	echo "bench: $*" >&2
	tail -n 5 "$work"/*.log >&2
	exit 1
}

# shellcheck disable=SC2317 # called by trap
cleanup() {
	local pid
	for pid in "${hosts[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	wait
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# --- the two hosts ---------------------------------------------------------------------------------

on() { # HOST CMD...
	local where=$1
	shift
	demo/vhost enter --name "bench-$where" -- "$@"
}

until_ok() { # WHAT CMD...: polls for 10 s
	local what=$1 _
	shift
	for _ in {1..200}; do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	die "$what is not there after 10 s"
}

host_start() { # HOST
	demo/vhost run --name "bench-$1" -- sleep infinity >"$work/$1.log" 2>&1 &
	hosts+=($!)
	until_ok "the virtual host $1" on "$1" true
	# a default of bbr would halve TCP on loopback; thousands of connections need ports
	on "$1" sysctl -qw net.ipv4.ip_local_port_range="20000 65000" net.ipv4.tcp_congestion_control=reno
}

start() { # HOST NAME CMD...: in the background, its pid in /run/NAME.pid of the host
	local where=$1 name=$2
	shift 2
	# shellcheck disable=SC2016
	on "$where" sh -c 'echo $$ >/run/$0.pid; ulimit -n 20000; exec "$@"' "$name" "$@" >"$work/$name.log" 2>&1 &
}

plain_start() {
	cat >"$work/nginx.conf" <<-END
		worker_processes 1; daemon off; pid $work/nginx.pid; error_log $work/nginx.err crit;
		events { worker_connections 19000; }
		http {
			access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
			client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f;
			uwsgi_temp_path $work/u; scgi_temp_path $work/s;
			upstream origin {
				server 127.0.0.1:$ORIGIN;
				keepalive 128; keepalive_requests 1000000000; keepalive_timeout 600s;
			}
			server {
				listen $NGINX backlog=4096;
				location / { proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }
			}
		}
	END
	cat >"$work/haproxy.cfg" <<-END
		global
			nbthread 1
			maxconn 9000
		defaults
			mode http
			timeout connect 5s
			timeout client 600s
			timeout server 600s
			timeout http-keep-alive 600s
			http-reuse always
		frontend in
			bind :$HAPROXY backlog 4096
			default_backend origin
		backend origin
			server o 127.0.0.1:$ORIGIN
	END
	start plain origin "$tools/origin" --port $ORIGIN
	start plain nginx nginx -c "$work/nginx.conf"
	start plain haproxy haproxy -db -f "$work/haproxy.cfg"
}

mesh_start() {
	start mesh meshd "$BUILD/meshd" --state /run/state
	until_ok meshd on mesh test -s /run/state/token
	start mesh agent "$BUILD/mesh-agent" --workers 1 --token-file /run/state/token
	until_ok mesh-agent on mesh curl -sf http://127.0.0.1:15020/readyz
	start mesh run "$BUILD/meshctl" run --service origin --instance origin-1 --port $ORIGIN -- \
		sh -c "echo \$\$ >/run/origin.pid; exec $tools/origin --port $ORIGIN"
	until_ok "the origin's route" on mesh curl -sf http://127.0.0.1:$GATEWAY/origin/
}

# A service like the other, and of each policy something to do for every request: eight routes that do not match before
# the one that does, a split, retries, limits, a breaker, checks, a fault and a sticky header.
armed_config() {
	local i routes=''
	for i in {1..8}; do
		routes+="{\"name\":\"r$i\",\"match\":{\"path\":{\"template\":\"/v$i/{id}/files/**\"},
			\"headers\":{\"x-group\":\"g$i\"},\"query\":{\"q\":\"$i\"}},\"split\":{\"v1\":100}},"
	done
	cat <<-END
		{"service":"armed","protocol":"http","split":{"v1":100},
		 "routes":[$routes{"name":"all","match":{"path":{"prefix":"/"},"method":"GET","headers":{"x-user-id":"42"}},
		  "split":{"v1":100},"timeouts":{"request":"5s","try":"2s"},"retry":{"attempts":3},
		  "fault":{"delay":{"percent":0.001,"duration":"1ms"}}}],
		 "retry":{"attempts":2,"budget":{"percent":20,"minPerSecond":10}},
		 "circuitBreaker":{"errorPercent":50,"minRequests":10,"window":"10s"},
		 "bulkhead":{"maxConnections":900,"maxRequests":900,"maxPending":100,"maxRequestsPerSource":500},
		 "healthCheck":{"type":"http","path":"/health","interval":"1s"},"sticky":{"header":"x-user-id"}}
	END
}

armed_start() {
	start mesh armed "$BUILD/meshctl" run --service armed --instance armed-1 --port $ARMED -- \
		sh -c "exec $tools/origin --port $ARMED"
	armed_config >"$work/armed.json"
	until_ok "the armed service" on mesh sh -c "'$BUILD/meshctl' get endpoints armed | grep -q armed-1"
	on mesh "$BUILD/meshctl" apply -f "$work/armed.json" >/dev/null || die "the configuration of the armed service"
	until_ok "the armed service's route" on mesh curl -sf http://127.0.0.1:$GATEWAY/armed/
}

pids() { # HOST NAME: the process and its children
	on "$1" sh -c "p=\$(cat /run/$2.pid); echo \$p; pgrep -P \$p"
}

proxy_pids() { # CASE
	case $1 in
	mesh | armed | gateway) pids mesh agent ;;
	nginx | haproxy) pids plain "$1" ;;
	esac
}

pin() { # HOST NAME CPU
	local pid
	for pid in $(pids "$1" "$2"); do
		on "$1" taskset -a -p -c "$3" "$pid" >/dev/null || die "cannot pin $2"
	done
}

place() { # CPU of client and origin, CPU of the proxies
	client_cpu=$1
	pin plain origin "$1"
	pin mesh origin "$1"
	pin mesh armed "$1"
	pin plain nginx "$2"
	pin plain haproxy "$2"
	pin mesh agent "$2"
	pin mesh meshd "$2"
}

# --- measuring -------------------------------------------------------------------------------------

client() { # CASE CMD...: runs a client where and how that case has it
	local case=$1 run=()
	shift
	[ "$case" = mesh ] || [ "$case" = armed ] && run=("$BUILD/meshctl" run --service client --)
	on "${host[$case]}" "${run[@]}" taskset -c "$client_cpu" sh -c 'ulimit -n 20000; exec "$@"' x "$@"
}

add() { # CASE METRIC VALUE
	value[$1.$2]+="$3 "
}

cpu_ns() { # CASE: what its proxy's processes have used so far
	local list
	[ "$1" = direct ] && echo 0 && return
	list=$(proxy_pids "$1" | xargs)
	on "${host[$1]}" sh -c "for p in $list; do cat /proc/\$p/task/*/schedstat; done" |
		awk '{ n += $1 } END { printf "%.0f", n }'
}

throughput() { # CASE METRIC
	local out before after n
	before=$(cpu_ns "$1")
	out=$(client "$1" wrk -t1 -c32 -d1s --latency -H "x-user-id: 42" "http://127.0.0.1:${port[$1]}${path[$1]}") || die "wrk ($1)"
	after=$(cpu_ns "$1")
	grep -qE 'Non-2xx|Socket errors' <<<"$out" && die "errors with $1: $out"
	add "$1" "$2" "$(awk '/^Requests\/sec/ { print $2 }' <<<"$out")"
	n=$(awk '/requests in/ { print $1 }' <<<"$out")
	add "$1" "cpu${2#rps}" "$(awk -v a="$before" -v b="$after" -v n="$n" 'BEGIN { printf "%.3f", (b - a) / 1e9 / n * 1e5 }')"
}

latency() { # CASE
	local out
	out=$(client "$1" "$tools/lat" --to 127.0.0.1:"${port[$1]}" --path "${path[$1]}" --seconds 2) || die "lat ($1)"
	add "$1" p50 "$(awk '{ print $2 }' <<<"$out")"
	add "$1" p99 "$(awk '{ print $5 }' <<<"$out")"
}

connections() { # CASE METRIC
	local out
	out=$(client "$1" "$tools/connrate" --to 127.0.0.1:"${port[$1]}" --path "${path[$1]}" --seconds 1) ||
		die "connrate ($1): $out"
	add "$1" "$2" "$(awk '{ print $1 }' <<<"$out")"
}

rss_kib() { # CASE: of the process that proxies
	local pid
	pid=$(proxy_pids "$1" | tail -n 1)
	# shellcheck disable=SC2016
	on "${host[$1]}" awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"
}

hold() { # CASE METRIC FLAGS...: KiB per connection that is held
	local case=$1 metric=$2 before after
	shift 2
	before=$(rss_kib "$case")
	mkfifo "$work/end"
	client "$case" "$tools/idle" --to 127.0.0.1:"${port[$case]}" --path "${path[$case]}" "$@" <"$work/end" >"$work/idle.log" 2>&1 &
	exec 9>"$work/end"
	until_ok "$idle idle connections ($case)" grep -q holding "$work/idle.log"
	after=$(rss_kib "$case")
	exec 9>&-
	wait $!
	rm "$work/end"
	grep -q "still answer" "$work/idle.log" || die "idle ($case)"
	add "$case" "$metric" "$(awk -v a="$before" -v b="$after" -v n="$idle" 'BEGIN { printf "%.2f", (b - a) / n }')"
}

# --- the report ------------------------------------------------------------------------------------

middle() { # of the numbers in the arguments
	printf '%s\n' "$@" | sort -g | awk 'NF { v[++n] = $1 } END {
		if (n) print n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2; else print "-" }'
}

median() { # CASE METRIC
	# shellcheck disable=SC2086
	middle ${value[$1.$2]:-}
}

# The median of the rounds' ratios: what disturbs the machine for a round disturbs both.
paired() { # METRIC CASE OTHER
	local i a b ratios=()
	read -ra a <<<"${value[$2.$1]}"
	read -ra b <<<"${value[$3.$1]}"
	for i in "${!a[@]}"; do
		ratios+=("$(awk -v a="${a[i]}" -v b="${b[i]}" 'BEGIN { print a / b }')")
	done
	printf '%.2f' "$(middle "${ratios[@]}")"
}

ratio() { # A B
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}

row() { # TITLE METRIC FORMAT
	local case m base
	base=$(median direct "$2")
	printf '| %s |' "$1"
	for case in $CASES; do
		m=$(median "$case" "$2")
		if [ "$m" = - ]; then
			printf ' - |'
		elif [ "$case" = direct ] || [ "$base" = - ] || [[ $2 = cpu* ]]; then
			# shellcheck disable=SC2059
			printf " $3 |" "$m"
		else
			# shellcheck disable=SC2059
			printf " $3 (%s) |" "$m" "$(ratio "$m" "$base")"
		fi
	done
	echo
}

goal() { # WHAT VALUE REL LIMIT
	local ok=no
	awk -v a="$2" -v b="$4" "BEGIN { exit !(a $3 b) }" && ok=yes
	printf '| %s | %s | %s %s | %s |\n' "$1" "$2" "${3/=/}=" "$4" "$ok"
	[ $ok = yes ]
}

report() {
	local reached=0
	echo "$(date -u +%F), Linux $(uname -r), $(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) CPUs;"
	echo "$(nginx -v 2>&1 | cut -d/ -f2 | sed 's/^/nginx /'), HAProxy $(haproxy -v | awk 'NR == 1 { print $3 }'), sockmesh $("$BUILD/mesh-agent" --version | awk '{ print $NF }');"
	echo "\`make bench\`: $rounds interleaved rounds of $seconds turns of a second, medians, in brackets the ratio to direct."
	echo
	echo '| | direct | sockmesh | everything configured | its gateway | nginx | HAProxy |'
	echo '|---|---|---|---|---|---|---|'
	row 'requests/s, c=32 keep-alive' rps '%.0f'
	row 'the same with everything on one CPU' rps1 '%.0f'
	row 'CPU seconds of the proxy per 100k of them' cpu '%.2f'
	row 'the same with everything on one CPU' cpu1 '%.2f'
	row 'new connections/s, one request each' conns '%.0f'
	row 'the same with everything on one CPU' conns1 '%.0f'
	row 'p50 of c=1 on one CPU, us' p50 '%.1f'
	row 'p99 of c=1 on one CPU, us' p99 '%.1f'
	row "KiB per idle connection, $idle held after a request" used '%.2f'
	row "KiB per idle connection, $idle that never sent" unused '%.2f'
	echo
	echo '| goal | measured | limit | reached |'
	echo '|---|---|---|---|'
	goal 'requests/s, ratio to nginx' "$(paired rps mesh nginx)" '>=' 1.00 || reached=1
	goal 'requests/s on one CPU, ratio to nginx' "$(paired rps1 mesh nginx)" '>=' 1.00 || reached=1
	goal 'requests/s with everything configured, ratio to without' "$(paired rps armed mesh)" '>=' 0.95 || reached=1
	goal 'the same with everything on one CPU' "$(paired rps1 armed mesh)" '>=' 0.95 || reached=1
	goal 'p50 of c=1, ratio to direct' "$(paired p50 mesh direct)" '<=' 2.50 || reached=1
	goal 'CPU per 100k requests, ratio to nginx' "$(paired cpu mesh nginx)" '<=' 1.00 || reached=1
	goal 'CPU per 100k requests on one CPU, ratio to nginx' "$(paired cpu1 mesh nginx)" '<=' 1.00 || reached=1
	goal 'new connections/s, ratio to nginx' "$(paired conns mesh nginx)" '>=' 0.90 || reached=1
	goal 'new connections/s on one CPU, ratio to nginx' "$(paired conns1 mesh nginx)" '>=' 0.90 || reached=1
	goal 'RSS of the supervisor, MiB' "$(ratio "$supervisor_kib" 1024)" '<=' 15 || reached=1
	goal 'RSS of the worker, MiB' "$(ratio "$worker_kib" 1024)" '<=' 15 || reached=1
	goal 'KiB per idle connection' "$(median mesh used)" '<=' 1.50 || reached=1
	return $reached
}

# The speed of a shared machine changes within seconds: a second of each case, and again.
in_turn() { # MEASURE METRIC
	local s
	for ((s = 0; s < seconds; s++)); do
		for case in $CASES; do "$1" "$case" "$2"; done
	done
}

host_start plain
host_start mesh
plain_start
mesh_start
armed_start
until_ok nginx on plain curl -sf http://127.0.0.1:$NGINX/
until_ok HAProxy on plain curl -sf http://127.0.0.1:$HAPROXY/
supervisor_kib=$(on mesh sh -c "awk '/^VmRSS/ { print \$2 }' /proc/\$(cat /run/agent.pid)/status")
worker_kib=$(rss_kib mesh)

for ((round = 1; round <= rounds; round++)); do
	echo "round $round of $rounds" >&2
	place 0 1
	in_turn throughput rps
	in_turn connections conns
	place 1 1
	in_turn throughput rps1
	in_turn connections conns1
	for case in $CASES; do latency "$case"; done
done
echo "idle connections" >&2
place 0 1
for case in mesh nginx haproxy; do hold "$case" used --used "$idle"; done
hold mesh unused --used 0 --unused "$idle"
report | tee "$BUILD/bench.md"
exit "${PIPESTATUS[0]}"

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# HTTP: no proxy, sockmesh, the same with everything configured that a service can have, its gateway, nginx and HAProxy:
# one worker each, the same origin, client and placement.
#
# Two virtual hosts: `plain` has the origin, nginx and HAProxy and no BPF program at all; `mesh` has the same origin as a
# service and the mesh. Throughput and new connections twice: client and origin on CPU 0 and the proxy on CPU 1, and
# everything on CPU 1. Latency: everything on CPU 1.

readonly HTTP_CASES="direct mesh armed gateway nginx haproxy"
readonly ARMED=9003 GATEWAY=8080 ORIGIN_FRESH=9010 ARMED_FRESH=9013

http_cases() {
	case_add direct plain $ORIGIN
	case_add mesh mesh $ORIGIN as=workload proxy=agent fresh=$ORIGIN_FRESH
	case_add armed mesh $ARMED as=workload proxy=agent fresh=$ARMED_FRESH
	case_add gateway mesh $GATEWAY path=/origin/ proxy=agent
	case_add nginx plain $NGINX proxy=nginx
	case_add haproxy plain $HAPROXY proxy=haproxy
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
	armed_config >"$work/armed.json"
	service_start mesh armed --port $ARMED -- "$tools/origin" --port $ARMED,$ARMED_FRESH
	on mesh "$BUILD/meshctl" apply -f "$work/armed.json" >/dev/null || die "the configuration of the armed service"
	until_ok "the armed service's route" on mesh curl -sf http://127.0.0.1:$GATEWAY/armed/
}

http_place() { # CPU of client and origin, CPU of the proxies
	client_cpu=$1
	pin plain origin "$1"
	pin mesh origin "$1"
	pin mesh armed "$1"
	pin plain nginx "$2"
	pin plain haproxy "$2"
	pin mesh agent "$2"
	pin mesh meshd "$2"
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
	client "$case" "$tools/idle" --to "${to[$case]}" --path "${path[$case]}" "$@" <"$work/end" >"$work/held.log" 2>&1 &
	exec 9>"$work/end"
	until_ok "$idle idle connections ($case)" grep -q holding "$work/held.log"
	after=$(rss_kib "$case")
	exec 9>&-
	wait $!
	rm "$work/end"
	grep -q "still answer" "$work/held.log" || die "idle ($case)"
	add "$case" "$metric" "$(awk -v a="$before" -v b="$after" -v n="$idle" 'BEGIN { printf "%.2f", (b - a) / n }')"
}

http_start() {
	http_cases
	host_start plain
	host_start mesh
	start plain origin "$tools/origin" --port $ORIGIN
	proxies_start plain
	agent_start mesh
	service_start mesh origin --port $ORIGIN -- "$tools/origin" --port $ORIGIN,$ORIGIN_FRESH
	armed_start
	until_ok "the origin's route" on mesh curl -sf http://127.0.0.1:$GATEWAY/origin/
	supervisor_kib=$(on mesh sh -c "awk '/^VmRSS/ { print \$2 }' /proc/\$(cat /run/agent.pid)/status")
	worker_kib=$(rss_kib mesh)
}

http_round() {
	local CASES=$HTTP_CASES
	http_place 0 1
	in_turn throughput rps
	in_turn connections conns
	http_place 1 1
	in_turn throughput rps1
	in_turn connections conns1
	seconds=$STEADY in_turn latency c1
}

http_end() {
	local case
	http_place 0 1
	echo "idle connections" >&2
	for case in mesh nginx haproxy; do hold "$case" used --used "$idle"; done
	hold mesh unused --used 0 --unused "$idle"
}

http_goals() {
	goal 'requests/s, ratio to nginx' "$(paired rps mesh nginx)" '>=' 1.00
	goal 'requests/s on one CPU, ratio to nginx' "$(paired rps1 mesh nginx)" '>=' 1.50
	goal 'requests/s with everything configured, ratio to without' "$(paired rps armed mesh)" '>=' 0.95
	goal 'the same with everything on one CPU' "$(paired rps1 armed mesh)" '>=' 0.95
	goal 'p50 of c=1, ratio to direct' "$(paired p50-c1 mesh direct)" '<=' 1.70 "$(floor_best smallest p50-floor1 hop direct)"
	goal 'CPU per 100k requests, ratio to nginx' "$(paired cpu-rps mesh nginx)" '<=' 1.00
	goal 'CPU per 100k requests on one CPU, ratio to nginx' "$(paired cpu-rps1 mesh nginx)" '<=' 1.00
	goal 'new connections/s, ratio to nginx' "$(paired conns mesh nginx)" '>=' 0.90
	goal 'new connections/s on one CPU, ratio to nginx' "$(paired conns1 mesh nginx)" '>=' 0.90
	goal 'RSS of the supervisor, MiB' "$(ratio "$supervisor_kib" 1024)" '<=' 15
	goal 'RSS of the worker, MiB' "$(ratio "$worker_kib" 1024)" '<=' 15
	goal 'KiB per idle connection' "$(median mesh used)" '<=' 1.50
}

http_report() {
	local CASES=$HTTP_CASES
	table direct sockmesh 'everything configured' 'its gateway' nginx HAProxy
	row 'requests/s, c=32 keep-alive' rps '%.0f'
	row 'the same with everything on one CPU' rps1 '%.0f'
	row 'CPU seconds of the proxy per 100k of them' cpu-rps '%.2f'
	row 'the same with everything on one CPU' cpu-rps1 '%.2f'
	row 'new connections/s, one request each' conns '%.0f'
	row 'the same with everything on one CPU' conns1 '%.0f'
	row 'p50 of c=1 on one CPU, us' p50-c1 '%.1f'
	row 'p99 of c=1 on one CPU, us' p99-c1 '%.1f'
	row "KiB per idle connection, $idle held after a request" used '%.2f'
	row "KiB per idle connection, $idle that never sent" unused '%.2f'
	http_goals
}

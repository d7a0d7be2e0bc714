# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What any implementation could reach here: the traffic of part_tcp.sh and of part_http.sh on hosts whose connections are
# all in a map of sockets, with programs that do nothing but pass or redirect (tests/bench/floor.bpf.c: no flow control,
# no order, no accounting, unsafe). Printed in tables of its own, and beside the goals (floor_* in report.sh).
#
# A host for each mode of `floor`, and `plain` without. TCP by programs that poll, round trips also by such that block:
# their streams do not outlive a recv() that gives EAGAIN where bytes skip TCP. HTTP goes straight to the origin, through a
# hop that looks at no byte (tests/bench/hop.c), through HAProxy and through nginx; p50, everything on CPU 1.
# Needs: hosts.sh, report.sh, measure.sh, proxies.sh; of part_tcp.sh the sizes.

# shellcheck source=/dev/null
declare -F size_name >/dev/null || . tests/bench/part_tcp.sh

readonly FLOOR_HOSTS="plain $FLOOR_MODES" FLOOR_HTTP="direct hop haproxy nginx"
readonly FLOOR_POLL=9200 FLOOR_BLOCK=9201 FLOOR_HOP=9202
declare -A FLOOR_PORT=([direct]=$ORIGIN [hop]=$FLOOR_HOP [haproxy]=$HAPROXY [nginx]=$NGINX)

floor_tcpbench() { # HOST NAME ADDRESS [as=POD]: a server, and a client that reaches it
	local where=$1 name=$2 at=$3 pod=${4:-} run=() flags=()
	[ -z "$pod" ] || run=(nsenter --net=/run/netns/b)
	[ "$name" != block ] || flags=(--block)
	start "$where" "$name" "${run[@]}" "$tools/tcpbench" --serve "${at#*:}" "${flags[@]}"
	case_add "floor-$where-$name" "$where" "$at" ${pod:+"$pod"}
	until_ok "tcpbench on $where" client "floor-$where-$name" "$tools/tcpbench" --to "${to[floor-$where-$name]}" --ms 1 "${flags[@]}"
}

floor_tcp_start() { # HOST
	floor_tcpbench "$1" poll 127.0.0.1:$FLOOR_POLL
	floor_tcpbench "$1" block 127.0.0.1:$FLOOR_BLOCK
	floor_tcpbench "$1" poll-veth "$TCP_NET.3:$FLOOR_POLL" as=a
}

floor_http_start() { # HOST
	local what
	on "$1" sysctl -qw net.ipv4.tcp_congestion_control="$congestion"
	start "$1" direct "$tools/origin" --port "$ORIGIN"
	start "$1" hop "$tools/hop" --port $FLOOR_HOP --to "127.0.0.1:$ORIGIN"
	proxies_start "$1"
	for what in $FLOOR_HTTP; do case_add "floor-$1-$what" "$1" "${FLOOR_PORT[$what]}"; done
	until_ok "the hop on $1" on "$1" curl -sf "http://${to[floor-$1-hop]}/"
}

floor_start() {
	local where
	client_cpu=1
	for where in $FLOOR_HOSTS; do
		congestion=$TCP_DEFAULT
		host_start "$where"
		pod_start "$where" a "$TCP_NET.2"
		pod_start "$where" b "$TCP_NET.3"
		if [ "$where" != plain ]; then
			start "$where" floor "$tools/floor" --cgroup /sys/fs/cgroup/sys --mode "$where"
			until_ok "floor on $where" grep -q ready "$work/$where-floor.log"
		fi
		floor_tcp_start "$where"
		congestion=reno
		floor_http_start "$where"
	done
}

floor_place() { # CPU of the servers, CPU of the clients
	local where name
	for where in $FLOOR_HOSTS; do
		for name in poll block poll-veth $FLOOR_HTTP; do pin "$where" "$name" "$1"; done
	done
	client_cpu=$2
}

# All sizes on each host. A turn that fails has no figure: nothing is promised where bytes skip TCP like that.
floor_tcp() { # STYLE METRIC MODE SIZES [-veth] [FLAGS of tcpbench]
	local where size first rest out at='' style=$1 metric=$2 mode=$3 sizes=$4
	shift 4
	if [ "${1:-}" = -veth ]; then at=$1 && shift; fi
	for where in $FLOOR_HOSTS; do
		out=$(client "floor-$where-$style$at" "$tools/tcpbench" --to "${to[floor-$where-$style$at]}" --mode "$mode" \
			--sizes "$sizes" --ms "$TURN_MS" "$@" 2>>"$work/floor.log") || [ "$where" != plain ] || die "tcpbench ($style)"
		while read -r size first rest; do
			[ -z "$first" ] || add "floor-$where-$style" "$metric-$size" "$first"
		done <<<"$out"
		: "$rest"
	done
}

floor_tcp_round() { # PLACEMENT
	local cc flags
	for cc in default cubic; do
		flags=()
		[ $cc = default ] || flags=(--cc "$cc")
		floor_tcp poll "stream-$1-$cc" stream "$STREAMS" "${flags[@]}"
		floor_tcp poll "veth-$1-$cc" stream "$STREAMS" -veth "${flags[@]}"
	done
	floor_tcp poll "small-$1" stream "$SMALLS" --nagle
}

floor_round() {
	local CASES='' where what
	congestion=$TCP_DEFAULT
	floor_place 1 1
	floor_tcp poll ping-one ping "$PINGS"
	floor_tcp block ping-one ping "$PINGS" --block
	floor_tcp_round one
	floor_place 1 0
	floor_tcp_round two
	congestion=reno
	floor_place 1 1
	for what in $FLOOR_HTTP; do
		for where in $FLOOR_HOSTS; do CASES+="floor-$where-$what "; done
	done
	seconds=$STEADY in_turn latency floor1
	seconds=1 in_turn latency floor32 '' 32
	floor_place 1 0
	floor_large 0
}

# A body that the origin writes in one piece, to a hop on another CPU.
floor_large() { # CPU of client and origin
	local CASES='' where
	for where in $FLOOR_HOSTS; do
		pin "$where" direct "$1"
		CASES+="floor-$where-hop "
	done
	client_cpu=$1
	seconds=$STEADY in_turn latency floor-large "?len=262144"
}

floor_end() {
	:
}

floor_cases() { # STYLE
	local where
	for where in $FLOOR_HOSTS; do printf 'floor-%s ' "$where-$1"; done
}

floor_rows() { # TITLE METRIC SIZES FORMAT
	local size
	for size in ${3//,/ }; do row "$1, $(size_name "$size")" "$2-$size" "$4"; done
}

floor_tcp_report() {
	local CASES cpus cc
	table 'floor: plain TCP' pass redirect 'redirect and verdict'
	CASES=$(floor_cases block)
	floor_rows 'round trip, programs that block, one CPU, us' ping-one "$PINGS" '%.1f'
	CASES=$(floor_cases poll)
	floor_rows 'round trip, one CPU, us' ping-one "$PINGS" '%.1f'
	for cpus in one two; do
		for cc in default cubic; do
			floor_rows "stream, ${cc/default/default ($TCP_DEFAULT)}, ${CPUS[$cpus]}, MB/s" "stream-$cpus-$cc" "$STREAMS" '%.0f'
			floor_rows 'the same between namespaces' "veth-$cpus-$cc" "$STREAMS" '%.0f'
		done
		floor_rows "small one-way messages, ${CPUS[$cpus]}, MB/s" "small-$cpus" "$SMALLS" '%.1f'
	done
}

floor_http_row() { # TITLE METRIC WHAT [BASE]
	local where m base
	base=$(median "floor-plain-${4:-direct}" "$2")
	printf '| %s |' "$1"
	for where in $FLOOR_HOSTS; do
		m=$(median "floor-$where-$3" "$2")
		printf ' %.1f (%s) |' "$m" "$(ratio "$m" "$base")"
	done
	echo
}

floor_report() {
	local what n
	floor_tcp_report
	echo
	echo 'In brackets of the next the ratio to plain TCP and no proxy.'
	echo
	table 'floor: plain TCP' 'pass' 'redirect' 'redirect and verdict'
	for n in 1 32; do
		floor_http_row "HTTP, p50 of c=$n on one CPU, us" "p50-floor$n" direct
		floor_http_row 'through a hop that looks at no byte' "p50-floor$n" hop
		floor_http_row 'through HAProxy' "p50-floor$n" haproxy
		floor_http_row 'through nginx' "p50-floor$n" nginx
	done
	floor_http_row 'HTTP, 256 KiB, p50 of c=1 through that hop on another CPU (ratio: to plain TCP and the hop), us' p50-floor-large hop hop
}

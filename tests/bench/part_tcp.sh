# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# TCP services against plain TCP: round trips, streams, small one-way messages (tests/bench/tcpbench), in one network
# namespace and between two (veth, bridge), with this machine's default congestion control and with cubic, by programs that poll and by programs that block in
# recv(); and how long a refused connect() takes.
#
# `plain` has servers in its own namespace and in a pod, `mesh` the same as services of protocol tcp:
#   poll, block            in the callers' namespace, for streams
#   poll-veth, block-veth  in one of their own, called from another, for streams
#   poll-ping, block-ping  for round trips: the mesh judges by a service's traffic whether it is to skip TCP
#   small                  enrolled whatever is measured (accelerate: on)
#   measured               not enrolled (off): what becomes of a service whose messages were found not to gain
#   broken                 its breaker is open

readonly TCP_POLL=9100 TCP_BLOCK=9101 TCP_SMALL=9102 TCP_MEASURED=9103 TCP_BROKEN=9104 TCP_NET=10.202.0
readonly PINGS=64,1024,16384,65536 STREAMS=16384,65536,262144,1048576 SMALLS=64,512,4096
readonly TURN_MS=150
TCP_DEFAULT=$(sysctl -n net.ipv4.tcp_congestion_control)
readonly TCP_DEFAULT TCP_CASES="plain-poll mesh-poll plain-block mesh-block"

service_config() { # SERVICE ACCELERATE
	echo "{\"service\":\"$1\",\"protocol\":\"tcp\",\"accelerate\":\"$2\"}" |
		on mesh "$BUILD/meshctl" apply -f - >/dev/null 2>&1 || die "the configuration of $1"
}

tcp_service() { # NAME PORT ACCELERATE [FLAGS of meshctl run] [-- FLAGS of tcpbench]
	local name=$1 port=$2 flags=()
	service_config "$1" "$3"
	shift 3
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		flags+=("$1")
		shift
	done
	service_start mesh "$name" --port "$port" --protocol tcp "${flags[@]}" -- "$tools/tcpbench" --serve "$port" "${@:2}"
}

tcp_pair() { # STYLE PORT [FLAGS of tcpbench]: its servers on both hosts, its cases; PORT and the ten behind it
	local style=$1 port=$2 ping=$(($2 + 10)) name
	shift 2
	start plain "$style" "$tools/tcpbench" --serve "$port" "$@"
	start plain "$style-ping" "$tools/tcpbench" --serve "$ping" "$@"
	start plain "$style-veth" nsenter --net=/run/netns/b "$tools/tcpbench" --serve "$port" "$@"
	tcp_service "$style" "$port" auto -- "$@"
	tcp_service "$style-ping" "$ping" auto -- "$@"
	tcp_service "$style-veth" "$port" auto --netns -- "$@"
	case_add "plain-$style" plain "$port"
	case_add "mesh-$style" mesh "$port" as=workload
	case_add "plain-$style-ping" plain "$ping"
	case_add "mesh-$style-ping" mesh "$ping" as=workload
	case_add "plain-$style-veth" plain "$TCP_NET.3:$port" as=a
	case_add "mesh-$style-veth" mesh "$(on mesh cat "/run/$style-veth.address"):$port" as=netns
	for name in plain mesh; do against["$name-$style"]="plain-$style"; done
}

tcp_start() {
	congestion=$TCP_DEFAULT
	host_start plain
	host_start mesh
	pod_start plain a $TCP_NET.2
	pod_start plain b $TCP_NET.3
	agent_start mesh
	tcp_pair poll $TCP_POLL
	tcp_pair block $TCP_BLOCK --block
	tcp_service small $TCP_SMALL on
	tcp_service measured $TCP_MEASURED off
	tcp_service broken $TCP_BROKEN auto
	case_add small mesh $TCP_SMALL as=workload
	case_add measured mesh $TCP_MEASURED as=workload
	case_add broken mesh $TCP_BROKEN as=workload
	on mesh "$BUILD/meshctl" breaker open broken >/dev/null || die "cannot open the breaker"
}

tcp_place() { # CPU of the servers, CPU of the clients
	local name
	for name in {poll,block}{,-ping,-veth}; do
		pin plain "$name" "$1"
		pin mesh "$name" "$1"
	done
	pin mesh small "$1"
	pin mesh measured "$1"
	client_cpu=$2
}

# All sizes of a mode: METRIC-SIZE of a case, microseconds or MB/s, measured by that case or by CASE-ping, CASE-veth.
tcp_turn() { # CASE COLUMN METRIC MODE SIZES [FLAGS of tcpbench]
	local size first rest out flags=()
	[[ $1 = *-block* ]] && flags=(--block)
	out=$(client "$1" "$tools/tcpbench" --to "${to[$1]}" --mode "$4" --sizes "$5" --ms $TURN_MS "${flags[@]}" "${@:6}") ||
		die "tcpbench ($1 $4)"
	while read -r size first rest; do
		add "$2" "$3-$size" "$first"
	done <<<"$out"
	: "$rest"
}

tcp_round() {
	local cpus case cc flags
	for cpus in one two; do
		if [ $cpus = one ]; then tcp_place 1 1; else tcp_place 1 0; fi
		for case in $TCP_CASES; do tcp_turn "$case-ping" "$case" "ping-$cpus" ping $PINGS; done
		for cc in default cubic; do
			flags=()
			[ $cc = default ] || flags=(--cc $cc)
			for case in $TCP_CASES; do
				tcp_turn "$case" "$case" "stream-$cpus-$cc" stream $STREAMS "${flags[@]}"
			done
			for case in $TCP_CASES; do
				tcp_turn "$case-veth" "$case" "veth-$cpus-$cc" stream $STREAMS "${flags[@]}"
			done
		done
		for case in plain-poll small measured; do
			tcp_turn "$case" "$case" "small-$cpus" stream $SMALLS --nagle
		done
	done
	tcp_place 1 1
	read -r p50 p99 _ < <(client broken "$tools/tcpbench" --to "${to[broken]}" --mode refused --ms $TURN_MS) ||
		die "a refused connect()"
	add broken refused-p50 "$p50"
	add broken refused-p99 "$p99"
}

tcp_end() {
	congestion=reno
}

tcp_ratios() { # METRIC SIZES CASE OTHER: of each size
	local size
	for size in ${2//,/ }; do
		paired "$1-$size" "$3" "$4"
		echo
	done
}

# shellcheck disable=SC2046 # lists of numbers
tcp_stream_goals() { # PLACEMENT CC STYLE
	goal "TCP stream, 16 KiB to 1 MiB, ${2/default/default ($TCP_DEFAULT)}, ${CPUS[$1]}, programs that $3, worst ratio to plain TCP" \
		"$(smallest $(tcp_ratios "stream-$1-$2" $STREAMS "mesh-$3" "plain-$3"))" '>=' 1.00
	goal 'the same between namespaces' \
		"$(smallest $(tcp_ratios "veth-$1-$2" $STREAMS "mesh-$3" "plain-$3"))" '>=' 1.50
}

# shellcheck disable=SC2046 # lists of numbers
tcp_goals() {
	local cc cpus style
	goal 'TCP round trip, 64 B to 64 KiB on one CPU, programs that block, worst ratio to plain TCP' \
		"$(largest $(tcp_ratios ping-one $PINGS mesh-block plain-block))" '<=' 0.70
	for cpus in one two; do
		for cc in default cubic; do
			for style in poll block; do tcp_stream_goals $cpus $cc $style; done
		done
	done
	goal 'small one-way messages before the service was measured, worst ratio to plain TCP' \
		"$(smallest $(tcp_ratios small-one $SMALLS small plain-poll) $(tcp_ratios small-two $SMALLS small plain-poll))" '>=' 0.50
	goal 'the same once it is not enrolled any more' \
		"$(smallest $(tcp_ratios small-one $SMALLS measured plain-poll) $(tcp_ratios small-two $SMALLS measured plain-poll))" '>=' 0.95
	goal 'refused connect() with an open breaker, p50 in us' "$(median broken refused-p50)" '<=' 50
	goal 'the same, p99 in us' "$(median broken refused-p99)" '<=' 50
}

size_name() { # BYTES
	if [ "$1" -ge 1048576 ]; then
		echo "$(($1 / 1048576)) MiB"
	elif [ "$1" -ge 1024 ]; then
		echo "$(($1 / 1024)) KiB"
	else
		echo "$1 B"
	fi
}

tcp_rows() { # TITLE METRIC SIZES FORMAT
	local size
	for size in ${3//,/ }; do
		row "$1, $(size_name "$size")" "$2-$size" "$4"
	done
}

tcp_report() {
	local CASES=$TCP_CASES cpus cc
	table 'plain TCP, polling' 'TCP service' 'plain TCP, blocking' 'TCP service'
	for cpus in one two; do
		tcp_rows "round trip, ${CPUS[$cpus]}, us" "ping-$cpus" $PINGS '%.1f'
		for cc in default cubic; do
			tcp_rows "stream, ${cc/default/default ($TCP_DEFAULT)}, ${CPUS[$cpus]}, MB/s" "stream-$cpus-$cc" $STREAMS '%.0f'
			tcp_rows 'the same between namespaces' "veth-$cpus-$cc" $STREAMS '%.0f'
		done
	done
	echo
	CASES='plain-poll small measured'
	table 'plain TCP' 'TCP service, enrolled' 'not enrolled any more'
	for cpus in one two; do
		tcp_rows "small one-way messages, ${CPUS[$cpus]}, MB/s" "small-$cpus" $SMALLS '%.1f'
	done
	tcp_goals
}

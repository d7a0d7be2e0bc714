# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# TCP services against plain TCP: round trips, streams, small one-way messages (tests/bench/tcpbench), in one network
# namespace and between two (veth, bridge), with this machine's default congestion control and with cubic, by programs that poll and by programs that block in
# recv(); and how long a refused connect() takes.
#
# `plain` has servers in its own namespace and in a pod, `mesh` the same as services of protocol tcp:
#   poll, block            in the callers' namespace
#   poll-veth, block-veth  in one of their own, called from another
#   small                  enrolled whatever is measured (accelerate: on), what a service is before it was measured
#   measured               small messages of a service that was measured
#   broken                 its breaker is open
#
# The mesh judges by the traffic of a service's port whether its connections are to skip TCP, and a service has one
# pattern. So each row of the table has a port of its own, and before it is measured it gets connections that are not,
# until the agent says that it has been judged and that nothing is being tried (tcp_settle). What it came to is in the
# table. Programs that block are never enrolled, so there is nothing to wait for.

readonly TCP_POLL=9200 TCP_BLOCK=9300 TCP_SMALL=9102 TCP_MEASURED=9400 TCP_BROKEN=9104 TCP_NET=10.202.0
readonly TCP_PORTS=24 # of a server: tcp_port
readonly PINGS=64,1024,16384,65536 STREAMS=16384,65536,262144,1048576 SMALLS=64,512,4096
readonly TURN_MS=100 TURNS=3 SETTLE_MS=50
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

tcp_pair() { # STYLE PORT [FLAGS of tcpbench]: its servers on both hosts, its cases; PORT and those behind it
	local style=$1 port=$2 name
	shift 2
	set -- --ports $TCP_PORTS "$@"
	start plain "$style" "$tools/tcpbench" --serve "$port" "$@"
	start plain "$style-veth" nsenter --net=/run/netns/b "$tools/tcpbench" --serve "$port" "$@"
	tcp_service "$style" "$port" auto -- "$@"
	tcp_service "$style-veth" "$port" auto --netns -- "$@"
	case_add "plain-$style" plain "$port"
	case_add "mesh-$style" mesh "$port" as=workload
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
	tcp_service measured $TCP_MEASURED auto -- --ports $TCP_PORTS
	tcp_service broken $TCP_BROKEN auto
	case_add small mesh $TCP_SMALL as=workload
	case_add measured mesh $TCP_MEASURED as=workload
	case_add broken mesh $TCP_BROKEN as=workload
	on mesh "$BUILD/meshctl" breaker open broken >/dev/null || die "cannot open the breaker"
}

# The row's number among the ports of a server.
tcp_port() { # METRIC SIZE SIZES: ping-CPUS, small-CPUS, stream-CPUS-CC or veth-CPUS-CC
	local n i=0 size
	case $1 in
	*-one) n=0 ;;
	*-two) n=4 ;;
	*-one-default) n=8 ;;
	*-one-cubic) n=12 ;;
	*-two-default) n=16 ;;
	*-two-cubic) n=20 ;;
	esac
	for size in ${3//,/ }; do
		[ "$size" = "$2" ] && break
		i=$((i + 1))
	done
	echo $((n + i))
}

# A number that the agent of `mesh` tells of a service's port: the sum of its samples with these words; 0: none yet.
tcp_metric() { # METRIC SERVICE PORT
	on mesh curl -sf http://127.0.0.1:15020/metrics |
		awk -v name="$1{service=\"$2\",port=\"$3\"" 'index($0, name) == 1 { n += $NF } END { print n + 0 }'
}

tcp_state() { # SERVICE PORT
	on mesh curl -sf http://127.0.0.1:15020/metrics |
		sed -n "s/^mesh_splice_service_state{service=\"$1\",port=\"$2\",state=\"\(.*\)\"}.*/\1/p"
}

tcp_is_seen() { # SERVICE PORT CONNECTIONS: more were counted
	[ "$(tcp_metric mesh_splice_service_connections_total "$1" "$2")" -gt "$3" ]
}

tcp_is_settled() { # SERVICE PORT
	local held
	[ "$(tcp_metric mesh_splice_service_judgements_total "$1" "$2")" -ge 3 ] || return
	held=$(tcp_metric mesh_splice_service_held_back_ratio "$1" "$2")
	[ "$held" = 0.01 ] || [ "$held" = 0.99 ]
}

# Connections that are not measured, until the agent has counted them, has judged, and tries nothing.
tcp_settle() { # SERVICE PORT CMD...: one turn of connections
	local service=$1 port=$2 before _
	shift 2
	for _ in {1..30}; do
		before=$(tcp_metric mesh_splice_service_connections_total "$service" "$port")
		"$@" >/dev/null || die "tcpbench ($service $port)"
		until_ok "what $service:$port did" tcp_is_seen "$service" "$port" "$before"
		tcp_is_settled "$service" "$port" && return
	done
	echo "bench: $service:$port does not settle" >&2
}

tcp_place() { # CPU of the servers, CPU of the clients
	local name
	for name in {poll,block}{,-veth}; do
		pin plain "$name" "$1"
		pin mesh "$name" "$1"
	done
	pin mesh small "$1"
	pin mesh measured "$1"
	client_cpu=$2
}

tcp_client() { # CASE PORT MODE SIZES MS [FLAGS of tcpbench]
	local case=$1 flags=()
	[[ $case = *-block* ]] && flags=(--block)
	client "$case" "$tools/tcpbench" --to "${to[$case]%:*}:$2" --mode "$3" --sizes "$4" --ms "$5" "${flags[@]}" "${@:6}"
}

# Before a row is measured: state-METRIC-SIZE of its column is what the mesh made of the service.
tcp_ready() { # CASE COLUMN METRIC MODE SIZE PORT [FLAGS of tcpbench]
	local case=$1 column=$2 metric=$3-$5 mode=$4 size=$5 port=$6 service=${1#mesh-}
	shift 6
	case $case in
	mesh-poll* | measured)
		tcp_settle "$service" "$port" tcp_client "$case" "$port" "$mode" "$size,$size,$size,$size,$size,$size" \
			$SETTLE_MS "$@"
		add "$column" "state-$metric" "$(tcp_state "$service" "$port")"
		;;
	esac
}

# One row: METRIC-SIZE of a column, microseconds or MB/s, measured by a case.
tcp_size() { # CASE COLUMN METRIC MODE SIZE PORT [FLAGS of tcpbench]
	local out
	out=$(tcp_client "$1" "$6" "$4" "$5" $TURN_MS "${@:7}") || die "tcpbench ($1 $4)"
	read -r _ out _ <<<"$out"
	add "$2" "$3-$5" "$out"
}

# Each size by each case, whose columns have no suffix. What is compared is measured in turns that follow each other, since the
# machine itself has times at which it runs at two thirds of its speed.
tcp_turn() { # CASES SUFFIX METRIC MODE SIZES [FLAGS of tcpbench]
	local case size port turn
	for size in ${5//,/ }; do
		for ((turn = 0; turn <= TURNS; turn++)); do
			for case in $1; do
				port=${to[$case$2]##*:}
				[ "$case" = small ] || port=$((port + $(tcp_port "$3" "$size" "$5")))
				if [ $turn = 0 ]; then
					tcp_ready "$case$2" "$case" "$3" "$4" "$size" "$port" "${@:6}"
				else
					tcp_size "$case$2" "$case" "$3" "$4" "$size" "$port" "${@:6}"
				fi
			done
		done
	done
}

tcp_round() {
	local cpus cc flags
	for cpus in one two; do
		if [ $cpus = one ]; then tcp_place 1 1; else tcp_place 1 0; fi
		tcp_turn "$TCP_CASES" '' "ping-$cpus" ping $PINGS
		for cc in default cubic; do
			flags=()
			[ $cc = default ] || flags=(--cc $cc)
			tcp_turn "$TCP_CASES" '' "stream-$cpus-$cc" stream $STREAMS "${flags[@]}"
			tcp_turn "$TCP_CASES" -veth "veth-$cpus-$cc" stream $STREAMS "${flags[@]}"
		done
		tcp_turn 'plain-poll small measured' '' "small-$cpus" stream $SMALLS --nagle
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
		"$(smallest $(tcp_ratios "stream-$1-$2" $STREAMS "mesh-$3" "plain-$3"))" '>=' 1.00 \
		"$(smallest $(floor_ratios largest "stream-$1-$2" $STREAMS "$3"))"
	goal 'the same between namespaces' \
		"$(smallest $(tcp_ratios "veth-$1-$2" $STREAMS "mesh-$3" "plain-$3"))" '>=' 1.50 \
		"$(smallest $(floor_ratios largest "veth-$1-$2" $STREAMS "$3"))"
}

# shellcheck disable=SC2046 # lists of numbers
tcp_goals() {
	local cc cpus style
	for style in poll block; do
		goal "TCP round trip, 64 B to 64 KiB on one CPU, programs that $style, worst ratio to plain TCP" \
			"$(largest $(tcp_ratios ping-one $PINGS "mesh-$style" "plain-$style"))" '<=' 0.70 \
			"$(largest $(floor_ratios smallest ping-one $PINGS "$style"))"
	done
	for cpus in one two; do
		for cc in default cubic; do
			for style in poll block; do tcp_stream_goals $cpus $cc $style; done
		done
	done
	goal 'small one-way messages before the service was measured, worst ratio to plain TCP' \
		"$(smallest $(tcp_ratios small-one $SMALLS small plain-poll) $(tcp_ratios small-two $SMALLS small plain-poll))" '>=' 0.50 \
		"$(smallest $(floor_ratios largest small-one $SMALLS poll) $(floor_ratios largest small-two $SMALLS poll))"
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

tcp_rows() { # TITLE METRIC SIZES FORMAT COLUMN, of whose services it is told whether they skip TCP
	local size
	for size in ${3//,/ }; do
		row "$1, $(size_name "$size")" "$2-$size" "$4" "$(tcp_states "$5" "$2-$size")"
	done
}

# What the mesh made of a row's service, in each round in which that was another than before.
tcp_states() { # COLUMN METRIC
	tr ' ' '\n' <<<"${value[$1.state-$2]:-}" | sed '/^$/d; s/^enrolled$/yes/; s/^\([^y].*\)/no: \1/' | uniq | paste -sd ';' | sed 's/;/; /g'
}

tcp_report() {
	local CASES=$TCP_CASES cpus cc
	table 'plain TCP, polling' 'TCP service' 'plain TCP, blocking' 'TCP service' 'polling: skips TCP'
	for cpus in one two; do
		tcp_rows "round trip, ${CPUS[$cpus]}, us" "ping-$cpus" $PINGS '%.1f' mesh-poll
		for cc in default cubic; do
			tcp_rows "stream, ${cc/default/default ($TCP_DEFAULT)}, ${CPUS[$cpus]}, MB/s" "stream-$cpus-$cc" $STREAMS '%.0f' mesh-poll
			tcp_rows 'the same between namespaces' "veth-$cpus-$cc" $STREAMS '%.0f' mesh-poll
		done
	done
	echo
	CASES='plain-poll small measured'
	table 'plain TCP' 'TCP service, enrolled' 'once it was measured' 'then: skips TCP'
	for cpus in one two; do
		tcp_rows "small one-way messages, ${CPUS[$cpus]}, MB/s" "small-$cpus" $SMALLS '%.1f' measured
	done
	tcp_goals
}

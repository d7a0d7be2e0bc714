# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# TCP services against plain TCP: round trips, streams, small one-way messages (tests/bench/tcpbench), in one network
# namespace and between two (veth, bridge), with bbr and with cubic; and how long a refused connect() takes.
#
# `plain` has a server in its own namespace and one in a pod; `mesh` the same as services of protocol tcp:
#   echo, remote  accelerate: on      echo in the callers' namespace, remote in one of its own
#   small         accelerate: off     what becomes of a service whose small messages were found not to gain
#   broken        its breaker is open

readonly ECHO=9100 SMALL=9101 BROKEN=9102 PODS=10.202.0
readonly PINGS=64,1024,16384,65536 STREAMS=16384,65536,262144,1048576 SMALLS=64,512,4096
readonly TURN_MS=200

service_config() { # SERVICE ACCELERATE
	echo "{\"service\":\"$1\",\"protocol\":\"tcp\",\"accelerate\":\"$2\"}" |
		on mesh "$BUILD/meshctl" apply -f - >/dev/null || die "the configuration of $1"
}

tcp_service() { # NAME PORT ACCELERATE [FLAGS of meshctl run]
	service_config "$1" "$3"
	service_start mesh "$1" --port "$2" --protocol tcp "${@:4}" -- "$tools/tcpbench" --serve "$2"
}

tcp_start() {
	host_start plain
	host_start mesh
	pod_start plain a $PODS.2
	pod_start plain b $PODS.3
	start plain echo "$tools/tcpbench" --serve $ECHO
	start plain remote nsenter --net=/run/netns/b "$tools/tcpbench" --serve $ECHO
	agent_start mesh
	tcp_service echo $ECHO on
	tcp_service small $SMALL off
	tcp_service broken $BROKEN auto
	tcp_service remote $ECHO on --netns
	case_add plain plain $ECHO
	case_add mesh mesh $ECHO as=workload
	case_add measured mesh $SMALL as=workload
	case_add plain-veth plain $PODS.3:$ECHO as=a
	case_add mesh-veth mesh "$(on mesh cat /run/remote.address):$ECHO" as=netns
	case_add broken mesh $BROKEN as=workload
	on mesh "$BUILD/meshctl" breaker open broken >/dev/null || die "cannot open the breaker"
}

tcp_place() { # CPU of the servers, CPU of the clients
	local name
	pin plain echo "$1"
	pin plain remote "$1"
	for name in echo small remote; do pin mesh "$name" "$1"; done
	client_cpu=$2
}

# All sizes of a mode: MODE-SIZE-SUFFIX of the case, microseconds or MB/s.
tcp_turn() { # CASE SUFFIX MODE SIZES [FLAGS of tcpbench]
	local size first rest out
	out=$(client "$1" "$tools/tcpbench" --to "${to[$1]}" --mode "$3" --sizes "$4" --ms $TURN_MS "${@:5}") || die "tcpbench ($1 $3)"
	while read -r size first rest; do
		add "$1" "$3-$size-$2" "$first"
	done <<<"$out"
	: "$rest"
}

# A veth case is noted under the name of the one without, so that both stand in one column.
tcp_streams() { # SUFFIX CC
	local case
	for case in plain mesh; do
		tcp_turn $case "$1-$2" stream $STREAMS --cc "$2"
		tcp_turn $case-veth "$1-$2" stream $STREAMS --cc "$2"
	done
}

tcp_round() {
	local cpus case
	for cpus in one two; do
		[ $cpus = one ] && tcp_place 1 1 || tcp_place 1 0
		for case in plain mesh; do tcp_turn $case $cpus ping $PINGS; done
		tcp_streams $cpus cubic
		tcp_streams $cpus bbr
		for case in plain mesh measured; do tcp_turn $case "$cpus-small" stream $SMALLS --nagle; done
	done
	tcp_place 1 1
	read -r p50 p99 _ < <(client broken "$tools/tcpbench" --to "${to[broken]}" --mode refused --ms $TURN_MS) || die "a refused connect()"
	add broken refused-p50 "$p50"
	add broken refused-p99 "$p99"
}

tcp_end() {
	:
}

tcp_ratios() { # METRIC-PREFIX SIZES METRIC-SUFFIX CASE OTHER: of each size
	local size
	for size in ${2//,/ }; do
		paired "$1-$size-$3" "$4" "$5"
		echo
	done
}

# shellcheck disable=SC2046 # lists of numbers
tcp_goals() {
	local cc cpus
	goal 'TCP round trip, 64 B to 64 KiB on one CPU, worst ratio to plain TCP' \
		"$(largest $(tcp_ratios ping $PINGS one mesh plain))" '<=' 0.70
	for cc in bbr cubic; do
		for cpus in one two; do
			goal "TCP stream, 16 KiB to 1 MiB, $cc, ${CPUS[$cpus]}, worst ratio to plain TCP" \
				"$(smallest $(tcp_ratios stream $STREAMS $cpus-$cc mesh plain))" '>=' 1.00
			goal "the same between namespaces" \
				"$(smallest $(tcp_ratios stream $STREAMS $cpus-$cc mesh-veth plain-veth))" '>=' 1.50
		done
	done
	goal 'small one-way messages before the service was measured, worst ratio to plain TCP' \
		"$(smallest $(tcp_ratios stream $SMALLS one-small mesh plain) $(tcp_ratios stream $SMALLS two-small mesh plain))" '>=' 0.50
	goal 'the same once it is not enrolled any more' \
		"$(smallest $(tcp_ratios stream $SMALLS one-small measured plain) $(tcp_ratios stream $SMALLS two-small measured plain))" '>=' 0.95
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

tcp_rows() { # TITLE METRIC-PREFIX SIZES METRIC-SUFFIX FORMAT
	local size
	for size in ${3//,/ }; do
		row "$1, $(size_name "$size")" "$2-$size-$4" "$5"
	done
}

tcp_report() {
	local CASES cpus cc
	table 'plain TCP' 'TCP service'
	for cpus in one two; do
		CASES='plain mesh'
		tcp_rows "round trip, ${CPUS[$cpus]}, us" ping $PINGS $cpus '%.1f'
		for cc in bbr cubic; do
			tcp_rows "stream, $cc, ${CPUS[$cpus]}, MB/s" stream $STREAMS $cpus-$cc '%.0f'
			CASES='plain-veth mesh-veth'
			tcp_rows "the same between namespaces" stream $STREAMS $cpus-$cc '%.0f'
			CASES='plain mesh'
		done
	done
	echo
	table 'plain TCP' 'TCP service' 'not enrolled any more'
	CASES='plain mesh measured'
	for cpus in one two; do
		tcp_rows "small one-way messages, ${CPUS[$cpus]}, MB/s" stream $SMALLS $cpus-small '%.1f'
	done
	tcp_goals
}

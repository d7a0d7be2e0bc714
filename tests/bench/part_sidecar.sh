# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# One request from a network namespace to another: without anything between, through sockmesh, and through a pair of
# sidecars, as sidecar meshes do it: a proxy beside the client and one beside the origin, to which nft redirects what
# goes out and what comes in. HAProxy is both sidecars. Everything on CPU 1.

readonly SIDE_CASES="side-direct side-mesh side-pair"
readonly SIDE_PORT=9000 SIDE_OUT=15001 SIDE_IN=15006 SIDE_USER=65534 SIDE_NET=10.203.0

side_redirect() { # POD HOOK MATCH PORT
	printf 'table ip sidecar { chain calls {\ntype nat hook %s priority -100\ntcp dport %s %s redirect to :%s\n}\n}\n' \
		"$2" $SIDE_PORT "$3" "$4" | on plain nsenter "--net=/run/netns/$1" nft -f - || die "nft in $1"
}

side_plain_start() {
	local pod
	chmod 711 "$work" # the sidecars are not root
	for pod in a b c d; do pod_start plain $pod "$SIDE_NET.$(printf %d "'$pod")"; done
	side_redirect c output "meta skuid != $SIDE_USER" $SIDE_OUT
	side_redirect d prerouting '' $SIDE_IN
	haproxy_config out 0.0.0.0:$SIDE_OUT "${to[side-pair]}"
	haproxy_config in 0.0.0.0:$SIDE_IN 127.0.0.1:$SIDE_PORT
	start plain side-origin nsenter --net=/run/netns/b "$tools/origin" --port $SIDE_PORT
	start plain pair-origin nsenter --net=/run/netns/d "$tools/origin" --port $SIDE_PORT
	start plain pair-out nsenter --net=/run/netns/c setpriv --reuid=$SIDE_USER --clear-groups haproxy -db -f "$work/out.cfg"
	start plain pair-in nsenter --net=/run/netns/d setpriv --reuid=$SIDE_USER --clear-groups haproxy -db -f "$work/in.cfg"
}

sidecar_start() {
	local name
	case_add side-direct plain "$SIDE_NET.98:$SIDE_PORT" as=a
	case_add side-pair plain "$SIDE_NET.100:$SIDE_PORT" as=c
	host_start plain
	host_start mesh
	side_plain_start
	agent_start mesh
	service_start mesh side-origin --port $SIDE_PORT --netns -- "$tools/origin" --port $SIDE_PORT
	case_add side-mesh mesh "$(on mesh cat /run/side-origin.address):$SIDE_PORT" as=netns
	client_cpu=1
	for name in $SIDE_CASES; do
		until_ok "the origin ($name)" client "$name" curl -sf "http://${to[$name]}/"
	done
	for name in side-origin pair-origin pair-out pair-in; do pin plain $name 1; done
	for name in side-origin agent meshd; do pin mesh $name 1; done
}

sidecar_round() {
	local CASES=$SIDE_CASES
	seconds=$STEADY in_turn latency side
	in_turn throughput side32
}

sidecar_end() {
	:
}

sidecar_report() {
	local CASES=$SIDE_CASES floor
	table 'direct' 'sockmesh' 'a pair of sidecars'
	row 'between namespaces, p50 of c=1 on one CPU, us' p50-side '%.1f'
	row 'the same, p99' p99-side '%.1f'
	row 'requests/s, c=32 keep-alive' side32 '%.0f'
	floor=$(floor_median p50-floor1 hop) # redirect knows no namespaces
	goal 'p50 of c=1 between namespaces, ratio to a pair of sidecars' "$(paired p50-side side-mesh side-pair)" '<=' 0.30 \
		"${floor:+$(ratio "$floor" "$(median side-pair p50-side)")}"
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Virtual hosts for bench.sh, and what runs on them. A part starts what it needs and ends with hosts_end.
# Needs: $work (a scratch directory), $BUILD, $accelerate.

hosts=()
congestion=reno # of TCP on the hosts: a default of bbr would halve it on loopback
tools=$BUILD/tests/bench

die() {
	echo "bench: $*" >&2
	tail -n 5 "$work"/*.log >&2
	exit 1
}

hosts_end() {
	local pid
	for pid in "${hosts[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	wait
	hosts=()
}

on() { # HOST CMD...
	local where=$1
	shift
	demo/vhost enter --name "bench$$-$where" -- "$@"
}

# What is served, over HTTP or in a registry, has no event that a shell could wait for: polls for 10 s.
until_ok() { # WHAT CMD...
	local what=$1 _
	shift
	for _ in {1..200}; do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	die "$what is not there after 10 s"
}

host_start() { # HOST
	local up
	exec {up}<> <(:) # a pipe, by which it says that it is there
	demo/vhost run --name "bench$$-$1" -- sh -c 'echo; exec sleep infinity' >&"$up" 2>"$work/$1.log" &
	hosts+=($!)
	read -r -t 10 -u "$up" || die "the virtual host $1 is not there after 10 s"
	exec {up}<&-
	# thousands of connections need ports
	on "$1" sysctl -qw net.ipv4.ip_local_port_range="20000 65000" net.ipv4.tcp_congestion_control=$congestion
}

start() { # HOST NAME CMD...: in the background, its pid in /run/NAME.pid of the host
	local where=$1 name=$2
	shift 2
	# shellcheck disable=SC2016
	on "$where" sh -c 'echo $$ >/run/$0.pid; ulimit -n 20000; exec "$@"' "$name" "$@" >"$work/$where-$name.log" 2>&1 &
}

agent_start() { # HOST [ACCELERATE [FLAGS...]]: meshd and an agent with one worker
	local where=$1 how=${2:-$accelerate}
	start "$where" meshd "$BUILD/meshd" --state /run/state
	until_ok meshd on "$where" test -s /run/state/token
	start "$where" agent "$BUILD/mesh-agent" --workers 1 --token-file /run/state/token \
		--accelerate "$how" "${@:3}"
	until_ok mesh-agent on "$where" curl -sf http://127.0.0.1:15020/readyz
}

# An instance of a service, /run/NAME.pid and /run/NAME.address are its own.
service_start() { # HOST NAME [FLAGS of meshctl run] -- CMD...
	local where=$1 name=$2 flags=()
	shift 2
	while [ "$1" != -- ]; do
		flags+=("$1")
		shift
	done
	shift
	# shellcheck disable=SC2016
	start "$where" "run-$name" "$BUILD/meshctl" run --service "$name" --instance "$name-1" "${flags[@]}" -- \
		sh -c 'echo "${MESH_ADDRESS:-127.0.0.1}" >/run/$0.address; echo $$ >/run/$0.pid
			sysctl -qw net.ipv4.tcp_congestion_control=$1; shift; exec "$@"' "$name" $congestion "$@"
	until_ok "the service $name" on "$where" sh -c "'$BUILD/meshctl' get endpoints $name | grep -q $name-1"
}

# A network namespace on a bridge of the host, as `meshctl run --netns` makes it.
pod_start() { # HOST NAME ADDRESS (in 10.202.0.0/16)
	on "$1" sh -ec "ip link show br0 >/dev/null 2>&1 || {
			ip link add br0 type bridge
			ip addr add 10.202.0.1/16 dev br0
			ip link set br0 up
		}
		ip netns add $2
		ip link add v-$2 master br0 type veth peer name eth0 netns $2
		ip link set v-$2 up
		cd /
		nsenter --net=/run/netns/$2 sh -ec 'ip link set lo up
			ip addr add $3/16 dev eth0
			ip link set eth0 up
			sysctl -qw net.ipv4.tcp_congestion_control=$congestion'" || die "cannot make the namespace $2"
}

pids() { # HOST NAME: the process and its children
	on "$1" sh -c "p=\$(cat /run/$2.pid); echo \$p; pgrep -P \$p"
}

pin() { # HOST NAME CPU
	local pid
	for pid in $(pids "$1" "$2"); do
		on "$1" taskset -a -p -c "$3" "$pid" >/dev/null || die "cannot pin $2"
	done
}

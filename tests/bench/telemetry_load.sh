#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# meshd under the telemetry of agents that are none (telemetry_load.c), on a virtual host of its own: memory, and how long answers
# take. Flags go to telemetry_load. Exit: 1 when a limit is not met.
set -eu
cd "$(dirname "$0")/../.."
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD
if [ "${1:-}" != __inside ]; then
	exec demo/vhost run --name telemetry-load -- "$(realpath "$0")" __inside "$@"
fi
shift
state=$(mktemp -d /var/tmp/telemetry-load-XXXXXX)
mkdir -p /run/mesh/conf.d
"$BUILD/meshd" --config /run/mesh/conf.d --state "$state" >/run/meshd.log 2>&1 &
pid=$!
trap 'kill $pid 2>/dev/null; wait $pid 2>/dev/null || true; rm -rf "$state"' EXIT
for _ in $(seq 100); do # there is no event of it that a shell could wait for
	[ -S /run/mesh/meshd.sock ] && break
	sleep 0.05
done
status=0
"$BUILD/tests/bench/telemetry_load" --pid "$pid" "$@" || status=1
[ "$status" = 0 ] || cat /run/meshd.log
du -sh "$state" | cut -f 1
exit $status

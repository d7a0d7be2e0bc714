#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# 200 kills (SIGKILL), each at a random moment, by turns of the supervisor alone, of one worker and of everything at once, under
# new connections: none that was begun after the kill may fail; where the supervisor was killed alone, none at all.
# tests/bench/soak-kill.sh [KILLS] (200), on a virtual host of its own; tests/e2e/test_endure.c says what counts.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD SOAK_KILLS=${1:-200} SOAK_RATE=${SOAK_RATE:-1000}
exec demo/vhost run --name soak -- "$BUILD/tests/e2e/test_endure" 'kills*'

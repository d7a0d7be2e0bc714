#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# 100 upgrades under 2,000 requests a second, half captured, half by the gateway: a million requests, of which none may
# fail. tests/bench/soak-upgrade.sh [UPGRADES] (100: 500 s), on a virtual host of its own; tests/e2e/test_endure.c says what counts.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD SOAK_UPGRADES=${1:-100} SOAK_RATE=${SOAK_RATE:-2000} SOAK_EVERY_MS=${SOAK_EVERY_MS:-5000}
exec demo/vhost run --name soak -- "$BUILD/tests/e2e/test_endure" 'upgrades*'

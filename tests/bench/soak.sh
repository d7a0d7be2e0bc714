#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The soak story of the end-to-end tests with more requests: tests/bench/soak.sh [N] (1000000), on a virtual host of its own.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath -m "${BUILD:-build}")
export BUILD SOAK_REQUESTS=${1:-1000000}
exec demo/vhost run --name soak -- "$BUILD/tests/e2e/test_soak"

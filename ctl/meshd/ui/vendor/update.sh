#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Fetches the two libraries of the web page by their names from the npm registry that npm is set to, in the versions
# below, checks them against SHA256SUMS, and puts their distribution files here, unchanged.
#
#   ctl/meshd/ui/vendor/update.sh            as pinned; differs from what is here: fails
#   ctl/meshd/ui/vendor/update.sh --renew    after a version was changed below: writes SHA256SUMS anew
set -euo pipefail
cd "$(dirname "$0")"
readonly DAGRE=@dagrejs/dagre@3.1.3 UPLOT=uplot@1.6.32

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

unpack() { # PACKAGE DIR
	mkdir "$scratch/$2"
	npm pack --silent --ignore-scripts --pack-destination "$scratch/$2" "$1" >/dev/null
	tar -xzf "$scratch/$2"/*.tgz -C "$scratch/$2" --strip-components 1
}

unpack "$DAGRE" dagre
unpack "$UPLOT" uplot
mkdir "$scratch/out"
cp "$scratch/dagre/dist/dagre.esm.js" "$scratch/out/"
cp "$scratch/uplot/dist/uPlot.iife.min.js" "$scratch/uplot/dist/uPlot.min.css" "$scratch/out/"
cp "$scratch/dagre/LICENSE" "$scratch/out/dagre.LICENSE"
cp "$scratch/uplot/LICENSE" "$scratch/out/uPlot.LICENSE"
if [ "${1:-}" = --renew ]; then
	(cd "$scratch/out" && sha256sum -- *) >SHA256SUMS
fi
(cd "$scratch/out" && sha256sum --check --strict --quiet -) <SHA256SUMS
chmod 644 "$scratch"/out/*
cp "$scratch"/out/* .
echo "vendor: $DAGRE and $UPLOT, as SHA256SUMS says"

#!/usr/bin/env bash
# Builds the tools written in Go (vegeta, toxiproxy's server) into build/tools/, pinned by tools/go.mod and go.sum. Only the load test
# and chaos need them. Prints the folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
out=$root/build/tools
stamp=$out/.built

if [ -e "$stamp" ] && [ "$stamp" -nt "$root/tools/go.mod" ] && [ "$stamp" -nt "$root/tools/go.sum" ]; then
  echo "$out"
  exit 0
fi
if ! command -v go >/dev/null; then
  echo "go is not on PATH: install Go 1.24 or newer (https://go.dev/dl), then repeat; only the load test and chaos need it" >&2
  exit 1
fi
mkdir -p "$out"
if ! (cd "$root/tools" && go build -o "$out/" tool) >&2; then
  echo "the Go tools could not be built: is the Go module proxy reachable, and is Go 1.24 or newer?" >&2
  exit 1
fi
mv -f "$out/server" "$out/toxiproxy-server"
touch "$stamp"
echo "$out"

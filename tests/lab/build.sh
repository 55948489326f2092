#!/usr/bin/env bash
# build.sh [--panel]: builds the panel and the programs as the demonstration and the tests run them, and prints where they
# are; with --panel, the panel alone.
#
# The development profile on purpose: the tests need it too, so that nothing is compiled twice.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
panel=$root/web/panel

# Both by the age of what comes out of it: npm takes seconds even when there is nothing to do.
stale() { # RESULT SOURCES...
	[ ! -e "$1" ] || [ -n "$(find "${@:2}" -newer "$1" -print -quit)" ]
}
if stale "$panel/node_modules/.package-lock.json" "$panel/package-lock.json"; then
	npm --prefix "$panel" ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
fi
if stale "$panel/dist/index.html" "$panel/src" "$panel/build.mjs" "$panel/package-lock.json"; then
	npm --prefix "$panel" run --silent build >&2
fi
[ "${1:-}" != --panel ] || exit 0

cargo build --quiet --locked --manifest-path "$root/Cargo.toml" --package waifud-node --package waifuctl
realpath "${CARGO_TARGET_DIR:-$root/target}/debug"

#!/usr/bin/env bash
# bench.sh [ARGS]: installs what the benchmark needs, builds optimised programs, measures, and prints one table. ARGS go to
# waifud-bench: --only writes,records,guests,metadata,names,mesh for some parts.
#
#   bench.sh            some minutes, on a machine that does nothing else
#   bench.sh --smoke    in one or two, with the programs that the tests use: whether it works, not how fast
#
# boringtun-cli, which Debian does not have, is measured too if it is there: cargo install boringtun-cli.
# WAIFUD_BENCH_PROFILE=release measures what is shipped, and takes some minutes more to build.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$here/../.."

profile=${WAIFUD_BENCH_PROFILE:-fast}
[[ " $* " != *" --smoke "* ]] || profile=dev

tests/lab/install.sh --for bench
tests/lab/build.sh --panel
tests/lab/tiny-image.sh > /dev/null
cargo build --quiet --locked --profile "$profile" \
	--package waifud-node --package waifuctl --package waifud-tests --bins
programs=${CARGO_TARGET_DIR:-target}/${profile/dev/debug}
if [ "$EUID" = 0 ]; then exec "$programs/waifud-bench" "$@"; fi
exec sudo --preserve-env "$programs/waifud-bench" "$@"

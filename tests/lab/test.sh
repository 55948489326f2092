#!/usr/bin/env bash
# test.sh [ARGS]: installs what the tests need, builds, and runs all of them. ARGS go to cargo test.
#
# Tests that run real daemons make hosts from namespaces, which needs root: without it, cargo runs as you do and only the
# test programs run with sudo. contract.sh comes last, unless ARGS choose tests.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$here/../.."

tests/lab/install.sh --for test
tests/lab/build.sh > /dev/null
if [ "$EUID" != 0 ]; then
	sudo --validate
	export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="sudo --preserve-env env PATH=$PATH"
fi

status=0
cargo test --workspace --locked --no-fail-fast "$@" || status=$?
[ $# != 0 ] || tests/lab/contract.sh || status=$?
exit "$status"

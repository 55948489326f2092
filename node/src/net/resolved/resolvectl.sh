#!/usr/bin/env bash
# A resolvectl for tests: notes what it is asked beside where it was found, then does what stands there.
set -euo pipefail

dir=$(dirname "$0")
echo "$*" >> "$dir/calls"
. "$dir/then"

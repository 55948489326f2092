#!/bin/sh
# A resolvectl for tests: notes what it is asked beside where it was found, then does what stands there.
dir=$(dirname "$0")
echo "$*" >> "$dir/calls"
. "$dir/then"

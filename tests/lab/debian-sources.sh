#!/usr/bin/env bash
# debian-sources.sh: prints where this machine's apt gets Debian 12 from, its updates and its security updates included, one
# line each, for mmdebstrap.
set -euo pipefail

release=bookworm
found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
	awk -v release="$release" '$2 ~ "^" release "(-updates|-security|$)" && $3 == "main" { print "deb", $0 }' | sort -u)
[ -n "$found" ] || { echo "debian-sources: apt on this machine knows no $release" >&2 && exit 1; }
echo "$found"

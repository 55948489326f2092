#!/usr/bin/env bash
# schemathesis.sh install              puts the tool under target/tools
# schemathesis.sh run URL TOKEN CA     asks a node everything that its OpenAPI document allows, and much that it does not
#
# Fails when the server answers with a status, a header, a media type or a body that the document does not know, with a
# fault of its own, takes what the document forbids, or lets somebody in without a token. TOKEN and CA are files.
# The same seed asks the same questions each time.
set -euo pipefail

version=4.32.5
# So many questions of random shape for each operation, beside those that walk along all limits.
examples=${EXAMPLES:-15}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
tools=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}")/tools/schemathesis-$version

install() {
	[ ! -x "$tools/bin/schemathesis" ] || return 0
	# Made elsewhere and moved into place would break its paths: a half-made one is made again.
	rm -rf "$tools"
	python3 -m venv "$tools"
	"$tools/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version" || { rm -rf "$tools" && exit 1; }
}

run() { # URL TOKEN CA
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cd "$work"
	# The tool reads its configuration where it stands, so nothing else is found there.
	cp "$here/schemathesis.toml" .
	# REPORT: a directory for all that was asked and answered.
	[ -z "${REPORT:-}" ] || set -- "$@" --report ndjson --report-dir "$REPORT"
	TOKEN=$(cat "$2")
	export TOKEN
	# An index that is not there yet is waited for and then honestly refused with 503, each after a second. The tool would
	# draw little else and take it for a fault. What is followed has no end that it would wait for.
	curl --silent --show-error --fail --cacert "$3" --header "Authorization: Bearer $TOKEN" "$1/api/v1/openapi.json" |
		jq 'del(.paths[][].parameters[] | select(.name == "Waifu-Index" or .name == "follow"))' > openapi.json
	timeout 300 "$tools/bin/schemathesis" --no-color --config-file schemathesis.toml run openapi.json --url "$1" \
		--tls-verify "$3" --seed 1 --max-examples "$examples" --phases examples,coverage,fuzzing \
		--request-timeout 20 --continue-on-failure "${@:4}"
}

case "${1:-}" in
install) install ;;
run) run "${@:2}" ;;
*) sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac

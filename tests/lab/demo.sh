#!/usr/bin/env bash
# demo.sh: a cluster of three nodes on this machine, with a VM in it.
#
#   demo.sh up             packages, build, three hosts, a cluster, a template, a VM (no harm if it is there already)
#   demo.sh on HOST CMD... run a command on a host, for instance: demo.sh on n2 waifuctl list
#   demo.sh kill HOST      kill the waifud of a host, as a crash would
#   demo.sh start HOST     start it again
#   demo.sh status         what runs
#   demo.sh down           stop everything and remove it
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
self=$here/$(basename "${BASH_SOURCE[0]}")
lab=/run/waifud-lab/demo
nodes=(n1 n2 n3)
programs=${CARGO_TARGET_DIR:-$here/../../target}/debug

die() { echo "demo: $*" >&2 && exit 1; }
step() { printf '\n[%3d s] %s\n' "$SECONDS" "$*"; }

# Only the hosts need root; what is built belongs to whoever builds it.
hosts() { if [ "$EUID" = 0 ]; then "$here/hosts.sh" "$@"; else sudo "$here/hosts.sh" "$@"; fi; }

on() { # HOST CMD...
	# nsenter ends at once at a Ctrl-C that it is not told to ignore, and the command could not say its last words.
	hosts exec "$1" env --default-signal=INT --chdir="$PWD" PATH="$(realpath "$programs"):$PATH" "${@:2}"
}

await() { # SECONDS WHAT CMD...
	local deadline=$((SECONDS + $1))
	until "${@:3}" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || die "waited $1 s in vain for $2; the logs are $lab/n*/waifud.log"
		sleep 0.2
	done
}

answers() { on "$1" waifuctl cluster status; }
knows_all_nodes() { [ "$(on "$1" waifuctl node list --output name | wc -l)" = ${#nodes[@]} ]; }
is_member() { on "$1" test -d /var/lib/waifud/cluster; }
runs() { on "$1" sh -c 'grep -qx waifud "/proc/$(cat /run/waifud/demo.pid)/comm"' 2> /dev/null; }

# What a service manager does on a real host.
start() { # HOST
	runs "$1" || on "$1" sh -c 'setsid waifud run >> "$0" 2>&1 < /dev/null & echo $! > /run/waifud/demo.pid' "$lab/$1/waifud.log"
	await 30 "waifud on $1" answers "$1"
}

kill_waifud() { runs "$1" || die "no waifud runs on $1" && on "$1" sh -c 'kill -KILL "$(cat /run/waifud/demo.pid)"'; }

make_cluster() {
	local first=${nodes[0]} node
	is_member "$first" || on "$first" waifud init --name "$first" --advertise 192.0.2.1:7443
	start "$first"
	for node in "${nodes[@]:1}"; do
		is_member "$node" ||
			on "$first" waifuctl cluster token create | on "$node" waifud join --name "$node" --advertise "192.0.2.${node#n}:7443" -
		start "$node"
	done
	for node in "${nodes[@]}"; do await 30 "$node to know all nodes" knows_all_nodes "$node"; done
}

up() {
	step "packages"
	"$here/install.sh" --for demo
	step "build (some minutes the first time)"
	programs=$("$here/build.sh")
	step "a guest image made from Debian's kernel and busybox"
	local image
	image=$("$here/tiny-image.sh")
	step "${#nodes[@]} hosts"
	hosts up ${#nodes[@]}
	step "a cluster: init on n1, join on the others"
	make_cluster
	on n1 waifuctl node list --output table
	step "a template, and a VM asked of n1"
	on n1 waifuctl template list --output name | grep -qx tiny || on n1 waifuctl template add tiny --file "$image"
	on n1 waifuctl show web-1 > /dev/null 2>&1 || on n1 waifuctl create --name web-1 --template tiny --memory 256M
	step "the same VM seen from n2"
	on n2 waifuctl show web-1 --output table
	local address owner
	address=$(on n2 waifuctl ip web-1 --wait)
	owner=$(on n2 waifuctl show web-1 --output json | jq --raw-output .node)
	step "what it serves, fetched from its node $owner: http://$address/"
	await 60 "the guest" on "$owner" curl --silent --fail --max-time 2 "http://$address/"
	on "$owner" curl --silent --fail "http://$address/"
	step "done"
	next
}

next() {
	local sudo=
	[ "$EUID" = 0 ] || sudo='sudo '
	cat <<-TEXT

		Ask any node         $self on n3 waifuctl list
		Look into the VM     $self on n2 waifuctl console web-1
		                     Enter gives a shell, Ctrl-] leaves. So small a guest has no SSH server; with a real image: waifuctl ssh.
		Look at the panel    $sudo$(realpath "$programs")/waifuctl --host unix:$lab/n2/run/waifud/api.sock panel
		Lose a node          $self kill n1
		                     The other two go on, whoever led; VMs of n1 run on, and are shown with the age of what is known.
		Get it back          $self start n1
		Take it all down     $self down
	TEXT
}

status() {
	hosts status || return
	local node asked=
	for node in "${nodes[@]}"; do
		if runs "$node"; then echo "waifud runs on $node" && asked=$node; else echo "waifud does not run on $node"; fi
	done
	[ -z "$asked" ] || on "$asked" waifuctl cluster status
}

known() { [[ " ${nodes[*]} " == *" ${1:-} "* ]] || die "which host? ${nodes[*]}"; }

case "${1:-}" in
up) up ;;
down) hosts down ;;
on) known "${2:-}" && shift && trap '' INT && on "$@" ;;
kill) known "${2:-}" && kill_waifud "$2" ;;
start) known "${2:-}" && start "$2" ;;
status) status ;;
*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$self" >&2 && exit 2 ;;
esac

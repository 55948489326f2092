#!/usr/bin/env bash
# install-walk.sh [DEBS]: node/docs/install.md walked as it is written, on three clean Debian 12 machines. Root.
#
# The machines are containers of systemd-nspawn with a systemd, a libvirt and an address of their own, joined by a bridge in a
# network namespace that ends with this script. What is done on them are the code blocks of the document, taken out of it by
# their heading and their place below it, with no more than the name, the address and what a person would answer put in. What
# the internet would give (the packages that ours need, a cloud image) lies there already. DEBS is a directory with the two
# packages; without it those of the programs that the tests run are walked.
#
# It takes some minutes: too long for every change, and made for a look at the document after one.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
self=$here/$(basename "${BASH_SOURCE[0]}")
root=$(realpath "$here/../..")
page=$root/node/docs/install.md
release=bookworm
nodes=(n1 n2 n3)
# What a Debian on a machine has, as far as the document is concerned.
base=(systemd-sysv dbus iproute2 procps curl openssh-client nftables zstd)

die() { echo "install-walk: $*" >&2 && exit 1; }
step() { printf '\n[%3d s] %s\n' "$SECONDS" "$*"; }

[ "$EUID" = 0 ] || exec sudo --preserve-env=CARGO_TARGET_DIR env "PATH=$PATH" "$self" "$@"
PATH=$PATH:/usr/sbin:/sbin
for tool in mmdebstrap systemd-nspawn; do
	command -v "$tool" > /dev/null || die "$tool is missing; run tests/lab/install.sh --for test"
done
work=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/lab/install-walk

address() { echo "192.0.2.1${1#n}"; } # NODE

# The code block number N below a heading of the document.
block() { # HEADING N
	local text
	text=$(awk -v heading="## $1" -v wanted="$2" '
		/^## / { within = $0 == heading; next }
		within && /^ *```/ { inside = !inside; seen += inside; next }
		within && inside && seen == wanted { sub(/^  /, ""); print }' "$page")
	[ -n "$text" ] || die "the document has no block $2 below \"$1\""
	echo "$text"
}

# Runs commands on a machine, each one shown, and ends at the first that fails.
on() { # NODE COMMANDS
	local leader
	leader=$(pgrep --parent "$(cat "$work/$1.pid")" | head -n 1)
	nsenter --target "$leader" --all --wdns=/root env --ignore-environment HOME=/root TERM=dumb LANG=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -xeuo pipefail -c "$2" < /dev/null
}

until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	until "${@:2}" > /dev/null 2>&1; do [ "$SECONDS" -lt "$end" ] || die "in vain: ${*:2}"; sleep 0.5; done
}

# The packages, a Debian that has what they need, and a guest: all that takes a network.
prepare() { # [DEBS]
	local deb
	rm -rf "$work" && mkdir -p "$work/debs" "$work/newer" && chmod 755 "$work"
	if [ -n "${1:-}" ]; then
		cp "$1"/waifud_*.deb "$1"/waifuctl_*.deb "$work/debs"
	else
		"$here/package.sh" --dev "$work/debs" > /dev/null
	fi
	cp "$("$here/tiny-image.sh")" "$work/tiny.qcow2"

	# The next release, to upgrade to: the same programs under a higher number.
	for deb in "$work"/debs/*.deb; do
		dpkg-deb --raw-extract "$deb" "$work/raw"
		sed -i 's/^Version: .*/&+next/' "$work/raw/DEBIAN/control"
		dpkg-deb --root-owner-group -Znone --build "$work/raw" "$work/newer/" > /dev/null && rm -r "$work/raw"
	done

	step "a Debian"
	apt-config dump | grep -E '^Acquire::(https?|Retries|AllowInsecure)' > "$work/apt.conf" || true
	"$here/debian-sources.sh" > "$work/sources.list"
	mmdebstrap --quiet --variant=apt --skip=check/empty,cleanup/apt --include="$(IFS=, && echo "${base[*]}")" \
		--aptopt="$work/apt.conf" --aptopt='APT::Install-Recommends "false"' \
		--customize-hook='mkdir "$1/root/debs"' --customize-hook="copy-in $(echo "$work"/debs/*.deb) /root/debs" \
		--customize-hook='chroot "$1" sh -c "apt-get install --yes --download-only /root/debs/*.deb && rm -r /root/debs"' \
		"$release" "$work/debian" "$work/sources.list" > "$work/log" 2>&1 || { tail -n 40 "$work/log" >&2 && die "no Debian came to be"; }
	# A person answers yes; and what recommends others is not here to be had.
	printf 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n' > "$work/debian/etc/apt/apt.conf.d/90answers"
}

if [ "${1:-}" != walk ]; then
	trap 'rm -rf "$work"' EXIT
	prepare "$@"
	# Where nobody else is, neither on the bridge nor in the process table.
	unshare --net --mount --pid --fork --kill-child --mount-proc "$self" walk
	exit
fi

step "three machines"
ip link set lo up
ip link add walk0 type bridge && ip link set walk0 up
for node in "${nodes[@]}"; do
	machine=$work/$node
	cp --archive --reflink=auto "$work/debian" "$machine"
	rm -f "$machine/etc/machine-id" && chroot "$machine" systemd-machine-id-setup > /dev/null 2>&1
	echo "$node" > "$machine/etc/hostname"
	printf '127.0.0.1 localhost\n%s %s\n' "$(address "$node")" "$node" > "$machine/etc/hosts"
	printf '[Match]\nName=host0\n[Network]\nAddress=%s/24\nGateway=192.0.2.254\n' "$(address "$node")" \
		> "$machine/etc/systemd/network/10-host0.network"
	systemctl --quiet --root="$machine" enable systemd-networkd
	cp "$work"/debs/*.deb "$machine/root/"
	cp "$work/tiny.qcow2" "$machine/root/debian-12-genericcloud-amd64.qcow2"
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --directory="$machine" --machine="walk-$$-$node" --hostname="$node" \
		--register=no --keep-unit --network-bridge=walk0 --link-journal=no --capability=all --bind=/dev/net/tun --boot \
		< /dev/null > "$work/$node.console" 2>&1 &
	echo $! > "$work/$node.pid"
done
booted() { on "$1" 'systemctl is-system-running | grep -E "running|degraded"; ip address show host0 | grep "192.0.2"'; }
for node in "${nodes[@]}"; do until_true 120 booted "$node"; done

said() { # what the machines say, where the walk stopped
	local node
	for node in "${nodes[@]}"; do
		echo "--- $node"
		on "$node" 'systemctl --failed --no-pager; journalctl --no-pager --priority notice --lines 25; journalctl --no-pager --unit waifud --lines 25' 2> /dev/null || true
	done
}
trap said EXIT

# The document names n1's and n2's addresses; here each machine has its own.
join() { block "The first cluster" 2 | sed "s/n2/$1/; s/192\.0\.2\.12/$(address "$1")/"; } # NODE
members() { [ "$(on "$1" 'waifuctl node list -o name' 2> /dev/null | wc -l)" = "$2" ]; } # NODE COUNT
status() { on "$1" 'waifuctl list --columns name,status' 2> /dev/null | grep -q "^$2.$3"; } # NODE VM STATUS

step "a firewall that drops what it does not know"
block "Ports" 1 > "$work/input"
block "Ports" 2 | grep '# input' >> "$work/input"
block "Ports" 2 | grep '# forward' > "$work/forward"
for node in "${nodes[@]}"; do
	cat > "$work/$node/etc/nftables.conf" <<-END
		#!/usr/sbin/nft -f
		flush ruleset
		table inet house {
		  chain input {
		    type filter hook input priority 0; policy drop;
		    iif lo accept
		    ct state established,related accept
		    meta l4proto { 1, 58 } accept # ICMP, by number: a small Debian has no /etc/protocols
		    $(cat "$work/input")
		  }
		  chain forward {
		    type filter hook forward priority 0; policy drop;
		    ct state established,related accept
		    $(cat "$work/forward")
		  }
		}
	END
	on "$node" 'systemctl enable --now nftables'
done

step "The packages"
declare -A installs
for node in "${nodes[@]}"; do
	on "$node" "$(block "The packages" 2)" > "$work/$node.apt" 2>&1 &
	installs[$node]=$!
done
for node in "${nodes[@]}"; do wait "${installs[$node]}" || { tail -n 40 "$work/$node.apt" && exit 1; }; done

step "The first cluster"
on n1 "$(block "The first cluster" 1)"
for node in n2 n3; do
	cp "$work/n1/root/token" "$work/$node/root/token"
	on "$node" "$(join "$node")"
done
for node in "${nodes[@]}"; do until_true 60 members "$node" 3; done
on n1 'mkdir -p ~/.ssh && ssh-keygen -q -t ed25519 -N "" -f ~/.ssh/id_ed25519'
on n1 "$(block "The first cluster" 3 | grep -v '^curl -LO https://')"
for node in "${nodes[@]}"; do until_true 60 status "$node" web-1 running; done

step "a guest is met from another node"
on n2 'for _ in $(seq 60); do curl --silent --fail --max-time 2 "http://$(waifuctl ip web-1)/" && exit; sleep 1; done; exit 1'

step "One more node, one less"
on n2 "$(block "One more node, one less" 1)"
on n1 'for vm in $(waifuctl list --node n3 -o name); do waifuctl delete --yes "$vm"; done'
on n1 "$(block "One more node, one less" 2 | sed 's/^waifuctl/& --yes/')"
until_true 60 members n1 2
on n3 "$(block "One more node, one less" 3)"
step "and again"
on n1 'waifuctl cluster token create' > "$work/n3/root/token"
on n3 "$(join n3)"
for node in "${nodes[@]}"; do until_true 60 members "$node" 3; done
status n1 web-1 running || on n1 "$(block "The first cluster" 3 | grep '^waifuctl create')"

step "Upgrades"
guest() { on "$1" 'pgrep --full "[q]emu-system.*guest=ec2" || true' 2> /dev/null; } # NODE
before=$(guest n1)$(guest n2)$(guest n3)
for node in "${nodes[@]}"; do
	mkdir "$work/$node/root/new" && cp "$work"/newer/*.deb "$work/$node/root/new/"
	on "$node" "cd new; $(block Upgrades 1)" > "$work/$node.apt" 2>&1 || { tail -n 40 "$work/$node.apt" && exit 1; }
	on "$node" '[ "$(dpkg-query --show --showformat "\${Version} " waifud waifuctl | grep -o next | wc -l)" = 2 ]; systemctl is-active waifud'
	until_true 60 members "$node" 3
done
for node in "${nodes[@]}"; do until_true 60 status "$node" web-1 running; done
[ "$(guest n1)$(guest n2)$(guest n3)" = "$before" ] || die "the guest did not live through the upgrades"
on n3 'waifuctl cluster status'

step "What to keep a copy of"
on n2 "$(block "What to keep a copy of" 1)"
until_true 60 members n2 3

step "Away with it"
on n1 'for vm in $(waifuctl list -o name); do waifuctl delete --yes "$vm"; done; waifuctl node cordon n3; waifuctl node remove --yes n3'
on n3 "$(block "Away with it" 1)"
on n3 "$(block "Away with it" 2)"
on n3 'test ! -e /var/lib/waifud -a ! -e /etc/waifud'

step "walked"
trap - EXIT

#!/usr/bin/env bash
# install.sh [--for demo|test|bench]: installs the Debian packages that building, the demonstration, the tests or the
# benchmarks need, on Debian 12 with nothing but Rust. Quiet when nothing is missing.
#
# No service is started: every host of the lab runs a libvirtd of its own.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
self=$here/$(basename "${BASH_SOURCE[0]}")

build=(gcc libc6-dev pkg-config)
# Taken from one suite: they depend on each other by exact version.
virtual=(libvirt-dev libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils)
# The network of hosts and guests, and the making of the tiny guest.
lab=(curl dnsmasq-base ebtables iproute2 iptables jq nftables
	busybox-static cpio dosfstools fdisk mtools syslinux syslinux-common)
panel=(nodejs npm)
# The panel is looked at in a real browser; mmdebstrap makes the guest with cloud-init; the others stand for what an operator
# has beside waifud: a cache, a laptop in the mesh, a client of guests, a terminal; Python runs the tool that tries the API.
test=(chromium mmdebstrap e2fsprogs ovmf python3-venv redis-server wireguard-go wireguard-tools openssh-client openssl ldnsutils tmux)
# The Debian packages are tried in containers. From the suite of `virtual`: newer ones of libvirt bring it in their own version
# of systemd.
containers=(systemd-container)
# Whom waifud is measured beside.
bench=(etcd-server iperf3 nginx-light redis-server wireguard-go wireguard-tools)
# Downloaded when the guest is made, so apt has to know it.
guest_kernel=linux-image-cloud-amd64
backports_list=/etc/apt/sources.list.d/waifud-lab-backports.sources

die() { echo "install: $*" >&2 && exit 1; }

wanted() { # PURPOSE
	printf '%s\n' "${build[@]}" "${virtual[@]}" "${lab[@]}"
	# Node may have come from elsewhere, and then Debian's packages conflict with it.
	command -v node > /dev/null && command -v npm > /dev/null || printf '%s\n' "${panel[@]}"
	[ "$1" != test ] || printf '%s\n' "${test[@]}" "${containers[@]}"
	[ "$1" != bench ] || printf '%s\n' "${bench[@]}"
}

missing() { # PURPOSE
	wanted "$1" | grep -Fxv -f <(installed) || true
}

knows_the_kernel() { [ -n "$(apt-cache show "$guest_kernel" 2> /dev/null)" ]; }

installed() { dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}\n' | awk '$1 == "ii" { print $2 }'; }

# Says what it did only if it failed. Never makes room by removing what the machine has.
apt() {
	local log
	log=$(mktemp)
	DEBIAN_FRONTEND=noninteractive apt-get -qq --no-remove -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" > "$log" 2>&1 ||
		{ cat "$log" >&2 && rm "$log" && return 1; }
	rm "$log"
}

# Denies the start of services until this script ends, unless the machine has a rule of its own.
deny_services() {
	local policy=/usr/sbin/policy-rc.d
	[ ! -e "$policy" ] || return 0
	trap "rm -f $policy" EXIT
	printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
}

# What was installed just now is not wanted at the next start of the machine either.
disable_services() { # PACKAGE_PATTERN
	local units
	mapfile -t units < <(installed | grep -E "$1" | xargs dpkg-query --listfiles |
		sed -nE 's,.*/systemd/system/([^@/]*\.(service|socket))$,\1,p')
	systemctl --quiet disable "${units[@]}" 2> /dev/null || echo "install: could not disable ${units[*]}" >&2
}

# A machine that carries a newer QEMU or libvirt than its release, from backports, can only add to it from there.
needs_backports() { ! apt install --simulate --no-install-recommends "$@" 2> /dev/null; }

codename() { . /etc/os-release && echo "$VERSION_CODENAME"; }

# The machine's own sources with another suite, so that its mirror and its keys stay what they are.
add_backports() {
	local codename sources=/etc/apt/sources.list.d/debian.sources
	codename=$(codename)
	! apt-cache policy | grep -q "n=$codename-backports," || return 0
	echo "install: adding $codename-backports as $backports_list, for this machine's QEMU is from there"
	if [ -f "$sources" ]; then
		awk -v RS= -v suite="$codename" '$0 ~ "Suites:[^\n]* ?" suite "( |\n|$)" && !/-security/ { print; exit }' "$sources" |
			sed -E "s/^Suites:.*/Suites: $codename-backports/; s/^Components:.*/Components: main/"
	else
		awk -v suite="$codename" '$1 == "deb" && !/\[/ && $3 == suite {
			printf "Types: deb\nURIs: %s\nSuites: %s-backports\nComponents: main\n", $2, suite; exit }' /etc/apt/sources.list
	fi > "$backports_list"
	[ -s "$backports_list" ] || { rm "$backports_list" && die "no source of $codename was found to derive backports from"; }
	apt update
}

install() { # PACKAGES...
	local release=()
	if needs_backports "$@"; then
		add_backports
		# All else comes from the release itself, and first: apt then raises what of it the newer ones need.
		mapfile -t release < <(printf '%s\n' "$@" | grep -Fxv -f <(printf '%s\n' "${virtual[@]}" "${containers[@]}"))
		[ ${#release[@]} = 0 ] || apt install --no-install-recommends "${release[@]}"
		set -- --target-release "$(codename)-backports" "$@"
	fi
	apt install --no-install-recommends "$@"
}

purpose=demo
case "${1:-}" in
--for) purpose=${2:-} ;;
"") ;;
*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$self" >&2 && exit 2 ;;
esac
[[ $purpose =~ ^(demo|test|bench)$ ]] || die "--for demo, test or bench"

mapfile -t packages < <(missing "$purpose")
if [ ${#packages[@]} = 0 ] && knows_the_kernel; then exit 0; fi
if [ "$EUID" != 0 ]; then
	command -v sudo > /dev/null || die "as root, please: ${packages[*]:-package lists} are missing"
	echo "install: root is needed to install ${packages[*]:-package lists}"
	exec sudo "$self" --for "$purpose"
fi

apt update
if [ ${#packages[@]} -gt 0 ]; then
	echo "install: ${packages[*]}"
	deny_services
	install "${packages[@]}"
	[[ " ${packages[*]} " != *" libvirt-daemon-system "* ]] || disable_services '^libvirt'
	[[ " ${packages[*]} " != *" etcd-server "* ]] || disable_services '^etcd'
	[[ " ${packages[*]} " != *" redis-server "* ]] || disable_services '^redis'
	[[ " ${packages[*]} " != *" nginx-light "* ]] || disable_services '^nginx'
fi
knows_the_kernel || die "apt does not know $guest_kernel"
mapfile -t packages < <(missing "$purpose")
[ ${#packages[@]} = 0 ] || die "still missing: ${packages[*]}"

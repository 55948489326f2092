#!/usr/bin/env bash
# package-test.sh: installs the Debian packages on a clean Debian 12 and looks at what becomes of them. Root.
#
# The Debian is a directory, made by mmdebstrap and started as a container by systemd-nspawn with a systemd of its own, so that
# units, libvirt and the host's shutdown are the real ones; it has no network but its own loopback. The packages hold the
# programs that the tests run. What is asked inside is in package/: first, after the installation; second, after a reboot.
# The directory is removed at the end; when something fails, what the machine said comes before.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(realpath "$here/../..")
release=bookworm
# What a Debian has, and what reads the documents that the packages bring.
base=(systemd-sysv dbus iproute2 procps man-db bash-completion zsh fish curl)
# Booting, a guest and its end: 20 s on an idle machine.
patience=240

die() { echo "package-test: $*" >&2 && exit 1; }

[ "$EUID" = 0 ] || exec sudo --preserve-env=CARGO_TARGET_DIR env "PATH=$PATH" "$0"
PATH=$PATH:/usr/sbin:/sbin
for tool in mmdebstrap systemd-nspawn; do
	command -v "$tool" > /dev/null || die "$tool is missing; run tests/lab/install.sh --for test"
done

work=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/lab/package
machine=$work/machine
rm -rf "$work" && mkdir -p "$work/debs"
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

mapfile -t debs < <("$here/package.sh" --dev "$work/debs")
tiny=$("$here/tiny-image.sh")

# A machine that has its id already is not at its first boot, when systemd would enable all there is.
apt-config dump | grep -E '^Acquire::(https?|Retries|AllowInsecure)' > "$work/apt.conf" || true
"$here/debian-sources.sh" > "$work/sources.list"
mmdebstrap --quiet --variant=apt --skip=check/empty --include="$(IFS=, && echo "${base[*]}")" \
	--aptopt="$work/apt.conf" --aptopt='APT::Install-Recommends "false"' \
	--customize-hook="copy-in ${debs[*]} /root" \
	--customize-hook='chroot "$1" systemd-machine-id-setup' \
	--customize-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"' \
	--customize-hook='chroot "$1" sh -c "apt-get install --yes /root/*.deb" > "$1/root/installed" 2>&1' \
	--customize-hook='rm "$1/usr/sbin/policy-rc.d"' \
	"$release" "$machine" "$work/sources.list" > "$work/log" 2>&1 ||
	{ tail -n 40 "$work/log" "$machine/root/installed" >&2 && die "the packages cannot be installed"; }

cp "$here"/package/first.sh "$here"/package/second.sh "$machine/root/"
cp "$tiny" "$machine/root/tiny.qcow2"
# Each boot runs one script as its last unit, and ends with it.
cat > "$machine/etc/systemd/system/asked.service" <<'END'
[Unit]
After=multi-user.target libvirtd.socket
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'script=$(ls /root/*.sh | head -n 1); bash -x $script > $script.log 2>&1 && mv $script $script.done'
ExecStopPost=/bin/systemctl poweroff --no-block
END
mkdir -p "$machine/etc/systemd/system/graphical.target.wants" "$machine/var/log/journal"
ln -s ../asked.service "$machine/etc/systemd/system/graphical.target.wants/"

boot() { # SCRIPT
	local status=0
	# The unified hierarchy also where the machine has the old one, which a container sees read-only.
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=10 $patience systemd-nspawn --quiet --directory="$machine" --machine="waifud-package-$$" \
		--register=no --keep-unit --private-network --link-journal=no --capability=all --bind=/dev/net/tun --boot \
		< /dev/null > "$work/console" 2>&1 || status=$?
	[ -f "$machine/root/$1.done" ] && [ "$status" = 0 ] && return 0
	echo "--- console"; tail -n 30 "$work/console"
	echo "--- journal"; journalctl --directory="$machine/var/log/journal" --no-pager --boot --lines=80 || true
	echo "--- $1"; tail -n 40 "$machine/root/$1.log" || true
	die "$1 failed ($status)"
}

boot first.sh
boot second.sh

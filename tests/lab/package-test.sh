#!/usr/bin/env bash
# package-test.sh [--arch amd64|arm64] [DEBS]: installs the Debian packages on a clean Debian 12 and looks at what becomes of
# them. Root. DEBS is a directory with the two packages; without it they are those of the programs that the tests run.
#
# The Debian is a directory, made by mmdebstrap and started as a container by systemd-nspawn with a systemd of its own, so that
# units, libvirt and the host's shutdown are the real ones; it has no network but its own loopback. What is asked inside is in
# package/: first.sh and guests.sh, after the installation; second.sh, after a reboot.
# Of another architecture than this machine's, QEMU runs the packages' scripts, and then Debian's kernel for that architecture
# on a machine that is emulated altogether. There first.sh is all that is asked: the tests' guest is not for it. Takes some
# 20 minutes.
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

[ "$EUID" = 0 ] || exec sudo --preserve-env=CARGO_TARGET_DIR env "PATH=$PATH" "$0" "$@"
PATH=$PATH:/usr/sbin:/sbin
own=$(dpkg --print-architecture)
arch=$own
[ "${1:-}" != --arch ] || { arch=${2:-} && shift 2; }
[ "$arch" = "$own" ] || [ "$arch" = arm64 ] || die "--arch arm64, or none for this machine's own"
tools=(mmdebstrap systemd-nspawn)
[ "$arch" = "$own" ] || tools=(mmdebstrap qemu-aarch64-static qemu-system-aarch64 mke2fs debugfs cpio)
for tool in "${tools[@]}"; do
	command -v "$tool" > /dev/null ||
		die "$tool is missing; run tests/lab/install.sh --for test$([ "$arch" = "$own" ] || echo ", and apt-get install qemu-user-static qemu-system-arm")"
done

work=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/lab/package
machine=$work/machine
handlers=/proc/sys/fs/binfmt_misc
undo=()
end() {
	local step
	for step in "${undo[@]}"; do $step; done
	rm -rf "$work"
}
trap end EXIT
rm -rf "$work" && mkdir -p "$work/debs"
chmod 755 "$work"

if [ -n "${1:-}" ]; then
	cp "$1"/waifud_*_"$arch".deb "$1"/waifuctl_*_"$arch".deb "$work/debs"
else
	"$here/package.sh" --dev --arch "$arch" "$work/debs" > /dev/null
fi
debs=("$work"/debs/*.deb)

unregister() { echo -1 > $handlers/qemu-aarch64; }
# Has the kernel run the other architecture's programs for as long as this takes, unless it does so anyway.
register() {
	[ -e $handlers/status ] || { mount -t binfmt_misc binfmt_misc $handlers && undo=("umount $handlers"); }
	[ -e $handlers/qemu-aarch64 ] || { cat /usr/lib/binfmt.d/qemu-aarch64.conf > $handlers/register && undo=(unregister "${undo[@]}"); }
}

scripts=(first guests)
made=()
if [ "$arch" != "$own" ]; then
	register
	base+=("linux-image-cloud-$arch" busybox-static)
	# QEMU takes ten minutes to put together Debian's own.
	export INITRD=No
	scripts=(first)
	patience=1800
	# mmdebstrap would ask for more tools to find out what has just been seen to.
	made=(--architecture="$arch" --skip=check/qemu)
else
	cp "$("$here/tiny-image.sh")" "$work/tiny.qcow2"
fi

# A machine that has its id already is not at its first boot, when systemd would enable all there is. This machine's apt
# installs our packages, for an emulated one takes minutes to think.
apt-config dump | grep -E '^Acquire::(https?|Retries|AllowInsecure)' > "$work/apt.conf" || true
"$here/debian-sources.sh" > "$work/sources.list"
mmdebstrap --quiet --variant=apt --skip=check/empty "${made[@]}" --include="$(IFS=, && echo "${base[*]}")" \
	--aptopt="$work/apt.conf" --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
	--customize-hook="copy-in ${debs[*]} /root" \
	--customize-hook='chroot "$1" systemd-machine-id-setup' \
	--customize-hook='printf "#!/bin/sh\nexit 101\n" > "$1/usr/sbin/policy-rc.d" && chmod 755 "$1/usr/sbin/policy-rc.d"' \
	--customize-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install --yes -oDPkg::Chroot-Directory="$1" "$1"/root/*.deb > "$1/root/installed" 2>&1' \
	--customize-hook='rm "$1/usr/sbin/policy-rc.d"' \
	"$release" "$machine" "$work/sources.list" > "$work/log" 2>&1 ||
	{ tail -n 40 "$work/log" "$machine/root/installed" >&2 && die "the packages cannot be installed"; }

# Each boot runs its scripts as its last unit, and ends with it.
cat > "$machine/etc/systemd/system/asked.service" <<'END'
[Unit]
After=multi-user.target libvirtd.socket
[Service]
Type=oneshot
ExecStart=/bin/sh -ec 'for script in /root/asked/*.sh; do bash -x $script > /root/$(basename $script).log 2>&1; mv $script $script.done; done'
ExecStopPost=/bin/systemctl poweroff --no-block
END
mkdir -p "$machine/etc/systemd/system/graphical.target.wants" "$machine/var/log/journal" "$machine/root/asked"
ln -s ../asked.service "$machine/etc/systemd/system/graphical.target.wants/"
[ ! -e "$work/tiny.qcow2" ] || cp "$work/tiny.qcow2" "$machine/root/"

# The unified hierarchy also where the machine has the old one, which a container sees read-only.
contained() {
	SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout --kill-after=10 $patience systemd-nspawn --quiet --directory="$machine" --machine="waifud-package-$$" \
		--register=no --keep-unit --private-network --link-journal=no --capability=all --bind=/dev/net/tun --boot
}

# What finds the disk, for the kernel has no driver for it built in.
initrd() { # OUT
	local in=$work/initrd version module n=10
	rm -rf "$in" && mkdir -p "$in/dev" "$in/root" && cp "$machine/usr/bin/busybox" "$in/"
	version=$(basename "$machine"/lib/modules/*)
	chroot "$machine" sh -ec "for m in virtio_pci virtio_blk; do modprobe --set-version $version --show-depends \$m; done" > "$work/modules"
	for module in $(awk '!seen[$2]++ { print $2 }' "$work/modules"); do
		cp "$machine$module" "$in/$((n++)).ko"
	done
	cat > "$in/init" <<-'END'
		#!/busybox sh
		for module in /*.ko; do /busybox insmod $module; done
		/busybox mount -t devtmpfs none /dev
		until [ -b /dev/vda ]; do /busybox usleep 100000; done
		/busybox mount -t ext4 /dev/vda /root
		exec /busybox switch_root /root /sbin/init
	END
	chmod 755 "$in/init"
	(cd "$in" && find . | cpio --quiet -o -H newc) > "$1"
}

# The directory goes onto a disk, and what it became comes back.
emulated() {
	local size status=0
	size=$(($(du --summarize --block-size=1M "$machine" | cut -f 1) * 5 / 4 + 1024))
	mke2fs -q -t ext4 -d "$machine" "$work/disk" "${size}M" || return
	initrd "$work/initrd.cpio" || return
	timeout --kill-after=10 $patience qemu-system-aarch64 -machine virt -cpu cortex-a72 -smp 2 -m 2G -nic none -no-reboot -nographic \
		-drive "if=virtio,format=raw,file=$work/disk" -kernel "$machine"/boot/vmlinuz-* -initrd "$work/initrd.cpio" \
		-append 'console=ttyAMA0 panic=-1' || status=$?
	rm -r "$machine/root" "$machine/var/log/journal"
	# The file system of a machine that was cut off has a journal to read first.
	e2fsck -p "$work/disk" > /dev/null || true
	debugfs -R "rdump /root $machine" "$work/disk" 2> /dev/null
	debugfs -R "rdump /var/log/journal $machine/var/log" "$work/disk" 2> /dev/null
	return $status
}

boot() { # SCRIPTS
	local status=0 script failed=''
	for script in "$@"; do cp "$here/package/$script.sh" "$machine/root/asked/"; done
	if [ "$arch" = "$own" ]; then contained; else emulated; fi < /dev/null > "$work/console" 2>&1 || status=$?
	for script in "$@"; do [ -n "$failed" ] || [ -f "$machine/root/asked/$script.sh.done" ] || failed=$script; done
	[ -n "$failed" ] || [ "$status" != 0 ] || return 0
	echo "--- console"; tail -n 30 "$work/console"
	echo "--- journal"; journalctl --directory="$machine/var/log/journal" --no-pager --boot --lines=80 || true
	echo "--- ${failed:=$script}"; tail -n 40 "$machine/root/$failed.sh.log" || true
	die "$failed.sh failed ($status)"
}

boot "${scripts[@]}"
[ "$arch" != "$own" ] || boot second

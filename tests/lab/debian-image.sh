#!/usr/bin/env bash
# debian-image.sh [OUT]: builds Debian 12 with its own cloud-init, as a cloud image of Debian's is put together, and prints its
# path. Root.
#
# Its cloud-init has its stock list of datasources, and its stock way to choose among them: by what SMBIOS says and which
# disks there are. It renders the network with netplan for systemd-networkd, as Debian's genericcloud image does. What
# differs is for emulated CPUs: a small initramfs, one SSH host key, no periodic jobs. The serial port is the console. Started
# with debian/from-disk as its first process it is a machine that runs one program: see kernel-wireguard.sh.
#
# Packages come from where this machine gets its own. The image is kept under target/lab/images by the hash of what it is
# made of; OUT, if given, gets a copy. No loop devices are needed: both file systems are filled from outside.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
images=$here/../../target/lab/images
release=bookworm
packages=(linux-image-cloud-amd64 initramfs-tools zstd systemd-sysv systemd-resolved libnss-resolve udev dbus netplan.io
	iproute2 iputils-ping openssh-server sudo cloud-init cloud-guest-utils qemu-guest-agent python3 curl ca-certificates
	wireguard-tools)
# Whoever has one of these in another version has another image.
told_apart_by=(linux-image-cloud-amd64 cloud-init systemd)
# Jobs and questions of a machine that lives long or has a screen.
masked=(apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
	getty@tty1.service systemd-timesyncd.service systemd-pstore.service)

die() { echo "debian-image: $*" >&2 && exit 1; }

recipe() {
	cat "${BASH_SOURCE[0]}" "$here"/debian/*
	apt-cache policy "${told_apart_by[@]}" | grep -E '^[a-z]|Candidate'
}

build_root() { # DIRECTORY
	local log=$work/log
	# Before the kernel comes, which makes an initramfs at once.
	mmdebstrap --variant=apt --skip=check/empty \
		--include="$(IFS=, && echo "${packages[*]}")" \
		--aptopt="$work/apt.conf" \
		--essential-hook='mkdir -p "$1"/etc/initramfs-tools/conf.d "$1"/usr/share/initramfs-tools/modules.d' \
		--essential-hook="copy-in $here/debian/initramfs.conf /etc/initramfs-tools/conf.d" \
		--essential-hook="copy-in $here/debian/modules /usr/share/initramfs-tools/modules.d" \
		--customize-hook="copy-in $here/debian/90_lab.cfg /etc/cloud/cloud.cfg.d" \
		--customize-hook="copy-in $here/debian/from-disk /usr/local/sbin" \
		--customize-hook="chroot \"\$1\" systemctl --quiet mask ${masked[*]}" \
		--customize-hook='chroot "$1" systemctl --quiet enable systemd-networkd systemd-resolved ssh' \
		--customize-hook='rm -rf "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin' \
		--customize-hook=': > "$1/etc/machine-id"' \
		"$release" "$1" "$work/sources.list" > "$log" 2>&1 || { tail -n 40 "$log" >&2 && die "mmdebstrap failed"; }
	printf 'LABEL=root / ext4 defaults,discard 0 1\n' > "$1/etc/fstab"
	ln -sf ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"
}

# A FAT partition to boot from, and the root behind it, where it can grow with the disk.
build_disk() { # ROOT OUT
	local disk=$work/disk.raw start=2048 boot_kib=$((64 * 1024)) root_start size_kib=$((1536 * 1024))
	root_start=$((start + boot_kib * 2))
	export MTOOLS_SKIP_CHECK=1
	# In two steps, for mkfs.vfat takes all that is behind its start to be its own.
	truncate -s "$((start / 2 + boot_kib))K" "$disk"
	mkfs.vfat -F 16 --offset="$start" "$disk" "$boot_kib" > /dev/null
	truncate -s "${size_kib}K" "$disk"
	printf 'label: dos\nstart=%d, size=%d, type=e, bootable\nstart=%d, type=83\n' "$start" $((boot_kib * 2)) "$root_start" |
		sfdisk --quiet --wipe-partitions=never "$disk" 2> >(grep -v "contains a vfat signature" >&2)
	mcopy -i "$disk@@$((start * 512))" "$1"/boot/vmlinuz-* ::vmlinuz
	mcopy -i "$disk@@$((start * 512))" "$1"/boot/initrd.img-* ::initrd
	mcopy -i "$disk@@$((start * 512))" "$here/debian/syslinux.cfg" ::syslinux.cfg
	syslinux --offset $((start * 512)) --install "$disk"
	dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc bs=440 count=1 status=none
	mke2fs -q -t ext4 -L root -d "$1" -E "offset=$((root_start * 512))" "$disk" $((size_kib - root_start / 2))K
	qemu-img convert -c -O qcow2 "$disk" "$2"
}

PATH=$PATH:/usr/sbin:/sbin
[ "$EUID" = 0 ] || die "files of many owners need root; try: sudo $0"
for tool in mmdebstrap sfdisk mkfs.vfat mke2fs mcopy syslinux qemu-img; do
	command -v "$tool" > /dev/null || die "$tool is missing; run tests/lab/install.sh --for test"
done

mkdir -p "$images" && images=$(realpath "$images")
image=$images/debian-$(recipe | sha256sum | cut -c1-16).qcow2
# One builder at a time: tests that run at once all ask for the image.
exec 9> "$images/.lock-debian" && flock 9
if [ ! -f "$image" ]; then
	work=$(mktemp -d -p "$images") && trap 'rm -rf "$work"' EXIT
	chmod 755 "$work" # apt drops root to download
	"$here/debian-sources.sh" > "$work/sources.list"
	apt-config dump | grep -E '^Acquire::(https?|Retries|AllowInsecure)' > "$work/apt.conf" || true
	build_root "$work/root"
	build_disk "$work/root" "$work/debian.qcow2"
	find "$images" -name 'debian-*.qcow2' -delete # earlier recipes
	mv "$work/debian.qcow2" "$image"
fi
if [ $# -gt 0 ]; then cp --reflink=auto "$image" "$1" && image=$1; fi
realpath "$image"

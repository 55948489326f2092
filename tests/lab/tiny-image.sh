#!/usr/bin/env bash
# tiny-image.sh [OUT]: builds the tiny guest, a 13 MiB qcow2 that boots in three seconds without KVM, and prints its path.
#
# It holds Debian's cloud kernel and static busybox, all of it in the initramfs. The guest takes its address, routes and
# name from DHCP, serves a page on port 80 that says both, obeys the power button, offers a shell on its serial port, and
# writes "READY <uptime> <name> <address>" there once it can be reached.
#
# The image is kept under target/lab/images by the hash of what it is made of; OUT, if given, gets a copy. Neither root
# nor loop devices are needed: a FAT partition can be filled from outside.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
images=$here/../../target/lab/images
kernel_package=linux-image-cloud-amd64
# What tiny/rc loads, and what that depends on.
modules=(virtio_pci virtio_blk virtio_net virtio_balloon button evdev virtio_scsi sr_mod isofs
	virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev failover net_failover
	scsi_common scsi_mod cdrom)

die() { echo "tiny-image: $*" >&2 && exit 1; }

# The package that the meta package stands for, as name=version.
kernel() {
	local name version
	name=$(apt-cache depends "$kernel_package" 2>/dev/null | awk '/Depends: linux-image/ { print $2; exit }')
	[ -n "$name" ] || die "apt does not know $kernel_package; run tests/lab/install.sh"
	version=$(apt-cache show --no-all-versions "$name" | awk '/^Version:/ { print $2; exit }')
	echo "$name=$version"
}

# What the image is made of, so that a change of any of it makes another image.
recipe() { cat "${BASH_SOURCE[0]}" "$here"/tiny/* "$(command -v busybox)" && echo "$1"; }

build_initramfs() { # KERNEL_TREE OUT
	local root release module file
	root=$(mktemp -d -p "$work") && release=$(basename "$1"/lib/modules/*)
	mkdir -p "$root"/{bin,dev,etc/acpi/PWRF,"lib/modules/$release",proc,srv,sys}
	install -m 755 "$(command -v busybox)" "$root/bin/busybox"
	ln -s /bin/busybox "$root/init"
	install -m 644 "$here/tiny/inittab" "$root/etc/"
	install -m 755 "$here/tiny/rc" "$here/tiny/lease" "$root/etc/"
	install -m 755 "$here/tiny/power-button" "$root/etc/acpi/PWRF/00000080"
	for module in "${modules[@]}"; do
		file=$(find "$1/lib/modules" -name "$module.ko")
		[ -n "$file" ] || die "the kernel package has no module $module"
		cp "$file" "$root/lib/modules/$release/"
	done
	busybox depmod -b "$root" "$release"
	(cd "$root" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -9) > "$2"
}

build_disk() { # KERNEL INITRD OUT
	local disk=$work/disk.raw start=2048 size_kib=$((24 * 1024))
	export MTOOLS_SKIP_CHECK=1
	truncate -s "${size_kib}K" "$disk"
	printf 'label: dos\nstart=%d, type=e, bootable\n' "$start" | sfdisk --quiet "$disk"
	mkfs.vfat -F 16 --offset="$start" "$disk" $((size_kib - start / 2)) > /dev/null
	printf 'DEFAULT tiny\nLABEL tiny\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND console=ttyS0 quiet\n' > "$work/syslinux.cfg"
	mcopy -i "$disk@@$((start * 512))" "$1" ::vmlinuz
	mcopy -i "$disk@@$((start * 512))" "$2" ::initrd
	mcopy -i "$disk@@$((start * 512))" "$work/syslinux.cfg" ::syslinux.cfg
	syslinux --offset $((start * 512)) --install "$disk"
	dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" conv=notrunc bs=440 count=1 status=none
	qemu-img convert -c -O qcow2 "$disk" "$3"
}

for tool in busybox cpio sfdisk mkfs.vfat mcopy syslinux qemu-img; do
	PATH=$PATH:/usr/sbin:/sbin command -v "$tool" > /dev/null || die "$tool is missing; run tests/lab/install.sh"
done
PATH=$PATH:/usr/sbin:/sbin

mkdir -p "$images" && images=$(realpath "$images")
package=$(kernel)
image=$images/tiny-$(recipe "$package" | sha256sum | cut -c1-16).qcow2
# One builder at a time: tests that run at once all ask for the image.
exec 9> "$images/.lock" && flock 9
if [ ! -f "$image" ]; then
	work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
	# Root's downloads are made by the user _apt, who may not enter our directory.
	(cd "$work" && apt-get -qq -o APT::Sandbox::User="$(id -un)" download "$package")
	dpkg -x "$work"/*.deb "$work/kernel"
	build_initramfs "$work/kernel" "$work/initrd"
	build_disk "$work"/kernel/boot/vmlinuz-* "$work/initrd" "$work/tiny.qcow2"
	find "$images" -name 'tiny-*.qcow2' -delete # earlier recipes
	cp "$work/tiny.qcow2" "$image.part" && mv "$image.part" "$image"
fi
if [ $# -gt 0 ]; then cp --reflink=auto "$image" "$1" && image=$1; fi
realpath "$image"

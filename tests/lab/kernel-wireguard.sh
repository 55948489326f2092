#!/usr/bin/env bash
# kernel-wireguard.sh: runs the tests of waifud-mesh that need WireGuard in the kernel, in a Debian guest, whatever the kernel
# of this machine has. Without KVM. Root, for the guest's image.
#
# The test program is built here and goes in as an archive on the second disk; what it says comes out of the serial port.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$here/../.."

# For a boot and the tests on an emulated CPU, several times over.
patience=600

image=$(tests/lab/debian-image.sh)
work=$(mktemp -d -p "$(dirname "$image")") && trap 'rm -rf "$work"' EXIT

program=$(cargo test --quiet --locked --package waifud-mesh --test kernel --no-run --message-format=json |
	jq --raw-output 'select(.target.name? == "kernel" and .executable != null) | .executable')
[ -x "$program" ] || { echo "kernel-wireguard: the test program was not built" >&2 && exit 1; }
cp "$program" "$work/kernel"
cat > "$work/run" <<'RUN'
#!/bin/sh
modprobe wireguard && modprobe tun && ip link set lo up && exec ./kernel --ignored --test-threads=1
RUN
chmod 755 "$work/run"
tar -C "$work" -cf "$work/payload.tar" kernel run
truncate -s %512 "$work/payload.tar"

# The same kernel and initramfs as the image boots, with another first process.
qemu-img convert -O raw "$image" "$work/disk.raw"
MTOOLS_SKIP_CHECK=1 mcopy -i "$work/disk.raw@@1M" ::vmlinuz ::initrd "$work/"
status=0
timeout "$patience" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 1024 -nodefaults -display none -no-reboot \
	-serial stdio -kernel "$work/vmlinuz" -initrd "$work/initrd" \
	-append "root=LABEL=root rw console=ttyS0 quiet init=/usr/local/sbin/from-disk" \
	-drive "file=$work/disk.raw,if=virtio,format=raw" -drive "file=$work/payload.tar,if=virtio,format=raw" \
	< /dev/null | tee "$work/serial" || status=$?
tr -d '\r' < "$work/serial" | grep -qx 'RESULT 0' ||
	{ echo "kernel-wireguard: the tests failed, or did not end (QEMU: $status)" >&2 && exit 1; }

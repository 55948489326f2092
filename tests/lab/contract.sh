#!/usr/bin/env bash
# contract.sh: holds what waifud takes for granted of libvirt against a real libvirtd with QEMU, on a host of the lab.
#
# These are the tests of waifud-node that are ignored elsewhere: they stop a libvirtd, and define what others would find. The
# test programs are built here and run there, one test at a time.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$here/../.."

lab=contract
as_root=
[ "$EUID" = 0 ] || as_root="sudo --preserve-env env PATH=$PATH"
hosts() { $as_root "$here/hosts.sh" "$1" --name "$lab" "${@:2}"; }

# Runs ignored tests on the host. Of the whole workspace, for cargo would build it anew with the features of one crate.
held() {
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$as_root $here/hosts.sh exec --name $lab n1" \
		cargo test --workspace --locked "$@" -- --ignored --test-threads=1
}

trap 'hosts down' EXIT
hosts up 1
WAIFUD_TEST_TINY=$("$here/tiny-image.sh")
export WAIFUD_TEST_TINY WAIFUD_TEST_LIBVIRTD_PID_FILE=/run/libvirt/libvirtd.pid
export WAIFUD_TEST_LIBVIRT_URI=qemu:///system WAIFUD_TEST_LIBVIRT_NETWORK=guests
# waifud's own network is made and removed here, and would refuse to be made beside the other one.
held --lib
# Guests are plugged into it.
hosts exec n1 virsh --quiet net-create "$here/../tests/lab/network.xml"
held --test hypervisor --test hardware

#!/usr/bin/env bash
# second.sh: asked by package-test.sh of the machine itself, after a reboot: the guests were shut down with the host and are
# up again; then the packages go.
set -euo pipefail

until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	until "${@:2}"; do [ "$SECONDS" -lt "$end" ] || { echo "in vain: ${*:2}" && exit 1; }; sleep 0.2; done
}
runs() { [ "$(waifuctl ls --columns name,status)" = "$(printf 'one\trunning')" ]; }
guest() { pgrep --full 'qemu-system.*guest=ec2'; }

# The last boot's journal ends in order: the daemon stopped, then the guest shut down, by itself.
journalctl --boot -1 --output cat | grep -E 'Stopped waifud.service|guests shut down,' | tail -n 2 > /root/order
diff /root/order - <<'END'
Stopped waifud.service - waifud, virtual machines on a cluster of equal nodes.
1 guests shut down, 0 switched off
END

# Nobody has changed what is wanted.
[ "$(systemctl is-active waifud)" = active ]
until_true 60 runs
until_true 60 guest

# Removed: data and guests stay.
apt-get remove --yes waifud waifuctl
[ ! -e /usr/bin/waifud ]
[ ! -e /usr/bin/waifuctl ]
guest
[ -f /etc/waifud/waifud.toml ]
[ -d /var/lib/waifud/cluster/raft ]
# Installed again, it goes on where it was.
apt-get install --yes /root/waifud_*.deb /root/waifuctl_*.deb
systemctl start waifud
until_true 60 runs

# Purged: no member any more, but nobody's disk is lost.
apt-get purge --yes waifud waifuctl 2>&1 | tee /root/purged
grep -q 'disks of VMs and the images below them are left' /root/purged
[ ! -e /etc/waifud ]
[ ! -e /var/lib/waifud/cluster ]
ls /var/lib/waifud/volumes/*.qcow2 /var/lib/waifud/images/*
guest
# Without disks, nothing is left.
apt-get install --yes /root/waifud_*.deb
rm -r /var/lib/waifud/volumes/*
apt-get purge --yes waifud
[ ! -e /var/lib/waifud ]

# What is left of the guests' network goes as node/docs/install.md says.
virsh destroy "$(virsh list --name)"
virsh net-destroy waifud
virsh net-undefine waifud
virsh nwfilter-undefine waifud-guest
nft delete table inet waifud
ip link delete waifu0

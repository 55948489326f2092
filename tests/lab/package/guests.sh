#!/usr/bin/env bash
# guests.sh: asked by package-test.sh of the machine itself, after first.sh has made a cluster there: a guest, and what a
# restart, an upgrade and a daemon that hangs do to it.
#
# What is expected stands alone on its line, for bash goes on after a failure before && and behind !.
set -euo pipefail

fails() { if "$@"; then echo "this should have failed: $*" && return 1; fi; }
until_true() { # SECONDS COMMAND...
	local end=$((SECONDS + $1))
	until "${@:2}"; do [ "$SECONDS" -lt "$end" ] || { echo "in vain: ${*:2}" && exit 1; }; sleep 0.2; done
}

# A guest, under everything that the unit forbids.
waifuctl template add tiny --file /root/tiny.qcow2
waifuctl create -t tiny -n one -m 256M
runs() { [ "$(waifuctl ls --columns name,status)" = "$(printf 'one\trunning')" ]; }
guest() { pgrep --full 'qemu-system.*guest=ec2'; }
pid=$(guest)
daemon() { systemctl show -P MainPID waifud; }

# A restart and an upgrade: another daemon, the same guest.
before=$(daemon)
systemctl restart waifud
[ "$(daemon)" != "$before" ]
[ "$(guest)" = "$pid" ]
before=$(daemon)
dpkg --install /root/waifud_*.deb
[ "$(daemon)" != "$before" ]
[ "$(guest)" = "$pid" ]
[ "$(systemctl is-active waifud)" = active ]

# A daemon that hangs is started again; here after 6 s instead of a minute.
mkdir -p /run/systemd/system/waifud.service.d
printf '[Service]\nWatchdogSec=6s\n' > /run/systemd/system/waifud.service.d/short.conf
systemctl daemon-reload && systemctl restart waifud
before=$(daemon)
kill -STOP "$before"
restarted() { [ "$(daemon)" != "$before" ] && [ "$(systemctl is-active waifud)" = active ]; }
until_true 60 restarted
[ "$(systemctl show -P NRestarts waifud)" = 1 ]
[ "$(guest)" = "$pid" ]
journalctl --unit waifud --output cat | grep -i 'watchdog timeout' > /dev/null

# Nobody stops the guests by stopping a unit, and not by asking while the daemon runs.
fails systemctl stop waifud-guests
fails waifud stop-guests
[ "$(guest)" = "$pid" ]
until_true 60 runs
# The host's shutdown follows.

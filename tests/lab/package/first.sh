#!/usr/bin/env bash
# first.sh: asked by package-test.sh of the machine itself, after the installation: what is there, and what a cluster of one
# answers. Nothing here depends on the machine's architecture.
#
# What is expected stands alone on its line, for bash goes on after a failure before && and behind !.
set -euo pipefail

fails() { if "$@"; then echo "this should have failed: $*" && return 1; fi; }

# Installed, and nothing started.
grep -q 'belongs to no cluster yet' /root/installed
[ "$(systemctl is-enabled waifud || true)" = disabled ]
[ "$(systemctl is-active waifud || true)" = inactive ]
getent group waifud
[ "$(stat -c '%a %U %G' /run/waifud)" = '755 root root' ]
[ "$(stat -c '%a %U %G' /var/lib/waifud)" = '755 root root' ]
[ "$(stat -c '%a %U %G' /etc/waifud/waifud.toml)" = '640 root waifud' ]
systemd-analyze verify /usr/lib/systemd/system/waifud.service /usr/lib/systemd/system/waifud-guests.service 2>&1 | tee /root/verify
fails grep waifud /root/verify
systemd-analyze security --offline=true --threshold=36 waifud.service
systemd-analyze security --offline=true --threshold=24 waifud-guests.service
for page in waifud waifud-join waifuctl waifuctl-create; do
	man --warnings "$page" > /root/page 2> /root/warnings
	[ -s /root/page ]
	[ ! -s /root/warnings ]
done
bash -c '. /usr/share/bash-completion/bash_completion; for program in waifud waifuctl; do _completion_loader $program; complete -p $program; done'
zsh -fc 'autoload -U compinit && compinit -u && [[ -n ${_comps[waifud]} && -n ${_comps[waifuctl]} ]]'
fish -c 'complete --do-complete "waifuctl temp"' | grep '^template' > /dev/null
fish -c 'complete --do-complete "waifud jo"' | grep '^join' > /dev/null
waifud --help > /dev/null
waifuctl version

# Started too early it says what to do, and does not try again.
fails systemctl start waifud
journalctl --unit waifud --output cat | grep 'belongs to no cluster; make one with `waifud init`' > /dev/null
[ "$(systemctl show -P NRestarts waifud)" = 0 ]
systemctl reset-failed waifud

# A cluster of one.
ip address add 192.0.2.1/32 dev lo
waifud init --name n1 --advertise 192.0.2.1:7443
systemctl enable --now waifud
[ "$(systemctl is-active waifud)" = active ]
[ "$(stat -c '%a %U %G' /run/waifud/api.sock)" = '660 root waifud' ]
[ "$(stat -c %a /var/lib/waifud/cluster)" = 700 ]
waifuctl cluster status
waifuctl node show n1 | grep -E "^arch[[:space:]]+$(uname -m)\$"
useradd --groups waifud in && useradd out
setpriv --reuid in --init-groups --regid in waifuctl ls
setpriv --reuid in --init-groups --regid in waifud status
fails setpriv --reuid out --init-groups --regid out waifuctl ls

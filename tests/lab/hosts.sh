#!/usr/bin/env bash
# hosts.sh: several hosts on one machine, for demonstrations and tests. Root.
#
#   hosts.sh up N                  start N hosts, n1 to nN, and return (no harm if they run already)
#   hosts.sh down                  stop them and remove all that was theirs
#   hosts.sh exec HOST CMD...      run a command in a host, or in `lan`, the wire between them
#   hosts.sh status                which run
#   hosts.sh run N                 the same as up, in the foreground, until standard input ends
#
#   --name NAME   which lab (default demo): several run side by side without seeing each other
#   --plain       hosts without a libvirtd
#
#      n1 192.0.2.1     n2 192.0.2.2     n3 192.0.2.3      a host: network, mounts, processes and host name of its own
#      └─eth0           └─eth0           └─eth0
#        └───────────┬────┴────────────────┘
#      lan         lan0 192.0.2.254, and 198.51.100.1 as the outside world
#
# A host is made of namespaces alone, and lives as long as its first process: when that ends, the kernel removes all of it,
# running guests, mounts and interfaces included. That process dies with this script, so that nothing is left behind
# however the script ends. Nothing is added to the machine's own network; the addresses are set aside for documentation
# (RFC 5737) and exist only inside.
#
# What a host keeps under /etc, /var and /run of libvirt and waifud is its own, and is seen from outside below
# /run/waifud-lab/NAME/HOST (a link to target/lab/hosts, short enough for the names of sockets).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
self=$here/$(basename "${BASH_SOURCE[0]}")
name=demo
plain=

# Each is the host's own. The bus is among them for what is not on it: libvirt would ask the machine's firewall to open up.
private=(etc/libvirt etc/waifud run/dbus run/libvirt run/waifud
	var/cache/libvirt var/lib/libvirt var/lib/waifud var/log/libvirt)

# The command line of the process that `run` is.
supervises='hosts.sh run '

die() { echo "hosts: $*" >&2 && exit 1; }

as_root() { [ "$EUID" = 0 ] || die "namespaces need root; try: sudo $self ..."; }

# Runs a command in the namespaces whose holder is recorded in $lab/WHO/holder. The holder itself is outside of the process
# namespace it made for its children, hence pid_for_children.
enter() { # WHO CMD...
	local holder namespaces
	holder=$(holder_of "$1") || die "there is no $1 in $name that runs; see hosts.sh up"
	namespaces=(--net --mount --uts --pid="/proc/$holder/ns/pid_for_children" --wd=/)
	[ "$1" != lan ] || namespaces=(--net)
	nsenter --target "$holder" "${namespaces[@]}" "${@:2}"
}

# The process recorded in FILE, if it still runs.
recorded() { # FILE COMMAND_LINE_PATTERN
	local pid
	pid=$(cat "$1" 2> /dev/null) && runs "$pid" "$2" && echo "$pid"
}

# Whether a process runs and is the one meant: numbers are used again, and a file left by a machine that lost its power
# must not name somebody else.
runs() { tr '\0' ' ' 2> /dev/null < "/proc/$1/cmdline" | grep -Eq "$2"; } # PID COMMAND_LINE_PATTERN

holder_of() { recorded "$lab/$1/holder" '^(unshare|setpriv) |^sleep infinity'; }

supervisor() { recorded "$lab/pid" "$supervises"; }

running() { [ -f "$lab/ready" ] && supervisor > /dev/null; }

# Starts a process that holds new namespaces and dies with this script.
hold() { # WHO UNSHARE_OPTION... -- CMD...
	mkdir -p "$lab/$1"
	setpriv --pdeathsig KILL unshare "${@:2}" < /dev/null &
	echo $! > "$lab/$1/holder"
}

await() { # SECONDS WHAT CMD...
	local deadline=$((SECONDS + $1))
	until "${@:3}" > /dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || die "$2 did not come up in $1 s; see $lab"
		sleep 0.05
	done
}

# True once the holder has left this script's network.
apart() { [ "$(readlink "/proc/$(holder_of "$1")/ns/net")" != "$(readlink /proc/$$/ns/net)" ]; }

start_lan() {
	hold lan --net -- sleep infinity
	await 5 "the wire" apart lan
	enter lan sh -euc '
		ip link set lo up
		ip address add 198.51.100.1/32 dev lo
		ip link add lan0 type bridge stp_state 0 forward_delay 0
		ip address add 192.0.2.254/24 dev lan0
		ip link set lan0 up'
}

start_host() { # INDEX
	local host=n$1 path
	for path in "${private[@]}"; do mkdir -p "$lab/$host/$path"; done
	# A host knows itself and asks nobody: programs that look up their own name would wait for the machine's resolver.
	printf '127.0.0.1 localhost\n192.0.2.%d %s\n' "$1" "$host" > "$lab/$host/etc/hosts"
	: > "$lab/$host/etc/resolv.conf"
	libvirt_settings "$lab/$host/etc/libvirt"
	hold "$host" --net --mount --uts --pid --fork --kill-child --mount-proc -- \
		bash "$self" first-process "$host" "$(realpath "$lab/$host")"
	await 5 "$host" test -f "$lab/$host/up"
	# The cable is made where its end on the wire will be, so that the machine's own network never sees it.
	enter lan ip link add "$host" type veth peer name eth0 netns "$(holder_of "$host")"
	enter lan ip link set "$host" master lan0 up
	enter "$host" sh -euc "
		ip link set lo up
		ip address add 192.0.2.$1/24 dev eth0
		ip link set eth0 up
		ip route add default via 192.0.2.254"
}

# A libvirtd that needs nothing of the machine: no systemd, no cgroups, no helper daemons. The settings have to stand
# in a copy of their own, for the identity of the host differs too.
libvirt_settings() { # DIRECTORY
	[ -z "$plain" ] && [ ! -f "$1/libvirtd.conf" ] || return 0
	cp -a /etc/libvirt/. "$1/"
	rm -f "$1"/qemu/networks/autostart/*
	echo "host_uuid = \"$(cat /proc/sys/kernel/random/uuid)\"" >> "$1/libvirtd.conf"
	printf '%s\n' 'user = "root"' 'group = "root"' 'security_driver = "none"' 'cgroup_controllers = []' \
		'namespaces = []' 'remember_owner = 0' 'stdio_handler = "file"' > "$1/qemu.conf"
}

# The first process of a host: gives it its own directories, then reaps what its daemons leave behind, as bash does for
# all children of process 1.
first_process() { # HOST ROOT
	local path
	mount --make-rprivate /
	hostname "$1"
	# /sys shows the network of whoever mounted it.
	umount --lazy /sys && mount -t sysfs sysfs /sys
	for path in "${private[@]}"; do mkdir -p "/$path" && mount --bind "$2/$path" "/$path"; done
	for path in etc/hosts etc/resolv.conf; do [ ! -e "/$path" ] || mount --bind "$2/$path" "/$path"; done
	: > "$2/up"
	sleep infinity &
	wait
}

libvirtd_answers() { enter "$1" virsh --quiet --connect qemu:///system version; }

# Another lab that ends may remove the directory of the links in between.
link_to() { mkdir -p "$(dirname "$lab")" && ln -sfn "$1" "$lab"; }

run() { # HOSTS
	as_root
	[[ ${1:-} =~ ^[1-9][0-9]?$ ]] || die "how many hosts?"
	! running || die "$name runs already"
	discard
	local data=$here/../../target/lab/hosts/$name
	mkdir -p "$data"
	data=$(realpath "$data")
	await 5 "the link $lab" link_to "$data"
	trap discard EXIT
	trap 'exit 143' TERM
	trap 'exit 130' INT
	echo $$ > "$lab/pid"
	start_lan
	for ((i = 1; i <= $1; i++)); do start_host "$i"; done
	if [ -z "$plain" ]; then
		for ((i = 1; i <= $1; i++)); do enter "n$i" libvirtd --daemon --pid-file /run/libvirt/libvirtd.pid; done
		for ((i = 1; i <= $1; i++)); do await 20 "libvirtd of n$i" libvirtd_answers "n$i"; done
	fi
	: > "$lab/ready"
	echo ready
	while read -r _; do :; done
}

# Stops what this script started and removes what it wrote. The holders first: a host that still runs would write on.
discard() {
	trap - EXIT
	[ -L "$lab" ] || return 0
	local directory pid
	for directory in "$lab"/*/; do
		pid=$(holder_of "$(basename "$directory")") || continue
		kill -KILL "$pid" 2> /dev/null || true
		await 10 "the end of $directory" not holder_of "$(basename "$directory")"
	done
	rm -rf "$(realpath "$lab")" "$lab"
	rmdir "$(dirname "$lab")" 2> /dev/null || true # others may have theirs in it
}

not() { ! "$@"; }

up() { # HOSTS
	if running; then return 0; fi
	as_root
	local log fifo
	log=$(mktemp) fifo=$(mktemp -u)
	# A standard input that never ends: whoever reads it can also write it.
	mkfifo "$fifo" && exec 3<> "$fifo" && rm "$fifo"
	setsid "$self" run "$1" --name "$name" ${plain:+--plain} <&3 3<&- > "$log" 2>&1 &
	exec 3<&-
	until running; do
		[ -d "/proc/$!" ] || { cat "$log" >&2 && rm "$log" && die "could not start the hosts"; }
		sleep 0.1
	done
	rm "$log"
}

down() {
	as_root
	local pid
	if pid=$(supervisor); then
		kill -TERM "$pid"
		await 10 "the end of process $pid" not runs "$pid" "$supervises"
	fi
	discard
}

status() {
	running || { echo "$name does not run" && return 3; }
	local host
	for host in "$lab"/n*/; do echo "$(basename "$host") runs, its files are under $host"; done
}

verb=${1:-}
[ $# = 0 ] || shift
if [ "$verb" = first-process ]; then first_process "$@" && exit; fi
positional=()
while [ $# -gt 0 ]; do
	case "$1" in
	--name) name=$2 && shift 2 ;;
	--plain) plain=1 && shift ;;
	*)
		positional+=("$1") && shift
		# The rest is the command's own.
		[ "$verb" != exec ] || break
		;;
	esac
done
positional+=("$@")
[[ $name =~ ^[a-z0-9-]{1,32}$ ]] || die "a lab's name has lower case letters, digits and dashes"
lab=/run/waifud-lab/$name
case "$verb" in
up) up "${positional[0]:-}" ;;
run) run "${positional[0]:-}" ;;
down) down ;;
status) status ;;
exec) [ ${#positional[@]} -ge 2 ] || die "exec HOST CMD..." && enter "${positional[@]}" ;;
*) sed -n '2,/^set -/s/^# \{0,1\}//p' "$self" >&2 && exit 2 ;;
esac

//! Stock WireGuard programs in the place of the mesh of two nodes: an interface of the same name, with the same port, MTU and
//! routes, so that everything around it does for them what it does for waifud.

use super::stand_in::{MTU, gateway, subnet};
use crate::lab::{Host, Process};
use anyhow::{Context, Result};
use std::{net::Ipv4Addr, process::Command};

/// Cloudflare's, on the library that waifud uses.
pub(super) const BORINGTUN: &str = "boringtun-cli";
/// All that are known, and how each is told to stay in the foreground, as root.
const PROGRAMS: [(&str, &str); 2] =
    [("wireguard-go", "--foreground"), (BORINGTUN, "--foreground --disable-drop-privileges")];
/// waifud's own, for the mesh.
const INTERFACE: &str = "waifu0";
const PORT: u16 = 7444;
const TABLE: u16 = 7744;

/// One end. The sockets by which `wg` speaks to these programs are called as the interfaces are, and so are hidden from the
/// other end's. Configured as soon as the interface is there, while the program has the process that is watched.
const END: &str = r#"
mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard
ip link delete "$interface" || true
(
	until echo "$key" | wg set "$interface" private-key /dev/stdin listen-port "$port" \
		peer "$peer" endpoint "$endpoint" allowed-ips "$subnet"; do sleep 0.1; done
	for setting in forwarding=1 rp_filter=0; do
		echo "${setting#*=}" > "/proc/sys/net/ipv4/conf/$interface/${setting%=*}"
	done
	ip link set "$interface" mtu "$mtu" up
	ip route add "$subnet" dev "$interface" src "$gateway" table "$table"
) &
exec $program "$interface"
"#;

/// Those that this machine has.
pub(super) fn installed() -> Vec<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success());
    PROGRAMS.iter().map(|(program, _)| *program).filter(runs).collect()
}

/// A program on two hosts; both end with it.
#[derive(Debug)]
pub(super) struct Stock {
    ends: [Process; 2],
}

impl Stock {
    /// Starts a program on two hosts, each with the address of a guest on its bridge.
    pub(super) fn start(program: &str, [one, other]: [(&Host, Ipv4Addr); 2]) -> Result<Self> {
        let options = PROGRAMS.iter().find(|(known, _)| *known == program).map_or("", |(_, options)| options);
        let (ours, theirs) = (Keys::make(one.0)?, Keys::make(other.0)?);
        let start = |(host, guest): (&Host, Ipv4Addr), keys: &Keys, (peer, behind): (&Host, Ipv4Addr), peers: &Keys| {
            host.spawn(
                "env",
                [
                    format!("program={program} {options}"),
                    format!("interface={INTERFACE}"),
                    format!("port={PORT}"),
                    format!("table={TABLE}"),
                    format!("mtu={MTU}"),
                    format!("key={}", keys.private),
                    format!("peer={}", peers.public),
                    format!("endpoint={}:{PORT}", peer.address()),
                    format!("subnet={}", subnet(behind)),
                    format!("gateway={}", gateway(guest)),
                    "unshare".to_owned(),
                    "--mount".to_owned(),
                    "sh".to_owned(),
                    "-euc".to_owned(),
                    END.to_owned(),
                ],
            )
        };
        let first = start(one, &ours, other, &theirs)?;
        let second = start(other, &theirs, one, &ours)?;
        Ok(Self { ends: [first, second] })
    }

    /// Their processes.
    pub(super) fn pids(&self) -> [i32; 2] {
        self.ends.each_ref().map(Process::pid)
    }

    /// What they said.
    pub(super) fn log(&self) -> String {
        self.ends.iter().map(Process::log).collect()
    }
}

/// A pair of keys, as `wg` writes them.
#[derive(Debug)]
struct Keys {
    private: String,
    public: String,
}

impl Keys {
    fn make(host: &Host) -> Result<Self> {
        let said = host.exec("sh", ["-euc", "key=$(wg genkey)\necho \"$key\"\necho \"$key\" | wg pubkey"])?;
        let (private, public) = said.trim().split_once('\n').context("wg makes two keys")?;
        Ok(Self { private: private.to_owned(), public: public.to_owned() })
    }
}

//! Every setting there is: its name, its help, and how its text becomes a value. One table serves the file, the
//! variables and the flags, so that they cannot differ.

use super::Config;
use std::{path::PathBuf, str::FromStr, time::Duration};

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The section of the file.
    pub section: &'static str,
    /// The name within the section.
    pub name: &'static str,
    /// What a value looks like, for the help.
    pub form: &'static str,
    /// What it does, for the help.
    pub help: &'static str,
    /// A list: several values, in the file as an array, elsewhere with commas.
    pub list: bool,
    /// Takes the values; says what was expected if they do not fit.
    pub set: fn(&mut Config, &[String]) -> Result<(), String>,
}

impl Key {
    /// The flag, without dashes in front. Settings of `[node]` go without their section: they are what people type.
    #[must_use]
    pub fn flag(&self) -> String {
        let name = self.name.replace('_', "-");
        if self.section == "node" { name } else { format!("{}-{name}", self.section) }
    }

    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WAIFUD_{}_{}", self.section, self.name).to_uppercase()
    }

    /// How the file's reader knows it.
    #[must_use]
    pub fn path(&self) -> String {
        format!("[{}] {}", self.section, self.name)
    }
}

/// One value, by its own reading; the error says what was expected.
fn one<T: FromStr>(values: &[String], expected: &str) -> Result<T, String>
where
    T::Err: ToString,
{
    let [value] = values else { return Err(format!("expected {expected}")) };
    value.parse().map_err(|error: T::Err| {
        let said = error.to_string();
        // Readings of the model say by themselves what they want; those of the standard library do not.
        if said.contains(value.as_str()) || said.starts_with("expected") {
            said
        } else {
            format!("{value:?} is not {expected}")
        }
    })
}

fn many<T: FromStr>(values: &[String], expected: &str) -> Result<Vec<T>, String>
where
    T::Err: ToString,
{
    values.iter().map(|value| one(std::slice::from_ref(value), expected)).collect()
}

fn path(values: &[String]) -> Result<PathBuf, String> {
    let path: PathBuf = one(values, "a path")?;
    if path.is_absolute() { Ok(path) } else { Err(format!("{:?} is not an absolute path", path.display().to_string())) }
}

fn duration(values: &[String]) -> Result<Duration, String> {
    let expected = "a time, for example 500ms, 30s or 10min";
    let [value] = values else { return Err(format!("expected {expected}")) };
    let duration = humantime::parse_duration(value).map_err(|_| format!("{value:?} is not {expected}"))?;
    if duration.is_zero() { Err(format!("{value:?} is no time at all; expected {expected}")) } else { Ok(duration) }
}

/// Linux keeps interface names in 16 bytes, the last of them zero.
fn bridge(values: &[String]) -> Result<String, String> {
    let name: String = one(values, "an interface name")?;
    let fits =
        (1..=15).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if fits {
        Ok(name)
    } else {
        Err(format!("{name:?} is not an interface name (1 to 15 letters, digits, '-' or '_')"))
    }
}

/// From the least an IPv4 host must take (RFC 791) to the largest Ethernet frames in use.
fn mtu(values: &[String]) -> Result<u16, String> {
    let mtu = one(values, "a number of bytes")?;
    if (576..=9216).contains(&mtu) { Ok(mtu) } else { Err(format!("{mtu} is outside 576 to 9216")) }
}

fn port(values: &[String]) -> Result<u16, String> {
    match one(values, "a port")? {
        0 => Err("0 is no port that peers could find".to_owned()),
        port => Ok(port),
    }
}

/// Only its beginning is looked at here: it may hold a password, and no message repeats it.
fn redis(values: &[String]) -> Result<String, String> {
    let expected = "a URL, redis://HOST or rediss://HOST";
    let [url] = values else { return Err(format!("expected {expected}")) };
    let known = ["redis://", "rediss://", "redis+unix://", "unix://"].iter().any(|scheme| url.starts_with(scheme));
    if known { Ok(url.clone()) } else { Err(format!("expected {expected}")) }
}

const ADDRESS: &str = "an address with a port, for example 0.0.0.0:7443";

/// All settings, in the order of the example file.
#[rustfmt::skip] // A table: one look shows what differs between its rows.
pub const KEYS: &[Key] = &[
    Key { section: "node", name: "name", form: "NAME", list: false,
        help: "name in the cluster, used by init and join (default: the host's name)",
        set: |c, v| one(v, "a node name").map(|x| c.node.name = Some(x)) },
    Key { section: "node", name: "data_dir", form: "DIR", list: false,
        help: "where everything is kept (default /var/lib/waifud)",
        set: |c, v| path(v).map(|x| c.node.data_dir = x) },
    Key { section: "node", name: "advertise", form: "ADDR:PORT", list: false,
        help: "where peers reach this node, used by init and join (default: the address of the default route)",
        set: |c, v| one(v, ADDRESS).map(|x| c.node.advertise = Some(x)) },
    Key { section: "node", name: "listen", form: "ADDR:PORT", list: false,
        help: "where this node listens for peers, UDP (default 0.0.0.0:7443)",
        set: |c, v| one(v, ADDRESS).map(|x| c.node.listen = x) },
    Key { section: "node", name: "cpus", form: "N", list: false,
        help: "how many virtual CPUs may be promised in all (default: four for each hardware thread)",
        set: |c, v| one(v, "a number of CPUs").map(|x| c.node.cpus = Some(x)) },
    Key { section: "node", name: "memory", form: "SIZE", list: false,
        help: "never promise more memory than this (default: all but 1 GiB)",
        set: |c, v| one(v, "a size").map(|x| c.node.memory = Some(x)) },
    Key { section: "node", name: "disk", form: "SIZE", list: false,
        help: "never promise more disk than this (default: the size of the file system of data_dir)",
        set: |c, v| one(v, "a size").map(|x| c.node.disk = Some(x)) },
    Key { section: "node", name: "accel", form: "auto|kvm|tcg", list: false,
        help: "how guests run (default auto: on the CPU where it can, else emulated)",
        set: |c, v| one(v, "auto, kvm or tcg").map(|x| c.node.accel = x) },
    Key { section: "api", name: "socket", form: "PATH", list: false,
        help: "the local socket (default /run/waifud/api.sock)",
        set: |c, v| path(v).map(|x| c.api.socket = x) },
    Key { section: "api", name: "socket_group", form: "GROUP", list: false,
        help: "the group that may use the local socket beside root, and so is admin (default: none)",
        set: |c, v| one(v, "a group").map(|x| c.api.socket_group = Some(x)) },
    Key { section: "api", name: "listen", form: "ADDR:PORT", list: false,
        help: "where HTTPS is served, TCP (default 0.0.0.0:7443)",
        set: |c, v| one(v, ADDRESS).map(|x| c.api.listen = x) },
    Key { section: "api", name: "tls_cert", form: "FILE", list: false,
        help: "a certificate of your own for HTTPS, PEM with its chain (default: one by the cluster's CA)",
        set: |c, v| path(v).map(|x| c.api.tls_cert = Some(x)) },
    Key { section: "api", name: "tls_key", form: "FILE", list: false,
        help: "the key that belongs to tls_cert, PEM",
        set: |c, v| path(v).map(|x| c.api.tls_key = Some(x)) },
    Key { section: "network", name: "cidr", form: "CIDR", list: false,
        help: "what all VMs' addresses are taken from, used by init (default 10.77.0.0/16)",
        set: |c, v| one(v, "a network, for example 10.77.0.0/16").map(|x| c.network.cidr = x) },
    Key { section: "network", name: "bridge", form: "NAME", list: false,
        help: "the bridge that guests are attached to (default waifubr0)",
        set: |c, v| bridge(v).map(|x| c.network.bridge = x) },
    Key { section: "network", name: "bridges", form: "NAME,…", list: true,
        help: "bridges of this host that VMs may be given a network card on, beside the cluster's network (default: none)",
        set: |c, v| many(v, "the name of a bridge").map(|x| c.network.bridges = x) },
    Key { section: "network", name: "mtu", form: "BYTES", list: false,
        help: "largest packet of guests (default 1420: what fits through WireGuard)",
        set: |c, v| mtu(v).map(|x| c.network.mtu = x) },
    Key { section: "network", name: "no_masquerade", form: "CIDR,…", list: true,
        help: "networks that guests reach with their own address",
        set: |c, v| many(v, "a network, for example 192.168.0.0/16").map(|x| c.network.no_masquerade = x) },
    Key { section: "network", name: "dns", form: "ADDR,…", list: true,
        help: "who resolves names outside of the cluster for guests (default: whoever does for this host)",
        set: |c, v| many(v, "an IPv4 address").map(|x| c.network.dns = x) },
    Key { section: "network", name: "names_listen", form: "ADDR:PORT", list: false,
        help: "where this node answers for the names of VMs, UDP and TCP (default 127.0.0.1:7453)",
        set: |c, v| one(v, "an address with a port, for example 127.0.0.1:7453").map(|x| c.network.names_listen = x) },
    Key { section: "network", name: "mesh_port", form: "PORT", list: false,
        help: "where this node's end of the WireGuard mesh listens, UDP (default 7444)",
        set: |c, v| port(v).map(|x| c.network.mesh_port = x) },
    Key { section: "network", name: "tailscale", form: "true|false", list: false,
        help: "ask tailscaled, where it runs, to advertise this node's subnet (default true)",
        set: |c, v| one(v, "true or false").map(|x| c.network.tailscale = x) },
    Key { section: "cache", name: "redis_url", form: "URL", list: false,
        help: "a Redis that keeps what guests are told, redis:// or rediss:// (default: none)",
        set: |c, v| redis(v).map(|x| c.cache.redis_url = Some(x)) },
    Key { section: "cache", name: "redis_ca", form: "FILE", list: false,
        help: "the CA of the Redis' certificate, PEM (default: whom this host trusts)",
        set: |c, v| path(v).map(|x| c.cache.redis_ca = Some(x)) },
    Key { section: "cache", name: "expire", form: "TIME", list: false,
        help: "how long Redis keeps what nobody writes anew (default 30days)",
        set: |c, v| duration(v).map(|x| c.cache.expire = x) },
    Key { section: "hypervisor", name: "uri", form: "URI", list: false,
        help: "the libvirt connection (default qemu:///system)",
        set: |c, v| one(v, "a libvirt URI").map(|x| c.hypervisor.uri = x) },
    Key { section: "hypervisor", name: "shutdown_grace", form: "TIME", list: false,
        help: "how long a guest may take to shut down before it is switched off (default 60s)",
        set: |c, v| duration(v).map(|x| c.hypervisor.shutdown_grace = x) },
    Key { section: "images", name: "max_size", form: "SIZE", list: false,
        help: "no image may have more bytes than this (default 64G)",
        set: |c, v| one(v, "a size").map(|x| c.images.max_size = x) },
    Key { section: "images", name: "max_virtual_size", form: "SIZE", list: false,
        help: "no image may unfold to a larger disk than this (default 2T)",
        set: |c, v| one(v, "a size").map(|x| c.images.max_virtual_size = x) },
    Key { section: "images", name: "allow_private_urls", form: "true|false", list: false,
        help: "allow downloads from private, link-local and loopback addresses (default false)",
        set: |c, v| one(v, "true or false").map(|x| c.images.allow_private_urls = x) },
    Key { section: "images", name: "allowed_hosts", form: "HOST,…", list: true,
        help: "private hosts that downloads may come from all the same: names, .domain, addresses, networks",
        set: |c, v| many(v, "a host, .domain, address or network").map(|x| c.images.allowed_hosts = x) },
    Key { section: "images", name: "download_timeout", form: "TIME", list: false,
        help: "a server that sends nothing for this long is given up (default 30s)",
        set: |c, v| duration(v).map(|x| c.images.download_timeout = x) },
    Key { section: "cluster", name: "heartbeat", form: "TIME", list: false,
        help: "how often the leader says that it lives (default 125ms)",
        set: |c, v| duration(v).map(|x| c.cluster.heartbeat = x) },
    Key { section: "cluster", name: "election_min", form: "TIME", list: false,
        help: "the shortest wait before an election (default 200ms)",
        set: |c, v| duration(v).map(|x| c.cluster.election_min = x) },
    Key { section: "cluster", name: "election_max", form: "TIME", list: false,
        help: "the longest wait before an election (default 375ms)",
        set: |c, v| duration(v).map(|x| c.cluster.election_max = x) },
    Key { section: "cluster", name: "replace_dead_after", form: "TIME", list: false,
        help: "a voter that is dead for this long is replaced (default 10min)",
        set: |c, v| duration(v).map(|x| c.cluster.replace_dead_after = x) },
    Key { section: "cluster", name: "gossip_interval", form: "TIME", list: false,
        help: "how often gossip talks to a few peers (default 500ms)",
        set: |c, v| duration(v).map(|x| c.cluster.gossip_interval = x) },
];

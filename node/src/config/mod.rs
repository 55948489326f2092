//! The node's configuration: what it can be told, the defaults, and every mistake named at once.
//!
//! In: the text of `waifud.toml`, `WAIFUD_…` variables and flags, in rising order of weight. Out: a [`Config`], or all
//! [`ConfigError`]s. [`load::load`] is the only function that touches a file; [`parse::parse`] is pure.
//!
//! ```text
//!   file ─┐
//!   env  ─┼─> parse: each value through its entry in keys::KEYS ──> Config | every error, with file and line
//!   flags ┘
//! ```
//!
//! A new setting is a field here, a line in `keys`, and a line in `docs/waifud.example.toml`; a test holds them together.

mod error;
mod keys;
mod load;
mod parse;
mod values;

pub use error::{ConfigError, Place};
pub use keys::{KEYS, Key};
pub use load::{DEFAULT_FILE, LoadError, load};
pub use parse::{Given, parse};
pub use values::Accel;

use ipnet::Ipv4Net;
use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};
use waifud_model::{
    name::{BridgeName, NodeName},
    size::ByteSize,
};

/// The prefix length of each node's subnet: 253 guests a node, and 256 nodes in the default /16.
pub const SUBNET_PREFIX: u8 = 24;

/// Everything a node can be told. `Default` is what it does untold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What it is and what it gives.
    pub node: NodeConfig,
    /// How clients reach it.
    pub api: ApiConfig,
    /// The guests' network.
    pub network: NetworkConfig,
    /// A shared cache of what guests are told.
    pub cache: CacheConfig,
    /// What runs the guests.
    pub hypervisor: HypervisorConfig,
    /// Where images may come from, and how large they may be.
    pub images: ImagesConfig,
    /// How patient it is with its peers.
    pub cluster: ClusterConfig,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in the cluster, used by `init` and `join`; the host's name if none is given.
    pub name: Option<NodeName>,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where peers reach it, used by `init` and `join`; found out if none is given.
    pub advertise: Option<SocketAddr>,
    /// Where it listens for peers (UDP).
    pub listen: SocketAddr,
    /// How many virtual CPUs may be promised in all.
    pub cpus: Option<u32>,
    /// Never promise more memory than this.
    pub memory: Option<ByteSize>,
    /// Never promise more disk than this.
    pub disk: Option<ByteSize>,
    /// How guests run.
    pub accel: Accel,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: "/var/lib/waifud".into(),
            advertise: None,
            listen: any(7443),
            cpus: None,
            memory: None,
            disk: None,
            accel: Accel::Auto,
        }
    }
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// The local socket.
    pub socket: PathBuf,
    /// The group that may use the local socket beside root, and so is admin; none: root alone.
    pub socket_group: Option<String>,
    /// Where HTTPS is served (TCP).
    pub listen: SocketAddr,
    /// A certificate of one's own for HTTPS (PEM, with its chain); one by the cluster's CA if none is given.
    pub tls_cert: Option<PathBuf>,
    /// The key that belongs to it (PEM).
    pub tls_key: Option<PathBuf>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            socket: "/run/waifud/api.sock".into(),
            socket_group: None,
            listen: any(7443),
            tls_cert: None,
            tls_key: None,
        }
    }
}

/// `[network]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// What all VMs' addresses are taken from; used by `init`.
    pub cidr: Ipv4Net,
    /// The bridge that guests are attached to.
    pub bridge: String,
    /// Bridges of this host that VMs may be given a network card on.
    pub bridges: Vec<BridgeName>,
    /// Largest packet of guests, in bytes: what fits through the mesh between nodes.
    pub mtu: u16,
    /// Networks that guests reach with their own address: those who are there know the way back.
    pub no_masquerade: Vec<Ipv4Net>,
    /// Where names outside of the cluster are resolved; where the host resolves them if there are none.
    pub dns: Vec<Ipv4Addr>,
    /// Where the names of VMs are answered for the guests' name server on this node.
    pub names_listen: SocketAddr,
    /// Where this node's end of the mesh listens (UDP, all addresses).
    pub mesh_port: u16,
    /// Whether tailscaled, if it runs here, is asked to advertise this node's subnet.
    pub tailscale: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            cidr: Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 0, 0), 16),
            bridge: "waifubr0".to_owned(),
            bridges: Vec::new(),
            // 1500 less WireGuard's 80 bytes over IPv6.
            mtu: 1420,
            no_masquerade: Vec::new(),
            dns: Vec::new(),
            names_listen: crate::names::DEFAULT_LISTEN,
            mesh_port: 7444,
            tailscale: true,
        }
    }
}

/// `[cache]`: a Redis that keeps the rendered cloud-config for nodes whose replica is behind, and for other tools.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Where it is; without it there is none.
    pub redis_url: Option<String>,
    /// Whom its certificate must come from (PEM), if not from whom the host trusts.
    pub redis_ca: Option<PathBuf>,
    /// How long an entry is kept that nobody writes anew.
    pub expire: Duration,
}

impl fmt::Debug for CacheConfig {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheConfig")
            .field("redis_url", &self.redis_url.as_ref().map(|_| "…"))
            .field("redis_ca", &self.redis_ca)
            .field("expire", &self.expire)
            .finish()
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        // A month: longer than anybody is on holiday while a node is down.
        Self { redis_url: None, redis_ca: None, expire: Duration::from_secs(30 * 24 * 60 * 60) }
    }
}

/// `[hypervisor]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HypervisorConfig {
    /// The libvirt connection.
    pub uri: String,
    /// How long a guest may take to shut down before it is switched off.
    pub shutdown_grace: Duration,
}

impl Default for HypervisorConfig {
    fn default() -> Self {
        Self { uri: "qemu:///system".to_owned(), shutdown_grace: Duration::from_secs(60) }
    }
}

/// `[images]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesConfig {
    /// No image may have more bytes than this.
    pub max_size: ByteSize,
    /// No image may unfold to a larger disk than this.
    pub max_virtual_size: ByteSize,
    /// Allow downloads from private, link-local and loopback addresses.
    pub allow_private_urls: bool,
    /// What downloads may come from although it is private: host names, `.domain` for all hosts below one, addresses, networks.
    pub allowed_hosts: Vec<String>,
    /// A server that sends nothing for this long is given up.
    pub download_timeout: Duration,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            max_size: ByteSize::gib(64),
            max_virtual_size: ByteSize::gib(2048),
            allow_private_urls: false,
            allowed_hosts: Vec::new(),
            download_timeout: Duration::from_secs(30),
        }
    }
}

/// `[cluster]`: how patient a node is with its peers. The defaults are right for machines in one building.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How often the leader says that it lives.
    pub heartbeat: Duration,
    /// The shortest wait before an election.
    pub election_min: Duration,
    /// The longest wait before an election.
    pub election_max: Duration,
    /// A voter that is dead for this long is replaced.
    pub replace_dead_after: Duration,
    /// How often gossip talks to a few peers.
    pub gossip_interval: Duration,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let timing = waifud_consensus::Timing::default();
        Self {
            heartbeat: timing.heartbeat,
            election_min: timing.election_min,
            election_max: timing.election_max,
            replace_dead_after: waifud_consensus::config::VoterRule::default().replace_dead_after,
            gossip_interval: Duration::from_millis(500),
        }
    }
}

/// All addresses of this machine.
fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

#[cfg(test)]
mod tests;

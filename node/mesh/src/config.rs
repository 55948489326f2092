//! What a mesh is told and what it tells: plain values, nothing that runs.
//!
//! They are compared and printed freely, so the private key hides itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::error::MeshError;
use crate::key::{PrivateKey, PublicKey};

/// Where clouds put their metadata service.
pub const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The network that the metadata peer answers for: that address and nothing else.
pub(crate) fn metadata_network() -> Ipv4Net {
    Ipv4Net::from(METADATA_ADDRESS)
}

/// The interface that a mesh lives on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 bytes; `waifu0` on a node.
    pub name: String,
    /// The largest packet inside the tunnel. WireGuard adds 60 bytes over IPv4 and 80 over IPv6.
    pub mtu: u16,
}

/// Everything a mesh has to know.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// This node's key.
    pub private_key: PrivateKey,
    /// UDP, on all addresses.
    pub listen_port: u16,
    /// The others. If two claim the same network, the later one has it, as in WireGuard itself.
    pub peers: Vec<PeerConfig>,
}

impl MeshConfig {
    /// What no implementation could do anything sensible with.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        let own = self.private_key.public();
        let mut seen = std::collections::HashSet::new();
        for peer in &self.peers {
            if peer.public_key == own {
                return Err(MeshError::OwnKey(own));
            }
            if !seen.insert(peer.public_key) {
                return Err(MeshError::DuplicatePeer(peer.public_key));
            }
        }
        Ok(())
    }
}

/// One of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it is first looked for; it may turn up elsewhere. `None`: it has to call.
    pub endpoint: Option<SocketAddr>,
    /// What is sent to it, and the only sources that it may send from.
    pub allowed_ips: Vec<Ipv4Net>,
    /// Seconds between packets that keep a NAT on the way open, and that find a peer again that was away.
    pub keepalive: Option<u16>,
}

/// How a peer is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub key: PublicKey,
    /// Where it was last seen, or is looked for.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the keys in use were agreed; `None` if there are none. Older than three minutes means that it does not answer.
    pub last_handshake: Option<Duration>,
    /// Bytes received, since the peer was added.
    pub rx: u64,
    /// Bytes sent, since the peer was added.
    pub tx: u64,
}

/// Who does a mesh's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's WireGuard.
    Kernel,
    /// The data plane in this process.
    Userspace,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}

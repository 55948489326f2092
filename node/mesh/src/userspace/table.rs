//! Who the peers are at one moment: by index, by key, by network. Replaced as a whole, never changed.
//!
//! In: the table before and the configuration wanted. Out: the next table, in which a peer that stays is the same
//! [`Peer`] with its sessions, and the list of those that are new. Nothing here sends anything.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boringtun::noise::Tunn;
use boringtun::noise::rate_limiter::RateLimiter;
use ip_network::Ipv4Network;
use ip_network_table::IpNetworkTable;
use ipnet::Ipv4Net;

use super::inside::Inside;
use crate::config::{MeshConfig, PeerConfig, PeerStatus, metadata_network};
use crate::key::{PrivateKey, PublicKey};

/// Handshakes that are answered in a second before senders have to prove their address: a join of a hundred nodes at once
/// does not reach it. Our own look at an initiation counts it once and the peer's `Tunn` a second time, hence twice a hundred.
const HANDSHAKES_A_SECOND: u64 = 200;

/// A `Tunn` numbers its sessions in the low 8 bits and leaves 24 for us.
const INDICES: u32 = 1 << 24;

/// One of the other nodes (or a laptop).
pub(super) struct Peer {
    pub(super) key: PublicKey,
    index: u32,
    state: Mutex<Session>,
}

/// What a peer's packets need and change. The lock is held for one batch of packets and never over an await.
pub(super) struct Session {
    pub(super) tunn: Tunn,
    /// Where it was last heard, or where it is looked for.
    pub(super) endpoint: Option<SocketAddr>,
    /// What the configuration last said: only a change of it overrides where the peer has roamed to.
    configured: Option<SocketAddr>,
    /// Seconds. Kept here and not in the `Tunn`, which cannot change it without losing its sessions.
    pub(super) keepalive: Option<u16>,
    /// Packets wait in the `Tunn` for the end of a handshake.
    pub(super) waiting: bool,
    /// Ticks (of the timer) since something was last sent.
    pub(super) silent_ticks: u32,
}

impl Peer {
    pub(super) fn lock(&self) -> MutexGuard<'_, Session> {
        // A panic in boringtun would be one packet's; the state it leaves is checked by the next handshake.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> PeerStatus {
        let session = self.lock();
        let (last_handshake, tx, rx, ..) = session.tunn.stats();
        PeerStatus { key: self.key, endpoint: session.endpoint, last_handshake, rx: rx as u64, tx: tx as u64 }
    }
}

/// Where packets for a network go.
#[derive(Clone)]
pub(super) enum Target {
    /// Over UDP.
    Peer(Arc<Peer>),
    /// To the metadata service in this process.
    Inside(Arc<Inside>),
}

/// Own key, and what is derived from it. A new key is a new identity: all sessions begin anew.
pub(super) struct Identity {
    pub(super) key: PrivateKey,
    pub(super) limiter: Arc<RateLimiter>,
}

impl Identity {
    pub(super) fn new(key: PrivateKey) -> Self {
        let limiter = Arc::new(RateLimiter::new(&key.public().point(), HANDSHAKES_A_SECOND));
        Self { key, limiter }
    }
}

/// All of it.
pub(super) struct Table {
    pub(super) identity: Arc<Identity>,
    /// In the order of the configuration.
    pub(super) peers: Vec<Arc<Peer>>,
    by_index: HashMap<u32, Arc<Peer>>,
    by_key: HashMap<PublicKey, Arc<Peer>>,
    networks: IpNetworkTable<Target>,
    inside: Arc<Inside>,
    next_index: u32,
}

impl Table {
    /// Nobody but the metadata service.
    pub(super) fn new(key: PrivateKey, inside: Arc<Inside>) -> Self {
        Self {
            identity: Arc::new(Identity::new(key)),
            peers: Vec::new(),
            by_index: HashMap::new(),
            by_key: HashMap::new(),
            networks: IpNetworkTable::new(),
            inside,
            next_index: 1,
        }
    }

    /// The table that `config` asks for, and the peers in it that were not in this one. Changes of those that stay
    /// (endpoint, keepalive) are made on the spot.
    pub(super) fn next(&self, config: &MeshConfig) -> (Self, Vec<Arc<Peer>>) {
        let same_key = self.identity.key == config.private_key;
        let identity =
            if same_key { Arc::clone(&self.identity) } else { Arc::new(Identity::new(config.private_key.clone())) };
        let mut next = Self {
            identity,
            peers: Vec::with_capacity(config.peers.len()),
            by_index: HashMap::new(),
            by_key: HashMap::new(),
            networks: IpNetworkTable::new(),
            inside: Arc::clone(&self.inside),
            next_index: self.next_index,
        };
        let mut fresh = Vec::new();
        for wanted in &config.peers {
            let known = self.by_key.get(&wanted.public_key).filter(|_| same_key);
            let peer = match known {
                Some(peer) => {
                    update(peer, wanted);
                    Arc::clone(peer)
                }
                None => {
                    let peer = self.make(&mut next, wanted);
                    fresh.push(Arc::clone(&peer));
                    peer
                }
            };
            for network in &wanted.allowed_ips {
                next.insert(*network, Target::Peer(Arc::clone(&peer)));
            }
            next.by_index.insert(peer.index, Arc::clone(&peer));
            next.by_key.insert(peer.key, Arc::clone(&peer));
            next.peers.push(peer);
        }
        // Last, so that no peer can claim the metadata address.
        let inside = Target::Inside(Arc::clone(&self.inside));
        next.insert(metadata_network(), inside);
        (next, fresh)
    }

    fn make(&self, next: &mut Self, wanted: &PeerConfig) -> Arc<Peer> {
        // An index in use now must not be given to another before its last messages are gone, hence counted up; it takes
        // 16 million new peers until the numbers start again.
        while self.by_index.contains_key(&next.next_index) || next.by_index.contains_key(&next.next_index) {
            next.next_index = (next.next_index + 1) % INDICES;
        }
        let index = next.next_index;
        next.next_index = (index + 1) % INDICES;
        let tunn = Tunn::new(
            next.identity.key.secret(),
            wanted.public_key.point(),
            None,
            None,
            index,
            Some(Arc::clone(&next.identity.limiter)),
        );
        Arc::new(Peer {
            key: wanted.public_key,
            index,
            state: Mutex::new(Session {
                tunn,
                endpoint: wanted.endpoint,
                configured: wanted.endpoint,
                keepalive: wanted.keepalive,
                waiting: false,
                silent_ticks: 0,
            }),
        })
    }

    fn insert(&mut self, network: Ipv4Net, target: Target) {
        // `trunc`: the table wants no bits beyond the prefix. A prefix of an `Ipv4Net` is never too long.
        if let Ok(key) = Ipv4Network::new(network.network(), network.prefix_len()) {
            self.networks.insert(key, target);
        }
    }

    /// Who has the longest prefix of this address.
    pub(super) fn towards(&self, address: Ipv4Addr) -> Option<&Target> {
        self.networks.longest_match_ipv4(address).map(|(_, target)| target)
    }

    /// Whether a packet from `source` may come from `peer`: only if an answer would go there.
    pub(super) fn may_send(&self, peer: &Arc<Peer>, source: Ipv4Addr) -> bool {
        matches!(self.towards(source), Some(Target::Peer(owner)) if Arc::ptr_eq(owner, peer))
    }

    /// Whose session a message is for: the number that we chose is above a `Tunn`'s own 8 bits.
    pub(super) fn by_receiver(&self, receiver_index: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&(receiver_index >> 8))
    }

    pub(super) fn by_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key)
    }
}

fn update(peer: &Peer, wanted: &PeerConfig) {
    let mut session = peer.lock();
    session.keepalive = wanted.keepalive;
    if session.configured != wanted.endpoint {
        session.configured = wanted.endpoint;
        // A configuration that no longer knows where a peer is says nothing about where it is.
        if wanted.endpoint.is_some() {
            session.endpoint = wanted.endpoint;
        }
    }
}

#[cfg(test)]
mod tests;

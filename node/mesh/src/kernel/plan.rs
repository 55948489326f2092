//! What to tell the kernel so that its peers are those wanted. Pure.
//!
//! A peer that stays is only updated in what differs, which leaves its session alone.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::config::{PeerConfig, PeerStatus};
use crate::key::PublicKey;

/// Keys older than this are used no more (WireGuard's REJECT_AFTER_TIME), so where the peer was then says nothing.
const SESSION: Duration = Duration::from_secs(180);

/// A peer as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) config: PeerConfig,
    pub(super) last_handshake: Option<Duration>,
    pub(super) rx: u64,
    pub(super) tx: u64,
}

impl Seen {
    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            key: self.config.public_key,
            endpoint: self.config.endpoint,
            last_handshake: self.last_handshake,
            rx: self.rx,
            tx: self.tx,
        }
    }
}

/// One peer's change; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Remove(PublicKey),
    Set {
        key: PublicKey,
        /// It must be there already: one that was removed meanwhile is not brought back half.
        update: bool,
        endpoint: Option<SocketAddr>,
        keepalive: Option<u16>,
        allowed_ips: Option<Vec<Ipv4Net>>,
    },
}

/// From `seen` to `wanted`; `before` is what was wanted last, for endpoints: a peer that has roamed is only called back when the
/// configuration changes. Removals come first, so that a network is free before another peer gets it.
pub(super) fn plan(wanted: &[PeerConfig], seen: &[Seen], before: &[PeerConfig]) -> Vec<Change> {
    let gone =
        seen.iter().map(|peer| peer.config.public_key).filter(|key| wanted.iter().all(|peer| peer.public_key != *key));
    let mut changes: Vec<Change> = gone.map(Change::Remove).collect();
    for peer in wanted {
        let key = peer.public_key;
        let Some(now) = seen.iter().find(|seen| seen.config.public_key == key) else {
            changes.push(Change::Set {
                key,
                update: false,
                endpoint: peer.endpoint,
                keepalive: peer.keepalive,
                allowed_ips: Some(peer.allowed_ips.clone()),
            });
            continue;
        };
        let roams = match before.iter().find(|before| before.public_key == key) {
            Some(before) => before.endpoint == peer.endpoint,
            // Configured by an earlier life of this process.
            None => now.last_handshake.is_some_and(|age| age < SESSION),
        };
        let keep = now.config.endpoint == peer.endpoint || (roams && now.config.endpoint.is_some());
        let endpoint = peer.endpoint.filter(|_| !keep);
        let keepalive =
            (now.config.keepalive.unwrap_or(0) != peer.keepalive.unwrap_or(0)).then_some(peer.keepalive.unwrap_or(0));
        let allowed_ips =
            (sorted(&now.config.allowed_ips) != sorted(&peer.allowed_ips)).then(|| peer.allowed_ips.clone());
        if endpoint.is_some() || keepalive.is_some() || allowed_ips.is_some() {
            changes.push(Change::Set { key, update: true, endpoint, keepalive, allowed_ips });
        }
    }
    changes
}

fn sorted(networks: &[Ipv4Net]) -> Vec<Ipv4Net> {
    let mut networks: Vec<_> = networks.iter().map(Ipv4Net::trunc).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    fn peer(n: u8) -> PeerConfig {
        PeerConfig {
            public_key: PrivateKey::from_bytes([n; 32]).public(),
            endpoint: Some(SocketAddr::from(([192, 0, 2, n], 7444))),
            allowed_ips: vec![Ipv4Net::new_assert([10, 77, n, 0].into(), 24)],
            keepalive: Some(25),
        }
    }

    fn seen(config: PeerConfig) -> Seen {
        Seen { config, last_handshake: Some(Duration::from_secs(10)), rx: 0, tx: 0 }
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let wanted = [peer(1), peer(2)];
        assert_eq!(plan(&wanted, &wanted.clone().map(seen), &wanted), []);
    }

    #[test]
    fn one_comes_and_one_goes() {
        let changes = plan(&[peer(2)], &[seen(peer(1))], &[peer(1)]);
        assert_eq!(changes.len(), 2);
        assert_eq!(changes[0], Change::Remove(peer(1).public_key));
        assert!(matches!(&changes[1], Change::Set { update: false, allowed_ips: Some(_), .. }));
    }

    #[test]
    fn only_what_differs_is_said() {
        let mut after = peer(1);
        after.allowed_ips.push("10.77.9.9/32".parse().unwrap());
        assert_eq!(
            plan(&[after.clone()], &[seen(peer(1))], &[peer(1)]),
            [Change::Set {
                key: after.public_key,
                update: true,
                endpoint: None,
                keepalive: None,
                allowed_ips: Some(after.allowed_ips),
            }]
        );
    }

    #[test]
    fn who_has_roamed_stays_there_until_the_configuration_moves() {
        let mut roamed = peer(1);
        roamed.endpoint = Some(SocketAddr::from(([198, 51, 100, 1], 1)));
        assert_eq!(plan(&[peer(1)], &[seen(roamed.clone())], &[peer(1)]), []);
        // An earlier life of this process configured it: believed while it is in touch.
        assert_eq!(plan(&[peer(1)], &[seen(roamed.clone())], &[]), []);
        let mut lost = seen(roamed.clone());
        lost.last_handshake = None;
        assert_eq!(plan(&[peer(1)], &[lost], &[]).len(), 1);
        let mut moved = peer(1);
        moved.endpoint = Some(SocketAddr::from(([203, 0, 113, 1], 2)));
        assert!(matches!(
            plan(&[moved.clone()], &[seen(roamed)], &[peer(1)])[..],
            [Change::Set { endpoint, .. }] if endpoint == moved.endpoint
        ));
    }

    #[test]
    fn switching_the_keepalive_off_is_said() {
        let mut after = peer(1);
        after.keepalive = None;
        assert!(matches!(
            plan(&[after.clone()], &[seen(peer(1))], &[peer(1)])[..],
            [Change::Set { keepalive: Some(0), endpoint: None, allowed_ips: None, .. }]
        ));
    }
}

//! Who is alive since when: pure bookkeeping over the failure detector's opinion and the peer table.

use crate::table::PeerTable;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};
use tokio::time::Instant;
use waifud_model::ids::NodeId;

/// What gossip knows of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Has it been heard of lately?
    pub alive: bool,
    /// Since when that is so, by this node's monotonic clock; never before this node started.
    pub since: Instant,
}

/// All members.
pub type Members = BTreeMap<NodeId, Member>;

/// After this node itself stood still, how long the silence of others is not held against them: they spoke, we did not
/// listen.
const PARDON: Duration = Duration::from_secs(2);

/// Keeps the members.
#[derive(Debug)]
pub(super) struct Roster {
    members: Members,
    /// A longer pause between two looks means that this node stood still (stopped, swapped out, a suspended machine).
    still: Duration,
    last_look: Option<Instant>,
    pardon_until: Option<Instant>,
}

impl Roster {
    /// For a caller who looks at least every `interval`.
    pub(super) fn new(interval: Duration) -> Self {
        Self { members: Members::new(), still: interval * 3, last_look: None, pardon_until: None }
    }

    /// Takes note of who is `live`; this node, `me`, always is. The members, if anything changed.
    pub(super) fn look(
        &mut self,
        now: Instant,
        me: NodeId,
        table: &PeerTable,
        live: &BTreeSet<NodeId>,
    ) -> Option<Members> {
        if self.last_look.is_some_and(|last| now.duration_since(last) > self.still) {
            tracing::warn!("this node stood still; it waits before it takes others for dead");
            self.pardon_until = Some(now + PARDON);
        }
        self.last_look = Some(now);
        let pardon = self.pardon_until.is_some_and(|until| now < until);
        let members: Members = table
            .iter()
            .map(|(id, peer)| {
                let heard = *id == me || live.contains(id);
                let (alive, since) = match self.members.get(id) {
                    Some(known) if known.alive == heard || (known.alive && pardon) => (known.alive, known.since),
                    _ => (heard, now),
                };
                (*id, Member { addr: peer.addr, alive, since })
            })
            .collect();
        if members == self.members {
            return None;
        }
        for (id, member) in &members {
            if self.members.get(id).is_some_and(|known| known.alive != member.alive) {
                tracing::info!(node = %id, alive = member.alive, "membership changed");
            }
        }
        self.members.clone_from(&members);
        Some(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Peer;
    use waifud_model::digest::Fingerprint;

    const INTERVAL: Duration = Duration::from_millis(500);

    fn id(n: u64) -> NodeId {
        NodeId::from_random(n)
    }

    fn table(nodes: impl IntoIterator<Item = u8>) -> PeerTable {
        let peer = |n: u8| Peer {
            name: format!("n{n}").parse().unwrap(),
            addr: ([10, 0, 0, n], 7400).into(),
            fingerprint: Fingerprint([n; 32]),
        };
        nodes.into_iter().map(|n| (id(n.into()), peer(n))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn since_moves_only_with_the_state() {
        let (mut roster, table, start) = (Roster::new(INTERVAL), table([1, 2]), Instant::now());
        let members = roster.look(start, id(1), &table, &BTreeSet::new()).unwrap();
        assert!(members[&id(1)].alive && !members[&id(2)].alive);
        let later = start + INTERVAL;
        let members = roster.look(later, id(1), &table, &BTreeSet::from([id(2)])).unwrap();
        assert_eq!((members[&id(2)].alive, members[&id(2)].since), (true, later));
        assert_eq!(members[&id(1)].since, start);
        assert_eq!(roster.look(later + INTERVAL, id(1), &table, &BTreeSet::from([id(2)])), None);
        let dead = roster.look(later + INTERVAL * 2, id(1), &table, &BTreeSet::new()).unwrap();
        assert_eq!((dead[&id(2)].alive, dead[&id(2)].since), (false, later + INTERVAL * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_left_the_table_is_gone_and_strangers_never_appear() {
        let (mut roster, now) = (Roster::new(INTERVAL), Instant::now());
        let live = BTreeSet::from([id(2), id(9)]);
        assert_eq!(roster.look(now, id(1), &table([1, 2]), &live).unwrap().len(), 2);
        let members = roster.look(now, id(1), &table([1]), &live).unwrap();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [id(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stood_still_does_not_blame_the_others() {
        let (mut roster, table, start) = (Roster::new(INTERVAL), table([1, 2]), Instant::now());
        let live = BTreeSet::from([id(2)]);
        roster.look(start, id(1), &table, &live).unwrap();
        let awake = start + Duration::from_secs(60);
        assert_eq!(roster.look(awake, id(1), &table, &BTreeSet::new()), None, "pardoned");
        assert_eq!(roster.look(awake + INTERVAL, id(1), &table, &live), None, "heard again");
        let mut now = awake + INTERVAL;
        let dead = loop {
            now += INTERVAL;
            if let Some(members) = roster.look(now, id(1), &table, &BTreeSet::new()) {
                break members;
            }
            assert!(now < awake + PARDON + INTERVAL, "the pardon must end");
        };
        assert!(!dead[&id(2)].alive);
        assert!(now >= awake + PARDON);
    }
}

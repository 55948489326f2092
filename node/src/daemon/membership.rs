//! Keeps the two pictures of the other nodes in step: who they are, from the replicated state to the peers' table; who
//! is alive and whose clock is wrong, from gossip to consensus.
//!
//! In: the applied state, gossip's members and their clocks. Out: a [`PeerTable`] that the endpoint obeys, a [`Liveness`]
//! that consensus listens to. A machine that has just joined knows its peers from the member that let it in, until its
//! own replica has caught up so far that it finds itself in it.

use super::{
    clock,
    skew::{CLOCK, Skew},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Handle, Liveness};
use waifud_gossip::{
    Peer, PeerTable,
    membership::{Gossip, Members},
};
use waifud_model::ids::NodeId;

/// Commits come by the thousand; who is a member changes rarely. The table is looked at this often at the most.
const PACE: Duration = Duration::from_millis(50);

/// What the replicated state says about this node's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The replica does not reach far enough to tell.
    CatchingUp,
    /// A member.
    Member,
    /// It was one, and was removed.
    Removed,
}

/// Reads the first table of a machine that has just joined.
///
/// # Errors
/// If the file is there and does not read.
pub(super) fn read_first_table(path: &Path) -> io::Result<PeerTable> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(PeerTable::new()),
        Err(error) => Err(error),
    }
}

/// Keeps the first table for the first start, also if the power goes before that.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write_first_table(path: &Path, table: &PeerTable) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(table).map_err(io::Error::other)?)?;
    file.sync_all()
}

/// The table that the replicated state gives; empty while it holds no cluster.
///
/// # Errors
/// If the state does not read.
pub(super) async fn replicated_table(consensus: &Handle) -> Result<PeerTable, waifud_consensus::ReadError> {
    let nodes = consensus.read(|view| view.nodes()).await?;
    Ok(nodes.iter().map(|node| (node.id, Peer::from(node))).collect())
}

/// Follows the replicated state from now on. Ends with `stop`.
pub(super) async fn follow_table(
    me: NodeId,
    consensus: Handle,
    table: watch::Sender<Arc<PeerTable>>,
    standing: watch::Sender<Standing>,
    stop: CancellationToken,
) {
    let mut applied = consensus.applied();
    loop {
        applied.mark_unchanged();
        match replicated_table(&consensus).await {
            Ok(replicated) => {
                let now = judge(me, *standing.borrow(), &replicated);
                if now != Standing::CatchingUp {
                    table.send_if_modified(|current| {
                        let changed = **current != replicated;
                        if changed {
                            *current = Arc::new(replicated);
                        }
                        changed
                    });
                }
                standing.send_if_modified(|known| std::mem::replace(known, now) != now);
            }
            Err(error) => tracing::error!(%error, "the node table cannot be read; the last one stays in force"),
        }
        let next = async {
            tokio::time::sleep(PACE).await;
            applied.changed().await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = next => if changed.is_err() { return },
        }
    }
}

/// A replica that is being filled passes through states in which this node does not exist yet.
fn judge(me: NodeId, before: Standing, replicated: &PeerTable) -> Standing {
    match (replicated.contains_key(&me), before) {
        (true, _) => Standing::Member,
        (false, Standing::CatchingUp) => Standing::CatchingUp,
        (false, Standing::Member | Standing::Removed) => Standing::Removed,
    }
}

/// Tells consensus who is alive, and how far this node's clock is off. Ends with `stop`.
pub(super) async fn follow_members(
    me: NodeId,
    gossip: Gossip,
    liveness: watch::Sender<Liveness>,
    stop: CancellationToken,
) {
    let (mut members, mut observations) = (gossip.members(), gossip.observations());
    let mut skew = Skew::default();
    loop {
        for (node, seen) in observations.borrow_and_update().iter() {
            if let Some(said) = seen.get(CLOCK) {
                skew.hear(*node, said, clock::now());
            }
        }
        let mut current = alive(&members.borrow_and_update());
        current.clock_offset_ms = skew.offset_ms(me, &current.alive);
        liveness.send_if_modified(|known| {
            let changed = *known != current;
            if changed && current.clock_is_wrong() && !known.clock_is_wrong() {
                tracing::error!(
                    ahead_ms = current.clock_offset_ms,
                    "this node's clock is far from the others'; it does not lead until that is mended"
                );
            }
            *known = current;
            changed
        });
        tokio::select! {
            () = stop.cancelled() => return,
            changed = members.changed() => if changed.is_err() { return },
            changed = observations.changed() => if changed.is_err() { return },
        }
    }
}

fn alive(members: &Members) -> Liveness {
    Liveness {
        alive: members.iter().filter(|(_, member)| member.alive).map(|(id, _)| *id).collect(),
        dead_since: members
            .iter()
            .filter(|(_, member)| !member.alive)
            .map(|(id, member)| (*id, member.since))
            .collect::<BTreeMap<_, _>>(),
        clock_offset_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::digest::Fingerprint;

    #[test]
    fn only_a_node_that_was_there_can_be_removed() {
        let me = NodeId::from_random(1);
        let peer = Peer {
            name: "n1".parse().unwrap(),
            addr: "127.0.0.1:1".parse().unwrap(),
            fingerprint: Fingerprint([1; 32]),
        };
        let with_me = PeerTable::from([(me, peer)]);
        let without = PeerTable::new();
        assert_eq!(judge(me, Standing::CatchingUp, &without), Standing::CatchingUp);
        assert_eq!(judge(me, Standing::CatchingUp, &with_me), Standing::Member);
        assert_eq!(judge(me, Standing::Member, &without), Standing::Removed);
        assert_eq!(judge(me, Standing::Removed, &without), Standing::Removed);
    }

    #[test]
    fn the_first_table_is_kept_between_join_and_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers");
        assert!(read_first_table(&path).unwrap().is_empty());
        let peer = Peer {
            name: "n1".parse().unwrap(),
            addr: "127.0.0.1:1".parse().unwrap(),
            fingerprint: Fingerprint([1; 32]),
        };
        let table = PeerTable::from([(NodeId::from_random(1), peer)]);
        write_first_table(&path, &table).unwrap();
        assert_eq!(read_first_table(&path).unwrap(), table);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(read_first_table(&path).is_err());
    }
}

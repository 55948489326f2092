//! How long a peer that cannot be reached is left alone: shortly as long as gossip hears it, longer while gossip takes it for
//! dead, and no moment longer once gossip hears it again.
//!
//! In: the failures openraft counts, and [`Liveness`]. Out: pauses, and their end. Gossip may be wrong: what it takes for dead
//! is still tried, only less often.

use super::Raft;
use crate::liveness::Liveness;
use openraft::network::Backoff;
use std::{collections::BTreeSet, iter, time::Duration};
use tokio::sync::watch;
use waifud_model::ids::NodeId;

/// The first pause; each that follows is twice as long.
const FIRST: Duration = Duration::from_millis(50);

/// Heartbeats go on meanwhile, so the longest pause is what a follower that only lost its connection waits for entries.
const LONGEST: Duration = Duration::from_millis(500);

/// The longest for the dead. A cluster may have hundreds of them, and each try costs as much as one that succeeds.
const LONGEST_DEAD: Duration = Duration::from_secs(16);

/// The pauses between tries to reach `target`.
pub(crate) fn pauses(target: NodeId, liveness: watch::Receiver<Liveness>) -> Backoff {
    let mut next = FIRST;
    Backoff::new(iter::repeat_with(move || {
        let dead = liveness.borrow().dead_since.contains_key(&target);
        let pause = next.min(if dead { LONGEST_DEAD } else { LONGEST });
        next = pause * 2;
        pause
    }))
}

/// Waits until `target` is heard, though no longer than the dead are left alone. A snapshot's pauses are not what [`recall`]
/// ends, so those stay short, and the wait is here.
pub(crate) async fn heard(target: NodeId, mut liveness: watch::Receiver<Liveness>) {
    let heard = liveness.wait_for(|liveness| !liveness.dead_since.contains_key(&target));
    // Not heard in time, or gossip has ended: it is tried all the same.
    let _ = tokio::time::timeout(LONGEST_DEAD, heard).await;
}

/// Ends the pauses of whoever is heard again. Runs until it is aborted.
pub(crate) async fn recall(raft: Raft, mut liveness: watch::Receiver<Liveness>) {
    let mut known = BTreeSet::new();
    loop {
        let alive = liveness.borrow_and_update().alive.clone();
        let back: Vec<NodeId> = alive.difference(&known).copied().collect();
        known = alive;
        // For nobody would be for everybody. A node that does not lead has no pauses to end.
        if !back.is_empty() && raft.trigger().reset_backoff(back).await.is_err() {
            return;
        }
        if liveness.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn the_dead_are_left_alone_for_longer() {
        let (told, liveness) = watch::channel(Liveness::default());
        let node = NodeId::from_random(2);
        let mut pauses = pauses(node, liveness);
        let unheard: Vec<Duration> = pauses.by_ref().take(6).collect();
        assert_eq!(unheard, [50, 100, 200, 400, 500, 500].map(Duration::from_millis));
        told.send_modify(|liveness| {
            liveness.dead_since.insert(node, Instant::now());
        });
        let dead: Vec<Duration> = pauses.by_ref().take(6).collect();
        assert_eq!(dead, [1, 2, 4, 8, 16, 16].map(Duration::from_secs));
        told.send_modify(|liveness| {
            liveness.dead_since.clear();
        });
        assert_eq!(pauses.next(), Some(LONGEST));
    }
}

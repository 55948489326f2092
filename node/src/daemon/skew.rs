//! How far this node's clock is from those of the other nodes: a leader that is far off must not stamp commands.
//!
//! In: what the others last said their clocks show, by gossip. Out: the difference to their median. A value is on its way
//! for some seconds, and the tolerance is minutes, so the way is not accounted for. Liveness never comes from here.

use super::clock;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use waifud_gossip::membership::Gossip;
use waifud_model::{ids::NodeId, time::Timestamp};

/// The gossip key under which a node says what its clock shows, in milliseconds since the epoch.
pub(super) const CLOCK: &str = "node/clock";

/// Often enough to find a clock that jumped before it has stamped much; seldom enough to cost nothing.
const TELL: Duration = Duration::from_secs(30);

/// Differences are told in steps of this, so that the way of a value does not look like news.
const STEP_MS: i64 = 10_000;

/// Says what this node's clock shows, again and again. Ends with `stop`.
pub(super) async fn tell(gossip: Gossip, stop: CancellationToken) {
    loop {
        if let Err(error) = gossip.publish(CLOCK, clock::now().0.to_string()) {
            tracing::warn!(%error, "other nodes are not told what this one's clock shows");
        }
        if stop.run_until_cancelled(tokio::time::sleep(TELL)).await.is_none() {
            return;
        }
    }
}

/// What was heard of the others' clocks.
#[derive(Debug, Default)]
pub(super) struct Skew(BTreeMap<NodeId, Heard>);

#[derive(Debug)]
struct Heard {
    said: String,
    /// How far this clock was ahead, in milliseconds. None: how old that value was is not known.
    ahead: Option<i64>,
}

impl Skew {
    /// `node` says `said`, and this node's clock shows `now`. Only a value that takes the place of another is known to be
    /// new: the first one may have waited here since its node died.
    pub(super) fn hear(&mut self, node: NodeId, said: &str, now: Timestamp) {
        let known = self.0.get(&node);
        if known.is_some_and(|known| known.said == said) {
            return;
        }
        let theirs = said.parse::<u64>().ok().filter(|_| known.is_some());
        let ahead = theirs.map(|theirs| i128::from(now.0) - i128::from(theirs)).and_then(|ahead| ahead.try_into().ok());
        self.0.insert(node, Heard { said: said.to_owned(), ahead });
    }

    /// How far this node's clock is ahead of the median of its own and those of `alive`, in milliseconds. Where two clocks
    /// are in the middle it is the one that speaks for this node: of two that differ, nobody knows which is wrong.
    pub(super) fn offset_ms(&self, me: NodeId, alive: &BTreeSet<NodeId>) -> i64 {
        let others = self.0.iter().filter(|(node, _)| **node != me && alive.contains(node));
        let mut all: Vec<i64> = others.filter_map(|(_, heard)| heard.ahead).chain([0]).collect();
        all.sort_unstable();
        let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
        let median = if low.unsigned_abs() < high.unsigned_abs() { low } else { high };
        median / STEP_MS * STEP_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn node(n: u64) -> NodeId {
        NodeId::from_random(n)
    }

    /// Node 1's picture after the others, 2 and on, said twice what time it is.
    fn skew(ahead: &[i64]) -> Skew {
        let mut skew = Skew::default();
        let now = 1_700_000_000_000;
        for (n, ahead) in (2..).zip(ahead) {
            skew.hear(node(n), "1", Timestamp(now));
            skew.hear(node(n), &(now as i64 - ahead).to_string(), Timestamp(now));
        }
        skew
    }

    #[test]
    fn a_majority_of_other_clocks_is_needed_to_be_wrong() {
        let check = |ahead: &[i64], alive: &[u64], expected| {
            let alive = alive.iter().copied().map(node).collect();
            assert_eq!(skew(ahead).offset_ms(node(1), &alive), expected, "{ahead:?} {alive:?}");
        };
        check(&[], &[1], 0);
        check(&[HOUR], &[1, 2], 0);
        check(&[HOUR, 0], &[1, 2, 3], 0);
        check(&[HOUR, HOUR], &[1, 2, 3], HOUR);
        check(&[-HOUR, -HOUR], &[1, 2, 3], -HOUR);
        check(&[HOUR, HOUR], &[1, 2], 0);
        check(&[HOUR, HOUR, 0], &[1, 2, 3, 4], 0);
        check(&[HOUR, HOUR, HOUR], &[1, 2, 3, 4], HOUR);
        check(&[3_000, 4_000], &[1, 2, 3], 0);
    }

    #[test]
    fn what_may_be_old_does_not_count() {
        let alive = BTreeSet::from([node(1), node(2), node(3)]);
        let mut skew = Skew::default();
        for n in [2, 3] {
            skew.hear(node(n), "5000", Timestamp(HOUR as u64));
            skew.hear(node(n), "5000", Timestamp(HOUR as u64));
            skew.hear(node(n), "nonsense", Timestamp(HOUR as u64));
        }
        assert_eq!(skew.offset_ms(node(1), &alive), 0);
        for n in [2, 3] {
            skew.hear(node(n), "3600000", Timestamp(HOUR as u64));
        }
        assert_eq!(skew.offset_ms(node(1), &alive), 0);
    }
}

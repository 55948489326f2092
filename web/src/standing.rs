//! Where this node stands in the consensus: is there a quorum, and how fresh is what it knows?
//!
//! In: consensus' own status and the observer's picture. Out: plain values for headers, `/cluster`, `/readyz` and metrics.
//! Pure; it judges for people and programs to read, and decides nothing.

use crate::ports::Observed;
use std::time::Duration;
use waifud_api::node::NodeRole;
use waifud_consensus::{Role, Status};
use waifud_model::{ids::NodeId, time::Timestamp};

/// Without news of a quorum for this long the data may be out of date: several lost heartbeats and an election.
const FRESH: Duration = Duration::from_secs(2);

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Voters that are heard, this node included.
    pub(crate) alive: u32,
    /// Voters in all.
    pub(crate) voters: u32,
    /// Is a majority heard?
    pub(crate) quorum: bool,
    /// How long ago this node last knew itself up to date.
    pub(crate) age: Option<Duration>,
    /// Why the data may be out of date.
    pub(crate) stale: Option<Stale>,
}

/// Why data may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// No majority of the voters is heard.
    NoQuorum,
    /// There is one, but this node has no news of it.
    Lagging,
}

impl Stale {
    /// The word of the header.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NoQuorum => "no_quorum",
            Self::Lagging => "lagging",
        }
    }
}

/// Where the node stands that `status` is of.
pub(crate) fn of(status: &Status, observed: &Observed, now: Timestamp) -> Standing {
    let heard = status.voters.iter().filter(|id| hears(status, observed, **id)).count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (alive, voters) = (number(heard), number(status.voters.len()));
    let quorum = heard * 2 > status.voters.len();
    let age = if quorum { news(status, observed) } else { silence(status, observed, now) };
    let fresh = age.is_some_and(|age| age <= FRESH);
    let stale = match (quorum, fresh) {
        (true, true) => None,
        (true, false) => Some(Stale::Lagging),
        (false, _) => Some(Stale::NoQuorum),
    };
    Standing { alive, voters, quorum, age, stale }
}

/// A node hears itself.
fn hears(status: &Status, observed: &Observed, id: NodeId) -> bool {
    id == status.node || observed.alive(id).is_some()
}

/// The age of what is known while a majority is heard: none without a leader in touch.
fn news(status: &Status, observed: &Observed) -> Option<Duration> {
    let leader = status.leader?;
    match status.role {
        // There is nobody to confirm a lone voter's lead.
        Role::Leader if status.voters.len() == 1 => Some(Duration::ZERO),
        Role::Leader => status.last_quorum_ack.map(|at| at.elapsed()),
        // A follower that did not hear its leader would stand for election within a second, and name none.
        Role::Follower | Role::Learner => hears(status, observed, leader).then_some(Duration::ZERO),
        Role::Candidate | Role::Halted => None,
    }
}

/// How long there has been no majority: since the voter fell silent that it would take.
fn silence(status: &Status, observed: &Observed, now: Timestamp) -> Option<Duration> {
    let heard = status.voters.iter().filter(|id| hears(status, observed, **id)).count();
    let missing = (status.voters.len() / 2 + 1).checked_sub(heard + 1)?;
    let silent = status.voters.iter().filter(|id| !hears(status, observed, **id));
    let mut since: Vec<Timestamp> = silent.filter_map(|id| observed.seen(*id)).map(|seen| seen.since).collect();
    since.sort_unstable_by(|a, b| b.cmp(a));
    since.get(missing).map(|since| now.since(*since))
}

/// A node's part in the consensus.
pub(crate) fn role(status: &Status, id: NodeId) -> NodeRole {
    if status.leader == Some(id) {
        NodeRole::Leader
    } else if status.voters.contains(&id) {
        NodeRole::Voter
    } else {
        NodeRole::Learner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::NodeSeen;
    use std::collections::{BTreeMap, BTreeSet};

    fn id(n: u64) -> NodeId {
        NodeId::from_random(n)
    }

    /// Node 1 of voters 1, 2 and 3; the others fell silent at the given times, or are heard.
    fn standing(role: Role, leader: Option<u64>, silent: [Option<u64>; 2]) -> Standing {
        let status = Status {
            node: id(1),
            role,
            term: 1,
            leader: leader.map(id),
            voters: [1, 2, 3].map(id).into(),
            learners: BTreeSet::new(),
            last_log: 1,
            applied: 1,
            snapshot: None,
            purged: None,
            last_quorum_ack: None,
            matched: BTreeMap::new(),
            membership_changing: false,
            halted: None,
        };
        let seen = |since: Option<u64>| NodeSeen {
            alive: since.is_none(),
            since: Timestamp(since.unwrap_or(0)),
            version: None,
            applied: None,
            vms: BTreeMap::new(),
            usage: BTreeMap::new(),
            images: BTreeSet::new(),
        };
        let observed = Observed { nodes: [(id(2), seen(silent[0]).into()), (id(3), seen(silent[1]).into())].into() };
        of(&status, &observed, Timestamp(10_000))
    }

    #[test]
    fn a_follower_in_touch_is_fresh() {
        let standing = standing(Role::Follower, Some(2), [None, Some(1_000)]);
        assert_eq!((standing.quorum, standing.alive, standing.voters, standing.stale), (true, 2, 3, None));
    }

    #[test]
    fn without_a_leader_it_lags() {
        assert_eq!(standing(Role::Candidate, None, [None, None]).stale, Some(Stale::Lagging));
        assert_eq!(standing(Role::Follower, Some(3), [None, Some(1_000)]).stale, Some(Stale::Lagging));
    }

    #[test]
    fn the_age_counts_from_the_loss_of_the_majority() {
        let standing = standing(Role::Candidate, None, [Some(1_000), Some(4_000)]);
        assert_eq!((standing.quorum, standing.stale), (false, Some(Stale::NoQuorum)));
        assert_eq!(standing.age, Some(Duration::from_millis(6_000)));
    }
}

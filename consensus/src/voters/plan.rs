//! The decision: which membership change comes next.

use std::collections::BTreeSet;
use waifud_model::ids::NodeId;

/// What the leader knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Situation {
    /// The leader itself.
    pub me: NodeId,
    /// The node table: who belongs to the cluster.
    pub members: BTreeSet<NodeId>,
    /// Who may vote. If a change was interrupted, the voters of after it.
    pub voters: BTreeSet<NodeId>,
    /// A change of voters was interrupted and must be finished.
    pub unfinished: bool,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Who is alive, by gossip.
    pub alive: BTreeSet<NodeId>,
    /// Who has been dead for so long that it is replaced.
    pub long_dead: BTreeSet<NodeId>,
    /// Learners that have nearly all of the log.
    pub caught_up: BTreeSet<NodeId>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// These follow from now on, without a vote.
    AddLearners(BTreeSet<NodeId>),
    /// These are the voters from now on; those that were become learners.
    SetVoters(BTreeSet<NodeId>),
    /// Somebody else leads from now on: this node is leaving.
    HandOver(NodeId),
    /// These learners have left the cluster.
    Remove(BTreeSet<NodeId>),
}

/// How many voters a cluster of this size should have: 1 for 1-2 nodes, 3 for 3-4, 5 from 5 on.
///
/// Two voters would be worse than one, because either's loss stops them; more than five cost more than they give.
#[must_use]
pub const fn target(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3..=4 => 3,
        _ => 5,
    }
}

/// The next change, or none if all is as it should be or has to be waited for.
#[must_use]
pub fn plan(now: &Situation) -> Option<Step> {
    // Before the first command there is no node table; the voter of the bootstrap is right.
    if now.members.is_empty() {
        return None;
    }
    // Both the voters of before and those of after must agree to everything until this is through; it comes first.
    if now.unfinished {
        return Some(Step::SetVoters(now.voters.clone()));
    }
    let known = &now.voters | &now.learners;
    let missing = &now.members - &known;
    if !missing.is_empty() {
        return Some(Step::AddLearners(missing));
    }
    let wanted = wanted(now);
    if !now.members.contains(&now.me) && now.voters.contains(&now.me) {
        return leave(now, &wanted);
    }
    if wanted != now.voters {
        return Some(Step::SetVoters(wanted));
    }
    let gone: BTreeSet<_> = now.learners.difference(&now.members).copied().collect();
    (!gone.is_empty()).then_some(Step::Remove(gone))
}

/// The voters there should be, as far as there is anybody to fill the seats.
fn wanted(now: &Situation) -> BTreeSet<NodeId> {
    let seats = target(now.members.len());
    let (dead, mut kept): (Vec<_>, Vec<_>) = now
        .voters
        .intersection(&now.members)
        .copied()
        .partition(|node| now.long_dead.contains(node) && *node != now.me);
    // With too many for the seats, the leader stays before others, and the living before the dead.
    kept.sort_by_key(|node| (*node != now.me, !now.alive.contains(node), *node));
    kept.truncate(seats);
    let ready = now
        .learners
        .iter()
        .filter(|node| now.members.contains(node) && now.alive.contains(node) && now.caught_up.contains(node));
    let mut wanted: BTreeSet<_> = kept.iter().chain(ready).copied().take(seats).collect();
    let added = wanted.iter().rfind(|node| !kept.contains(node)).copied();
    // A dead voter whose seat nobody can take keeps it: without it a majority would be no smaller, and it may come back.
    for node in dead {
        if wanted.len() < seats {
            wanted.insert(node);
        }
    }
    // Growing to an even number makes the majority larger and nothing safer; wait for one more.
    if wanted.len() % 2 == 0
        && wanted.len() > now.voters.len()
        && let Some(added) = added
    {
        wanted.remove(&added);
    }
    wanted
}

/// This node leads but is no member any more: somebody else must lead before it can go.
fn leave(now: &Situation, wanted: &BTreeSet<NodeId>) -> Option<Step> {
    let heirs: BTreeSet<_> = now.voters.intersection(&now.members).copied().collect();
    if let Some(heir) = heirs.iter().find(|node| now.alive.contains(node)) {
        return Some(Step::HandOver(*heir));
    }
    // Nobody else votes yet. Until somebody else leads, this node keeps its vote beside the heirs'.
    let mut both = wanted.clone();
    both.insert(now.me);
    (both != now.voters).then_some(Step::SetVoters(both))
}

#[cfg(test)]
mod tests;

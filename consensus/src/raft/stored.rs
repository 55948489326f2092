//! What Raft leaves on disk besides commands: log ids, votes and memberships, in an encoding of our own.
//!
//! openraft's types are the library's to change; these are pinned by goldens. MessagePack with field names.

use super::types::{LeaderId, LogId, Membership, StoredMembership, Vote};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use waifud_model::ids::NodeId;

/// A position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    term: u64,
    leader: NodeId,
    index: u64,
}

/// A vote, or the leadership that came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    term: u64,
    candidate: NodeId,
    elected: bool,
}

/// Who belongs to the cluster, as Raft counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// One set of voters, or two while one replaces the other.
    voters: Vec<BTreeSet<NodeId>>,
    /// All nodes, voters included.
    nodes: BTreeSet<NodeId>,
}

/// A membership and where in the log it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MembersAt {
    at: Option<Position>,
    members: Members,
}

impl From<LogId> for Position {
    fn from(id: LogId) -> Self {
        let leader = id.committed_leader_id();
        Self { term: leader.term, leader: leader.node_id, index: id.index() }
    }
}

impl From<Position> for LogId {
    fn from(position: Position) -> Self {
        Self::new(LeaderId::new(position.term, position.leader), position.index)
    }
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, candidate: vote.leader_id.node_id, elected: vote.committed }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        Self { leader_id: LeaderId::new(ballot.term, ballot.candidate), committed: ballot.elected }
    }
}

impl From<&Membership> for Members {
    fn from(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            nodes: membership.nodes().map(|(node, ())| *node).collect(),
        }
    }
}

impl From<Members> for Membership {
    fn from(members: Members) -> Self {
        Self::new_with_defaults(members.voters, members.nodes)
    }
}

impl From<&StoredMembership> for MembersAt {
    fn from(stored: &StoredMembership) -> Self {
        Self { at: stored.log_id().map(Position::from), members: stored.membership().into() }
    }
}

impl From<MembersAt> for StoredMembership {
    fn from(members: MembersAt) -> Self {
        Self::new(members.at.map(LogId::from), members.members.into())
    }
}

/// The bytes that are kept.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    rmp_serde::to_vec_named(value)
}

/// The value of kept bytes.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn node(n: u64) -> NodeId {
        NodeId::from_random(n)
    }

    /// The bytes are pinned, and give the value back.
    fn check<S, T>(value: &T, stored: &S, golden: &Expect)
    where
        S: Serialize + DeserializeOwned + Into<T>,
        T: PartialEq + std::fmt::Debug,
    {
        let bytes = encode(stored).unwrap();
        let text: String = bytes.iter().flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect();
        golden.assert_eq(&text);
        assert_eq!(&decode::<S>(&bytes).unwrap().into(), value);
    }

    #[test]
    fn the_encoding_on_disk_is_pinned() {
        let id = LogId::new(LeaderId::new(7, node(2)), 300);
        check(&id, &Position::from(id), &expect![[r#"\x83\xa4term\x07\xa6leader\x02\xa5index\xcd\x01,"#]]);
        let vote = Vote { leader_id: LeaderId::new(7, node(2)), committed: true };
        check(&vote, &Ballot::from(vote), &expect![[r#"\x83\xa4term\x07\xa9candidate\x02\xa7elected\xc3"#]]);
        let membership = Membership::new_with_defaults(
            vec![[node(1)].into(), [node(1), node(2)].into()],
            [node(1), node(2), node(3)],
        );
        let stored = StoredMembership::new(Some(id), membership);
        check(
            &stored,
            &MembersAt::from(&stored),
            &expect![[
                r#"\x82\xa2at\x83\xa4term\x07\xa6leader\x02\xa5index\xcd\x01,\xa7members\x82\xa6voters\x92\x91\x01\x92\x01\x02\xa5nodes\x93\x01\x02\x03"#
            ]],
        );
    }
}

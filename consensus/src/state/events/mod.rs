//! Events: what commands leave behind for people, in the order of the log. Written by apply only; no secret ever enters one.
//!
//! ```text
//!   apply ──> trail.rs   writes, bounds ──> table events ──> find.rs   reads: pages, filters, objects by name ──> View
//!                                                               └─ sight.rs   what of it somebody may know of
//! ```

mod find;
mod sight;
mod trail;

pub use find::{ByActor, BySubject, EventQuery};
pub(super) use find::{before, commands, find, forgotten, named, newest};
pub(super) use sight::sees;
pub(super) use trail::{Author, Changes, Ends, Trail};

use std::{
    fmt::{self, Display},
    str::FromStr,
};
use waifud_model::{
    event::{Place, Subject, SubjectKind},
    ids::{NodeId, TokenId, VmId},
    name::{NodeName, PeerName, TemplateName, VmName},
};

/// Bits for an event's number within its command: as many VMs as a node ever loses at once, and many times more. What is
/// left is enough for 2^43 commands, which is 10,000 a second for 27 years.
const SEQ_BITS: u32 = 20;

/// The number that a place is kept as; beyond all events where it cannot be any.
fn number(place: Place) -> i64 {
    let most = (1 << SEQ_BITS) - 1;
    let index = i64::try_from(place.index).unwrap_or(i64::MAX).min(i64::MAX >> SEQ_BITS);
    index << SEQ_BITS | i64::from(place.seq).min(most)
}

/// The place that a number stands for.
fn place(number: i64) -> Place {
    let seq = number & ((1 << SEQ_BITS) - 1);
    Place { index: (number >> SEQ_BITS).unsigned_abs(), seq: u32::try_from(seq).unwrap_or(u32::MAX) }
}

/// Which object events are about, by what never changes about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKey {
    /// The cluster as a whole.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A VM.
    Vm(VmId),
    /// A template.
    Template(TemplateName),
    /// A join or API token.
    Token(TokenId),
    /// A machine that is no node and may reach the guests.
    Peer(PeerName),
}

impl Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster:"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::Vm(id) => write!(f, "vm:{id}"),
            Self::Template(name) => write!(f, "template:{name}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Peer(name) => write!(f, "peer:{name}"),
        }
    }
}

/// A text that is no subject's key.
#[derive(Debug, thiserror::Error)]
#[error("it names no object")]
pub struct SubjectKeyError;

impl FromStr for SubjectKey {
    type Err = SubjectKeyError;

    fn from_str(text: &str) -> Result<Self, SubjectKeyError> {
        let (kind, id) = text.split_once(':').ok_or(SubjectKeyError)?;
        let known = match kind.parse().map_err(|_| SubjectKeyError)? {
            SubjectKind::Cluster => Some(Self::Cluster),
            SubjectKind::Node => id.parse().ok().map(Self::Node),
            SubjectKind::Vm => id.parse().ok().map(Self::Vm),
            SubjectKind::Template => id.parse().ok().map(Self::Template),
            SubjectKind::Token => id.parse().ok().map(Self::Token),
            SubjectKind::Peer => id.parse().ok().map(Self::Peer),
        };
        known.ok_or(SubjectKeyError)
    }
}

impl SubjectKey {
    /// The object with the name it had; none where that is no name of its kind.
    fn named(self, name: &str) -> Option<Subject> {
        Some(match self {
            Self::Cluster => Subject::Cluster,
            Self::Node(id) => Subject::Node(id, NodeName::new(name).ok()?),
            Self::Vm(id) => Subject::Vm(id, VmName::new(name).ok()?),
            Self::Template(name) => Subject::Template(name),
            Self::Token(id) => Subject::Token(id),
            Self::Peer(name) => Subject::Peer(name),
        })
    }
}

impl From<&Subject> for SubjectKey {
    fn from(subject: &Subject) -> Self {
        match subject {
            Subject::Cluster => Self::Cluster,
            Subject::Node(id, _) => Self::Node(*id),
            Subject::Vm(id, _) => Self::Vm(*id),
            Subject::Template(name) => Self::Template(name.clone()),
            Subject::Token(id) => Self::Token(*id),
            Subject::Peer(name) => Self::Peer(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_numbers_in_the_same_order() {
        let places = [(0, 0), (0, 7), (1, 0), (812, 3), (1 << 42, 0)].map(|(index, seq)| Place { index, seq });
        assert!(places.windows(2).all(|pair| number(pair[0]) < number(pair[1])));
        assert_eq!(places.map(number).map(place), places);
        assert!(number(Place::after_index(812)) < number(Place { index: 813, seq: 0 }));
        assert!(number(Place::after_index(u64::MAX)) > 0);
    }
}

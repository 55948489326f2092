//! The types openraft is filled in with.

use super::runtime::Runtime;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{fmt, sync::Arc};
use waifud_model::{
    command::{Envelope, Reply},
    ids::NodeId,
    reject::Reject,
};

openraft::declare_raft_types!(
    /// How waifud fills openraft in. A node is known by its id only: addresses are the transport's business.
    pub(crate) Types:
        D = Logged,
        R = Outcome,
        NodeId = NodeId,
        Node = (),
        AsyncRuntime = Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type LeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<NodeId, ()>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// An encoded [`Envelope`], as it is in the log and on the wire.
///
/// It stays encoded until it is applied. So a node can hold and pass on commands that only newer nodes understand; it
/// halts when it has to apply one. Cloning it is cheap: one command is in the tail, on its way to the followers and on its
/// way to the disk at once.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Logged(Arc<[u8]>);

impl Logged {
    /// Encodes an envelope: MessagePack with field names, so that fields can be added.
    pub(crate) fn encode(envelope: &Envelope) -> Result<Self, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(envelope).map(Self::from)
    }

    /// Reads the envelope.
    pub(crate) fn decode(&self) -> Result<Envelope, rmp_serde::decode::Error> {
        rmp_serde::from_slice(&self.0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Logged {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Logged {
    /// Without the contents: a command may hold secrets, and openraft logs entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logged({} bytes)", self.0.len())
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Logged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Logged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Logged;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encoded envelope")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Logged, E> {
                Ok(Logged(bytes.into()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Logged, E> {
                Ok(Logged(bytes.into()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// What applying an entry gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// An entry of Raft's own.
    Nothing,
    /// The command was accepted.
    Accepted {
        /// Its reply.
        reply: Reply,
        /// True: it was accepted before, and this is the reply of then.
        replayed: bool,
    },
    /// The command was refused.
    Rejected(Reject),
}

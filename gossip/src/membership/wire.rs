//! chitchat's messages, made smaller, and cleared of nodes that nobody here knows.
//!
//! chitchat writes 57 bytes for each node into every message; most are zeros. Written with variable-length numbers it is
//! about 24, which is what makes half a second between rounds affordable at 20 nodes. A message is taken apart in any case,
//! to leave out nodes that are not members: chitchat itself would take up whatever a peer names.
//!
//! The layout of chitchat's messages is that of version 0.11.2 (pinned in the workspace; `message.rs`, `digest.rs`):
//! magic number, version, kind, digest (number of nodes; id and three versions each), the rest.

use bytes::Bytes;
use chitchat::{ChitchatId, ChitchatMessage, Deserializable, Serializable};
use std::net::SocketAddr;
use waifud_model::ids::NodeId;

/// Magic number and version.
const HEAD_LEN: usize = 3;
/// What is deserialized of an unknown sender's making must not lead to a large allocation: no cluster is this large.
const NODES_MAX: usize = 4_096;

/// Why bytes are not a gossip message.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the frame does not read")]
    Frame(#[from] postcard::Error),
    #[error("chitchat's message does not read: {0}")]
    Message(anyhow::Error),
    #[error("the message names {0} nodes")]
    TooManyNodes(usize),
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Frame<'a> {
    head: [u8; HEAD_LEN],
    kind: u8,
    digest: Vec<Entry>,
    /// What follows the digest, as chitchat wrote it.
    rest: &'a [u8],
}

/// One node of a digest.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Entry {
    /// Eight bytes, not a variable-length number: ids are random.
    node: [u8; 8],
    generation: u64,
    addr: SocketAddr,
    heartbeat: u64,
    last_gc_version: u64,
    max_version: u64,
}

/// The kinds that carry a digest: Syn and SynAck. Ack and BadCluster do not.
fn has_digest(kind: u8) -> bool {
    matches!(kind, 0 | 1)
}

/// Is this an acknowledgement that brings nothing? Head, kind, and the end mark of an empty delta.
pub(super) fn is_idle(message: &ChitchatMessage) -> bool {
    matches!(message, ChitchatMessage::Ack { .. }) && message.serialized_len() == HEAD_LEN + 2
}

/// The id under which a node gossips.
pub(super) fn node_of(id: &ChitchatId) -> Option<NodeId> {
    id.node_id.parse().ok()
}

/// Writes `message`.
pub(super) fn encode(message: &ChitchatMessage) -> Result<Bytes, WireError> {
    encode_raw(&message.serialize_to_vec())
}

/// Writes a message that chitchat has written.
pub(super) fn encode_raw(mut rest: &[u8]) -> Result<Bytes, WireError> {
    let head = <[u8; HEAD_LEN]>::deserialize(&mut rest).map_err(WireError::Message)?;
    let kind = u8::deserialize(&mut rest).map_err(WireError::Message)?;
    let digest = if has_digest(kind) { read_digest(&mut rest).map_err(WireError::Message)? } else { Vec::new() };
    Ok(postcard::to_stdvec(&Frame { head, kind, digest, rest })?.into())
}

/// Reads a message and leaves out of its digest whomever `keep` does not want. What a message says of nodes that are in
/// no digest chitchat ignores.
pub(super) fn decode(bytes: &[u8], keep: impl Fn(&ChitchatId) -> bool) -> Result<ChitchatMessage, WireError> {
    let frame: Frame<'_> = postcard::from_bytes(bytes)?;
    if frame.digest.len() > NODES_MAX {
        return Err(WireError::TooManyNodes(frame.digest.len()));
    }
    let mut raw = Vec::with_capacity(bytes.len() * 3);
    frame.head.serialize(&mut raw);
    frame.kind.serialize(&mut raw);
    if has_digest(frame.kind) {
        let entries = frame.digest.iter().filter_map(|entry| {
            let id = NodeId::from_random(u64::from_be_bytes(entry.node));
            let id = ChitchatId::new(id.to_string(), entry.generation, entry.addr);
            keep(&id).then_some((id, entry))
        });
        write_digest(&mut raw, entries.collect());
    }
    raw.extend_from_slice(frame.rest);
    ChitchatMessage::deserialize(&mut raw.as_slice()).map_err(WireError::Message)
}

fn read_digest(rest: &mut &[u8]) -> anyhow::Result<Vec<Entry>> {
    let count = u16::deserialize(rest)?;
    let mut entries = Vec::with_capacity(count.into());
    for _ in 0..count {
        let id = ChitchatId::deserialize(rest)?;
        let (heartbeat, last_gc_version, max_version) =
            (u64::deserialize(rest)?, u64::deserialize(rest)?, u64::deserialize(rest)?);
        // All ids are made from node ids; one that is not could not be told from a member.
        if let Some(node) = node_of(&id) {
            entries.push(Entry {
                node: node.get().to_be_bytes(),
                generation: id.generation_id,
                addr: id.gossip_advertise_addr,
                heartbeat,
                last_gc_version,
                max_version,
            });
        }
    }
    Ok(entries)
}

fn write_digest(raw: &mut Vec<u8>, entries: Vec<(ChitchatId, &Entry)>) {
    // At most NODES_MAX of them.
    u16::try_from(entries.len()).unwrap_or(u16::MAX).serialize(raw);
    for (id, entry) in entries {
        id.serialize(raw);
        entry.heartbeat.serialize(raw);
        entry.last_gc_version.serialize(raw);
        entry.max_version.serialize(raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: [u8; HEAD_LEN] = [0x53, 0xb0, 0];
    const EMPTY_DELTA: u8 = 0;

    fn id(n: u8) -> ChitchatId {
        ChitchatId::new(NodeId::from_random(n.into()).to_string(), 489_000 + u64::from(n), ([10, 0, 0, n], 7400).into())
    }

    /// A message as chitchat writes it: a SynAck with `nodes` in its digest and an empty delta.
    fn syn_ack(nodes: impl IntoIterator<Item = u8>) -> ChitchatMessage {
        let nodes: Vec<u8> = nodes.into_iter().collect();
        let mut raw = HEAD.to_vec();
        1u8.serialize(&mut raw);
        (nodes.len() as u16).serialize(&mut raw);
        for n in nodes {
            id(n).serialize(&mut raw);
            for version in [100_000u64, 3, 4] {
                version.serialize(&mut raw);
            }
        }
        raw.push(EMPTY_DELTA);
        ChitchatMessage::deserialize(&mut raw.as_slice()).unwrap()
    }

    fn ack() -> ChitchatMessage {
        let raw = [HEAD.as_slice(), &[2, EMPTY_DELTA]].concat();
        ChitchatMessage::deserialize(&mut raw.as_slice()).unwrap()
    }

    #[test]
    fn messages_come_through_whole_and_smaller() {
        for message in [syn_ack(1..=20), syn_ack([]), ack(), ChitchatMessage::BadCluster] {
            let bytes = encode(&message).unwrap();
            assert_eq!(decode(&bytes, |_| true).unwrap(), message);
        }
        let message = syn_ack(1..=20);
        let (ours, theirs) = (encode(&message).unwrap().len(), message.serialized_len());
        assert!(ours * 2 < theirs, "{ours} of {theirs} bytes");
        assert!(ours < 600, "20 nodes fit into half a packet: {ours} bytes");
    }

    #[test]
    fn unwanted_nodes_are_left_out() {
        let bytes = encode(&syn_ack(1..=3)).unwrap();
        assert_eq!(decode(&bytes, |seen| *seen != id(2)).unwrap(), syn_ack([1, 3]));
    }

    #[test]
    fn only_an_empty_acknowledgement_is_idle() {
        assert!(is_idle(&ack()));
        assert!(!is_idle(&syn_ack([])));
        assert!(!is_idle(&ChitchatMessage::BadCluster));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, |_| true);
        }

        #[test]
        fn damaged_messages_do_not_panic(at in 0usize..500, to in any::<u8>()) {
            let mut bytes = encode(&syn_ack(1..=20)).unwrap().to_vec();
            let at = at % bytes.len();
            bytes[at] = to;
            let _ = decode(&bytes, |_| true);
        }
    }
}

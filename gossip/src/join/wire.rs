//! What a joiner and a member say to each other, in postcard. New fields mean a new ALPN.

use super::{desk::JoinRefusal, proof::PROOF_LEN};
use crate::table::PeerTable;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use waifud_model::{
    ids::{NodeId, TokenId},
    name::NodeName,
    node::Capacity,
};

/// The largest request: a name, an address, a capacity and a signing request.
pub(super) const REQUEST_MAX: usize = 8 << 10;
/// The largest answer: the peer table of some thousand nodes, and what the node adds.
pub(super) const ANSWER_MAX: usize = 1 << 20;

/// The joiner's only message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) token: TokenId,
    pub(super) proof: [u8; PROOF_LEN],
    /// [`Facts`], serialized: the proof is over these bytes.
    pub(super) facts: Vec<u8>,
}

/// What the joiner says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) name: NodeName,
    pub(super) advertise: SocketAddr,
    pub(super) capacity: Capacity,
    /// PKCS #10, DER. Only the key in it counts.
    pub(super) signing_request: Vec<u8>,
}

/// The member's only message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Refused(JoinRefusal),
    Admitted {
        proof: [u8; PROOF_LEN],
        /// [`Welcome`], serialized: the proof is over these bytes.
        welcome: Vec<u8>,
    },
}

/// What the joiner becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) node: NodeId,
    pub(super) certificate: Vec<u8>,
    pub(super) ca: Vec<u8>,
    pub(super) peers: PeerTable,
    pub(super) extra: Vec<u8>,
}

//! Tokens: for joining the cluster, and for using its API. Only derived keys and hashes are kept, never a secret.

use crate::{digest::Blake3, ids::TokenId, scope::Scope, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Lets machines join. Any node can redeem it; it survives the node that issued it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its public part.
    pub id: TokenId,
    /// BLAKE3-derived from the secret; the joiner proves that it knows the secret by an HMAC under this key.
    #[serde(with = "crate::bytes")]
    pub key: [u8; 32],
    /// Not valid from this moment on, in log time.
    pub expires_at: Timestamp,
    /// How many more nodes it lets in.
    pub uses_left: u32,
    /// When it was made, in log time.
    pub created_at: Timestamp,
}

impl fmt::Debug for JoinToken {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("uses_left", &self.uses_left)
            .finish_non_exhaustive()
    }
}

/// Lets a client use the API over HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its public part.
    pub id: TokenId,
    /// What it is for, in its maker's words.
    pub description: String,
    /// BLAKE3 of the secret, which has 256 random bits and so needs no slow hash.
    pub hash: Blake3,
    /// What it allows.
    pub role: Role,
    /// Not valid from this moment on, in log time; none means until revoked.
    pub expires_at: Option<Timestamp>,
    /// When it was made, in log time.
    pub created_at: Timestamp,
    /// Which VMs it is for; never of an admin, who sees all there is.
    #[serde(default, skip_serializing_if = "Scope::is_whole")]
    pub scope: Scope,
}

/// What an actor may do. Ordered: each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look and change VMs and templates.
    Operator,
    /// Everything, nodes and tokens too.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

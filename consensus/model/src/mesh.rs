//! The WireGuard mesh as the replicated state knows it: who has which public key. Private keys never leave the machine they
//! were made on.

use crate::{name::PeerName, time::Timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A WireGuard public key (Curve25519). Its text is that of `wg`: 44 characters of base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshKey(pub [u8; 32]);

/// A text that is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a WireGuard public key (44 characters of base64, as `wg pubkey` prints it)")]
pub struct MeshKeyError(String);

impl fmt::Display for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey({self})")
    }
}

impl FromStr for MeshKey {
    type Err = MeshKeyError;

    fn from_str(text: &str) -> Result<Self, MeshKeyError> {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| MeshKeyError(text.chars().take(80).collect()))
    }
}

impl Serialize for MeshKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { crate::bytes::serialize(&self.0, s) }
    }
}

impl<'de> Deserialize<'de> for MeshKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            String::deserialize(d)?.parse().map_err(D::Error::custom)
        } else {
            crate::bytes::deserialize(d).map(Self)
        }
    }
}

/// A node's end of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshEnd {
    /// Its public key.
    pub key: MeshKey,
    /// The UDP port it listens on, at the address where peers reach the node.
    pub port: u16,
}

/// A machine that is no node and may reach the guests: a laptop, a router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetPeer {
    /// What people call it; unique.
    pub name: PeerName,
    /// Its public key; unique among nodes and peers.
    pub key: MeshKey,
    /// Its address in the mesh; unique, out of the subnet that is kept for peers.
    pub ip: Ipv4Addr,
    /// When it was added, in log time.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_wg_writes_them() {
        let key = MeshKey([7; 32]);
        assert_eq!(key.to_string(), "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(rmp_serde::from_slice::<MeshKey>(&rmp_serde::to_vec(&key).unwrap()).unwrap(), key);
        for bad in ["", "BwcH", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBw==", "!"] {
            assert!(bad.parse::<MeshKey>().is_err(), "{bad}");
        }
    }
}

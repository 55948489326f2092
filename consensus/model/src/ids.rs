//! Identifiers. Each is a type of its own, so that a VM's id cannot stand where a node's is meant.
//!
//! Ids are minted before a command is proposed, from random bytes the caller brings; nothing here draws randomness.
//! In human-readable formats (JSON, TOML) every id is its text; in binary ones it is the number.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct IdError {
    text: String,
    expected: &'static str,
}

/// Writes the whole trait surface of an id once for each family: the inner type differs, the surface must not.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:literal, $parse:expr, $show:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name($inner);

        impl $name {
            /// The bare number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let show: fn(&$inner, &mut fmt::Formatter<'_>) -> fmt::Result = $show;
                show(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let parse: fn(&str) -> Option<$name> = $parse;
                parse(text).ok_or_else(|| IdError { text: text.to_owned(), expected: $expected })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { self.0.serialize(s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(D::Error::custom)
                } else {
                    <$inner>::deserialize(d).map(Self)
                }
            }
        }
    };
}

fn parse_hex16(text: &str) -> Option<u64> {
    let plain = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// SQLite's integers are signed: the top bit stays clear, and zero is kept for "none".
const fn positive(random: u64) -> u64 {
    let n = random & (u64::MAX >> 1);
    if n == 0 { 1 } else { n }
}

id!(
    /// A node of the cluster, for as long as it is a member; a machine that joins again gets a new one.
    NodeId(u64), "a node id (16 hex digits)", |t| parse_hex16(t).map(NodeId), |n, f| write!(f, "{n:016x}")
);
id!(
    /// A join token or an API token; the id is public, the secret is not.
    TokenId(u64), "a token id (16 hex digits)", |t| parse_hex16(t).map(TokenId), |n, f| write!(f, "{n:016x}")
);
id!(
    /// A VM. It is also the name and the UUID of its libvirt domain, so its text always begins with `ec2`:
    /// cloud-init takes a system UUID of that shape for EC2, and libvirt refuses an SMBIOS UUID that differs from the domain's.
    VmId(Uuid), "a VM id (a UUID that begins with ec2)", VmId::from_text, |u, f| write!(f, "{u}")
);
id!(
    /// A cluster. Nodes of different clusters never talk to each other.
    ClusterId(Uuid), "a cluster id (a UUID)", |t| Uuid::parse_str(t).ok().map(ClusterId), |u, f| write!(f, "{u}")
);

impl NodeId {
    /// The id of this number, as it was stored; none for a number that no id has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if positive(number) == number { Some(Self(number)) } else { None }
    }

    /// Makes an id from random bits; the top bit is dropped, zero becomes one.
    #[must_use]
    pub const fn from_random(random: u64) -> Self {
        Self(positive(random))
    }

    /// The DNS name in the node's certificate.
    #[must_use]
    pub fn dns_name(self) -> String {
        format!("{self}.node.waifud.internal")
    }
}

/// openraft's storage suite makes its nodes from small numbers. They are taken for random bits, so zero is one.
#[cfg(feature = "testing")]
impl From<u64> for NodeId {
    fn from(number: u64) -> Self {
        Self::from_random(number)
    }
}

impl TokenId {
    /// The id of this number, as it was stored; none for a number that no id has.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if positive(number) == number { Some(Self(number)) } else { None }
    }

    /// Makes an id from random bits; the top bit is dropped, zero becomes one.
    #[must_use]
    pub const fn from_random(random: u64) -> Self {
        Self(positive(random))
    }
}

impl VmId {
    /// The id of these bytes, as they were stored; none for bytes that no id has.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let id = Self::from_random(bytes);
        (*id.as_bytes() == bytes).then_some(id)
    }

    /// Makes an id from random bytes: a version 4 UUID (RFC 9562) whose first twelve bits are `ec2`.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[0] = 0xec;
        random[1] = 0x20 | (random[1] & 0x0f);
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    fn from_text(text: &str) -> Option<Self> {
        let uuid = Uuid::parse_str(text).ok()?;
        let bytes = uuid.as_bytes();
        (bytes[0] == 0xec && bytes[1] >> 4 == 2).then_some(Self(uuid))
    }

    /// The sixteen bytes, for storage in key order.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl ClusterId {
    /// Makes an id from random bytes: a version 4 UUID (RFC 9562).
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }
}

/// How often a VM's specification was changed; also the `ETag` of the API. A stale actor never overwrites a newer decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation a new record starts with.
    pub const FIRST: Self = Self(1);

    /// The one after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vm_ids_begin_with_ec2_and_are_version_4() {
        for seed in 0..=255u8 {
            let id = VmId::from_random([seed; 16]);
            let text = id.to_string();
            assert!(text.starts_with("ec2"), "{text}");
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
            assert_eq!(text.parse(), Ok(id));
        }
        assert!("11111111-1111-4111-8111-111111111111".parse::<VmId>().is_err());
        let id = VmId::from_random([9; 16]);
        assert_eq!(VmId::from_bytes(*id.as_bytes()), Some(id));
        assert_eq!(VmId::from_bytes([9; 16]), None);
    }

    #[test]
    fn node_ids_round_trip_as_text_and_number() {
        let id = NodeId::from_random(u64::MAX);
        assert_eq!(id.to_string(), "7fffffffffffffff");
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"7fffffffffffffff\"");
        assert_eq!(rmp_serde::from_slice::<NodeId>(&rmp_serde::to_vec(&id).unwrap()).unwrap(), id);
        for bad in ["", "7fff", "7FFFFFFFFFFFFFFF", "zfffffffffffffff", "+fffffffffffffff"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
        assert_eq!(NodeId::from_random(0).get(), 1);
        assert_eq!((NodeId::new(0), NodeId::new(u64::MAX), NodeId::new(id.get())), (None, None, Some(id)));
    }
}

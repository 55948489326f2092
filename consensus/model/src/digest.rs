//! Digests: what names template versions, certificates and states.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, str::FromStr};

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} digest (64 hex digits)")]
pub struct DigestError {
    text: String,
    kind: &'static str,
}

/// Three digests of 32 bytes that must never be confused; hex in text, bytes on the wire.
macro_rules! digest {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first twelve hex digits, for people.
            #[must_use]
            pub fn short(&self) -> String {
                hex::encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes)
                    .map_err(|_| DigestError { text: text.chars().take(80).collect(), kind: $kind })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { crate::bytes::serialize(&self.0, s) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(D::Error::custom)
                } else {
                    crate::bytes::deserialize(d).map(Self)
                }
            }
        }
    };
}

digest!(
    /// BLAKE3 of some bytes: the name of a template version, the digest of a state, the hash of a request body.
    Blake3, "BLAKE3"
);
digest!(
    /// SHA-256 of some bytes: what upstreams publish beside their images, and the pin of the cluster's CA.
    Sha256, "SHA-256"
);
digest!(
    /// SHA-256 of a node certificate's subject public key info (RFC 7469 pins are the same value).
    Fingerprint, "key fingerprint"
);

impl Blake3 {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip() {
        let d = Blake3::of(b"");
        assert_eq!(d.to_string(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(d.to_string().parse(), Ok(d));
        assert_eq!(rmp_serde::from_slice::<Blake3>(&rmp_serde::to_vec(&d).unwrap()).unwrap(), d);
        assert!("af13".parse::<Blake3>().is_err());
    }
}

//! Session tokens of IMDSv2, without a place to keep them.
//!
//! ```text
//!   base64url( until: seconds since 1970, 8 bytes, big endian | BLAKE3 keyed by a secret, over vm, instance-id, until: 32 bytes )
//! ```
//!
//! A token says until when it is good and proves that this service made it for this life of this VM. So asking for a million
//! of them costs nothing, and they survive a restart of waifud as long as the caller gives the same secret. They cannot be
//! revoked one by one; a new instance-id revokes all of a VM.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use blake3::Hash;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use waifud_cloudinit::Documents;

/// How long a token may be good for, in seconds (EC2 user guide, "Configure the instance metadata service").
pub(super) const TTL: std::ops::RangeInclusive<u32> = 1..=21_600;

/// Separates this key from whatever else is derived from the same secret.
const CONTEXT: &str = "waifud metadata service, IMDSv2 session tokens, version 1";

const MAC: usize = 32;
const UNTIL: usize = 8;

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    key: [u8; 32],
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Tokens that hold as long as the secret does. Whoever knows it can make tokens for any VM of this node, so it should be
    /// of this node alone and have 256 bits of randomness.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { key: blake3::derive_key(CONTEXT, secret) }
    }

    /// A token for this VM, good for `ttl` seconds from `now`.
    pub(super) fn issue(&self, guest: &Documents, ttl: u32, now: SystemTime) -> String {
        let until = seconds(now + Duration::from_secs(u64::from(ttl)));
        let mut token = [0; UNTIL + MAC];
        token[..UNTIL].copy_from_slice(&until.to_be_bytes());
        token[UNTIL..].copy_from_slice(self.mac(guest, until).as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether this is a token of this VM that is still good.
    pub(super) fn holds(&self, token: &[u8], guest: &Documents, now: SystemTime) -> bool {
        let mut bytes = [0; UNTIL + MAC];
        // Into a slice of the right size, so that a long header is not even decoded.
        if !matches!(URL_SAFE_NO_PAD.decode_slice(token, &mut bytes), Ok(length) if length == bytes.len()) {
            return false;
        }
        let (until, mac) = bytes.split_at(UNTIL);
        let (Ok(until), Ok(mac)) = (<[u8; UNTIL]>::try_from(until), <[u8; MAC]>::try_from(mac)) else { return false };
        let until = u64::from_be_bytes(until);
        // Comparing hashes takes the same time wherever they differ.
        self.mac(guest, until) == Hash::from_bytes(mac) && seconds(now) < until
    }

    fn mac(&self, guest: &Documents, until: u64) -> Hash {
        // The id has a fixed size and the time comes last, so nothing can move from one field to the next.
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(guest.vm().as_bytes());
        hasher.update(guest.instance_id().as_str().as_bytes());
        hasher.update(&until.to_be_bytes());
        hasher.finalize()
    }
}

/// A clock before 1970 makes no token good for longer.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

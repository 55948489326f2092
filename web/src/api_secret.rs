//! The text of an API token: what a client shows, and what nobody stores.
//!
//! `waifu_<id>_<secret>`: the id says which record to look at, the secret is 256 random bits in hex. Only its BLAKE3
//! is kept in the cluster. The fixed beginning lets secret scanners find tokens that were committed by mistake.

use std::{fmt, str::FromStr};
use waifud_model::{digest::Blake3, ids::TokenId};

/// An API token with its secret. Its `Debug` form does not show the secret; its `Display` form does.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiSecret {
    id: TokenId,
    secret: [u8; 32],
}

/// A text that is not an API token. It is not repeated: it may be one with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API token (waifu_<16 hex digits>_<64 hex digits>)")]
pub(crate) struct ApiSecretError;

impl ApiSecret {
    /// Puts a token together from its id and 32 fresh random bytes.
    #[must_use]
    pub(crate) const fn new(id: TokenId, secret: [u8; 32]) -> Self {
        Self { id, secret }
    }

    /// Its public part.
    #[must_use]
    pub(crate) const fn id(&self) -> TokenId {
        self.id
    }

    /// What the cluster keeps of the secret.
    #[must_use]
    pub(crate) fn hash(&self) -> Blake3 {
        Blake3::of(&self.secret)
    }
}

impl fmt::Display for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waifu_{}_", self.id)?;
        self.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiSecret").field("id", &self.id).finish_non_exhaustive()
    }
}

impl FromStr for ApiSecret {
    type Err = ApiSecretError;

    fn from_str(text: &str) -> Result<Self, ApiSecretError> {
        let (id, secret) = text.strip_prefix("waifu_").and_then(|rest| rest.split_once('_')).ok_or(ApiSecretError)?;
        // The hex digits of a secret are those of a digest; reading them is the same.
        let Blake3(secret) = secret.parse().map_err(|_| ApiSecretError)?;
        Ok(Self { id: id.parse().map_err(|_| ApiSecretError)?, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide_their_secret() {
        let token = ApiSecret::new(TokenId::from_random(7), [0xab; 32]);
        let text = token.to_string();
        assert_eq!(text, format!("waifu_0000000000000007_{}", "ab".repeat(32)));
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("abab"));
        for bad in ["", "waifu_", "waifu_0000000000000007_ab", &text[1..], &text[..text.len() - 1]] {
            assert_eq!(bad.parse::<ApiSecret>(), Err(ApiSecretError), "{bad}");
        }
    }
}

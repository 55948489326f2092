//! The text of a join token: what a person carries from a member to a new machine.
//!
//! `waifu1` and then base64url of: cluster id, CA pin, token id, secret, addresses, checksum. Whoever holds it may join;
//! it is never logged. What the cluster keeps of it is [`waifud_model::token::JoinToken`], with the derived key only.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, str::FromStr};
use waifud_model::{
    digest::Sha256,
    ids::{ClusterId, TokenId},
};

/// What every token of this version begins with: a person who finds one knows where it belongs.
const PREFIX: &str = "waifu1";
/// What tokens of any version begin with.
const FAMILY: &str = "waifu";
/// BLAKE3, cut: one mistyped token in four thousand million is not named as such, and then refused by its secret.
const CHECKSUM_LEN: usize = 4;
/// Bytes of the secret: 128 bits that can only be tried online.
pub const SECRET_LEN: usize = 16;
/// Most addresses in one token: enough to find a member that is up, short enough to copy.
pub const ADDRESSES_MAX: usize = 5;

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("this is not a join token; one begins with {PREFIX:?} and is made by `waifuctl cluster token create`")]
    NotAToken,
    /// A version this build does not know.
    #[error("this join token was made by another version of waifud; install the cluster's version here")]
    OtherVersion,
    /// Letters were lost or changed on the way.
    #[error("this join token is incomplete or mistyped; copy the whole of it again")]
    Mistyped,
    /// Too few or too many addresses.
    #[error("a join token holds 1 to {ADDRESSES_MAX} addresses, not {0}")]
    Addresses(usize),
}

/// A join token, read.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken(Content);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    cluster: ClusterId,
    ca_pin: Sha256,
    id: TokenId,
    secret: [u8; SECRET_LEN],
    addresses: Vec<SocketAddr>,
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.0.cluster)
            .field("id", &self.0.id)
            .field("addresses", &self.0.addresses)
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// Puts a token together; `secret` is fresh randomness.
    ///
    /// # Errors
    /// No addresses, or more than [`ADDRESSES_MAX`].
    pub fn new(
        cluster: ClusterId,
        ca_pin: Sha256,
        id: TokenId,
        secret: [u8; SECRET_LEN],
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, TokenError> {
        let content = Content { cluster, ca_pin, id, secret, addresses };
        content.check().map(Self)
    }

    /// The text for people. It holds the secret: show it once, log it never.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Serializing plain values into memory does not fail; an empty token would be refused as mistyped.
        let mut bytes = postcard::to_stdvec(&self.0).unwrap_or_default();
        bytes.extend_from_slice(&checksum(&bytes));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The cluster it lets into.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }

    /// SHA-256 of the cluster's CA certificate.
    #[must_use]
    pub fn ca_pin(&self) -> Sha256 {
        self.0.ca_pin
    }

    /// Its public part.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.0.id
    }

    /// Where members were when it was made.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.0.addresses
    }

    /// What the cluster keeps in place of the secret.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        token_key(&self.0.secret)
    }
}

/// The key that is kept for a token with this secret.
#[must_use]
pub fn token_key(secret: &[u8; SECRET_LEN]) -> [u8; 32] {
    blake3::derive_key("waifud 2026 join token v1", secret)
}

impl Content {
    fn check(self) -> Result<Self, TokenError> {
        match self.addresses.len() {
            1..=ADDRESSES_MAX => Ok(self),
            count => Err(TokenError::Addresses(count)),
        }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Reads a token; white space anywhere is left out, because terminals and mails break long lines.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text: String = text.split_whitespace().collect();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let version = text.strip_prefix(FAMILY).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if version { TokenError::OtherVersion } else { TokenError::NotAToken });
        };
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Mistyped)?;
        let (content, sum) =
            bytes.len().checked_sub(CHECKSUM_LEN).map(|at| bytes.split_at(at)).ok_or(TokenError::Mistyped)?;
        if sum != checksum(content) {
            return Err(TokenError::Mistyped);
        }
        let (content, rest) = postcard::take_from_bytes::<Content>(content).map_err(|_| TokenError::Mistyped)?;
        if rest.is_empty() { content.check().map(Self) } else { Err(TokenError::Mistyped) }
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&blake3::hash(content).as_bytes()[..CHECKSUM_LEN]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(addresses: usize) -> Result<JoinToken, TokenError> {
        let addresses = (0..addresses).map(|n| ([10, 0, 0, n as u8], 7400).into()).collect();
        let id = TokenId::from_random(9);
        JoinToken::new(ClusterId::from_random([1; 16]), Sha256([2; 32]), id, [3; SECRET_LEN], addresses)
    }

    #[test]
    fn a_token_reads_back_also_with_line_breaks() {
        let token = token(ADDRESSES_MAX).unwrap();
        let text = token.to_text();
        assert!(text.starts_with("waifu1") && text.len() < 200, "{text}");
        assert_eq!(text.parse(), Ok(token.clone()));
        let (head, tail) = text.split_at(70);
        assert_eq!(format!("  {head}\r\n  {tail}\n").parse(), Ok(token));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let text = token(1).unwrap().to_text();
        assert_eq!("hunter2".parse::<JoinToken>(), Err(TokenError::NotAToken));
        assert_eq!("".parse::<JoinToken>(), Err(TokenError::NotAToken));
        assert_eq!(text.replacen("waifu1", "waifu2", 1).parse::<JoinToken>(), Err(TokenError::OtherVersion));
        assert_eq!(text[..text.len() - 1].parse::<JoinToken>(), Err(TokenError::Mistyped));
        assert_eq!(PREFIX.parse::<JoinToken>(), Err(TokenError::Mistyped));
        assert_eq!(token(0), Err(TokenError::Addresses(0)));
        assert_eq!(token(6), Err(TokenError::Addresses(6)));
    }

    #[test]
    fn the_secret_does_not_leak_into_debug_output_and_the_key_is_derived() {
        let token = token(1).unwrap();
        assert!(!format!("{token:?}").contains('3'), "{token:?}");
        assert_eq!(token.key(), token_key(&[3; SECRET_LEN]));
        assert_ne!(token.key()[..SECRET_LEN], [3; SECRET_LEN]);
    }

    proptest! {
        #[test]
        fn one_changed_letter_is_noticed(at in 6usize..150, to in proptest::char::range('A', 'Z')) {
            let text = token(5).unwrap().to_text();
            let at = at.min(text.len() - 2);
            let mut changed: Vec<char> = text.chars().collect();
            prop_assume!(changed[at] != to);
            changed[at] = to;
            prop_assert_eq!(changed.into_iter().collect::<String>().parse::<JoinToken>(), Err(TokenError::Mistyped));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("waifu1{text}").parse::<JoinToken>();
        }
    }
}

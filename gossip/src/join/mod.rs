//! Becoming a member: a machine with a token meets any member and leaves with an identity.
//!
//! ```text
//!   joiner                                             member
//!     │── TLS, ALPN waifud-join/1: CA pinned, no client certificate ──>│
//!     │── token id, HMAC(key, session ‖ request), request ────────────>│ JoinDesk::token_key, check
//!     │                                                                │ JoinDesk::prepare: id and CA
//!     │                                                                │ sign
//!     │                                                                │ JoinDesk::admit: commit AddNode
//!     │<── HMAC(key, session ‖ welcome), welcome ──────────────────────│
//! ```
//!
//! Both sides prove that they know the token's key, over this TLS session: a former member, who still has the CA's key
//! and could pass for a member, learns nothing and can promise nothing. The member signs a public key under names of
//! its own choice and commits last, so that a join that fails before leaves nothing behind. When only the answer is
//! lost, the joiner comes again with the same key, to any member, and becomes the same node.

mod desk;
mod pinned;
mod proof;
mod redeem;
mod token;
mod wire;

pub use desk::{Admission, Applicant, JoinDesk, JoinRefusal, Prepared};
pub use redeem::{AttemptError, JoinError, Joined, Newcomer, redeem};
pub use token::{ADDRESSES_MAX, JoinToken, SECRET_LEN, TokenError, token_key};

pub(crate) use desk::serve;

#[cfg(test)]
mod tests;

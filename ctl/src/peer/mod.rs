//! What a machine that is no node needs to reach the guests: a key pair, made here, and a WireGuard configuration.
//!
//! In: the network as the API tells it. Out: texts. The private key is in nothing but the configuration, which the user gets and
//! nobody else: it is never sent, logged, or shown by `Debug`.

mod keys;
mod qr;
mod wg_quick;

pub(crate) use keys::PrivateKey;
pub(crate) use qr::code;
pub(crate) use wg_quick::{WgQuick, without_comments};

#[cfg(test)]
pub(crate) use wg_quick::tests;

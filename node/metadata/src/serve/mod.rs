//! The HTTP of the metadata service: what a guest asks for, looked up among its own documents.
//!
//! ```text
//!   Listener ──> run ──> router ──> Buckets ──> Guests::by_address(the accepted socket's remote address)
//!                                   too many      │ none: 404 for everything
//!                                   asked: 429    └─ Documents ──> token? ──┬─> nocloud, ec2, openstack
//!                                                                     POST: └─> told ──> Guests::cloud_init_done
//! ```
//!
//! Who asks is the remote end of the accepted socket. No header, no Host and no path has a say in it. Nothing is created by
//! asking: tokens of IMDSv2 are not stored, they are sums over whose they are and until when.
//!
//! A VM that takes IMDSv2 only has nothing but EC2's documents, all of them behind a token: NoCloud and OpenStack have no
//! tokens, so what a server in the guest can be tricked into fetching would be found there.

mod answer;
mod bucket;
mod connections;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod told;

use async_trait::async_trait;
use std::{net::Ipv4Addr, sync::Arc};
use waifud_cloudinit::Documents;

pub use answer::{Service, router};
pub use bucket::Rate;
pub use connections::run;
pub use token::Tokens;

/// The VMs that may ask here: those whose taps are on this node's bridge.
#[async_trait]
pub trait Guests: Send + Sync + 'static {
    /// The documents of the VM with this address; none if no VM of this node has it. Asked for every request, so it should
    /// answer from memory; it is given two seconds.
    ///
    /// # Errors
    /// If that cannot be known now. The guest is told to try again.
    async fn by_address(&self, address: Ipv4Addr) -> Result<Option<Arc<Documents>>, GuestsError>;

    /// The VM with this address has asked for something, so it runs and has its address. Must not wait.
    fn asked(&self, address: Ipv4Addr);

    /// The guest of these documents tells that its cloud-init is done, in the life that they are for. It may tell so again
    /// and again.
    ///
    /// # Errors
    /// If that cannot be noted now. The guest is told to try again.
    async fn cloud_init_done(&self, documents: &Documents) -> Result<(), GuestsError>;
}

/// A guest cannot be looked up now, or nothing noted of it.
#[derive(Debug, thiserror::Error)]
#[error("the node cannot tell or note it now")]
pub struct GuestsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

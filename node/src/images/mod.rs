//! The bytes of template versions, immutable and named by their BLAKE3. In: uploads, downloads and the blocks of peers;
//! out: a read-only file that volumes are made from, and blocks for peers.
//!
//! Nothing unverified ever gets a name here: a file is called by its digest only after every byte of it was checked
//! against that digest, and looked at by `inspect`. What stands under such a name is never written to again.
//!
//! ```text
//!   upload ───┐
//!   download ─┴─> import (hash, inspect) ─┐
//!                                         ├─> store: <blake3>.qcow2|raw|iso + outboard ──> Volumes
//!   peers ──────> fetch (verify) ─────────┘            └──> serve_blocks ──> peers
//! ```

mod address;
mod detect;
mod download;
mod error;
pub mod fake;
mod fetch;
mod import;
mod inspect;
mod layout;
mod peers;
mod progress;
pub(crate) mod qcow2;
pub mod qemu_img;
mod refusal;
mod serve;
mod store;
mod tree;
mod wire;

pub use address::AddressPolicy;
pub use download::{DownloadError, DownloadSettings};
pub use error::ImageError;
pub use fetch::{FetchError, Patience, PeerFault, PeerFaults};
pub use import::{Expected, ImportedImage, Limits};
pub use peers::{ImagePeers, NoPeers, PeerReader, PeerWriter};
pub use progress::Progress;
pub use refusal::Refusal;
pub use store::{Store, StoreSettings};

pub(crate) use refusal::LookError;

use async_trait::async_trait;
use std::{fmt::Debug, path::PathBuf};
use waifud_model::{digest::Blake3, template::TemplateVersion};

/// Keeps the images this node has, and gets those it has not.
#[async_trait]
pub trait ImageStore: Send + Sync + Debug {
    /// The file of a version: at once if it is here, otherwise after it was fetched from peers. Every byte was verified.
    ///
    /// # Errors
    /// If no peer has it or none gives it truthfully, or there is no room for it. What was fetched so far is kept, and the
    /// next call goes on from there.
    async fn ensure(&self, version: &TemplateVersion) -> Result<PathBuf, ImageError>;

    /// Is the version here, whole and verified?
    async fn present(&self, version: Blake3) -> bool;
}

//! Templates: named series of immutable image versions.

use crate::{
    digest::{Blake3, Sha256},
    ids::NodeId,
    name::TemplateName,
    size::ByteSize,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

/// One immutable version of a template. The same bytes may be a version of several templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateVersion {
    /// The template this is a version of.
    pub template: TemplateName,
    /// BLAKE3 of the stored bytes: its name.
    pub version: Blake3,
    /// SHA-256 of the same bytes: what upstreams publish.
    pub sha256: Sha256,
    /// Bytes stored.
    pub size: ByteSize,
    /// Size of the disk a guest sees: no VM's disk may be smaller.
    pub virtual_size: ByteSize,
    /// How the bytes are to be read.
    pub format: ImageFormat,
    /// Where the bytes came from.
    pub source: Source,
    /// The node that brought it in, and so the first that has it.
    pub origin: NodeId,
    /// When it was added, in log time; the newest version is the one a name stands for.
    pub added_at: Timestamp,
}

impl TemplateVersion {
    /// The smallest root disk of a VM made from it: a disk is copied whole, an installer is not copied at all.
    #[must_use]
    pub fn least_disk(&self) -> ByteSize {
        match self.format {
            ImageFormat::Qcow2 | ImageFormat::Raw => self.virtual_size,
            ImageFormat::Iso => ByteSize::ZERO,
        }
    }
}

/// How an image's bytes are to be read. Decided by looking at them, never by a file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// QEMU's copy-on-write format, without backing file or external data file.
    Qcow2,
    /// The disk's bytes themselves.
    Raw,
    /// A CD or DVD (ISO 9660): an installer. A VM made from it gets an empty disk, and this in its drive.
    Iso,
}

/// Where a version's bytes came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Sent by a client.
    Upload,
    /// Downloaded from here.
    Url(String),
}

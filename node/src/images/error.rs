//! What can go wrong with images, for whoever stands outside of this room.

use super::{download::DownloadError, fetch::FetchError, qemu_img::ToolError, refusal::Refusal};
use std::{io, path::PathBuf};
use waifud_model::{
    digest::{Blake3, Sha256},
    size::ByteSize,
};

/// Why an image could not be taken in, found or handed on.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The bytes are not an image that may be used.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The bytes are others than were promised.
    #[error("the file's SHA-256 is {found}, not {expected}")]
    Sha256 {
        /// What was promised.
        expected: Sha256,
        /// What came.
        found: Sha256,
    },
    /// More bytes than are taken.
    #[error("the file has more than {max}, the most that is taken ([images] max_size)")]
    TooLarge {
        /// The limit.
        max: ByteSize,
    },
    /// The disk is full, or would be.
    #[error("there is no room for the image in {dir}: {needed} are needed, {free} are free", dir = dir.display())]
    NoSpace {
        /// Where it should go.
        dir: PathBuf,
        /// How much it needs; what had come when the disk was full, if nobody told.
        needed: ByteSize,
        /// How much is left.
        free: ByteSize,
    },
    /// Whoever sent the bytes stopped before the end.
    #[error("the upload broke off")]
    Upload {
        /// Why.
        source: io::Error,
    },
    /// It could not be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// It could not be fetched from peers.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What the disk gave back is not what was written to it.
    #[error("{path} does not read back as what was written ({expected}); the disk may be failing", path = path.display())]
    Misread {
        /// The file.
        path: PathBuf,
        /// The digest of what was written.
        expected: Blake3,
    },
    /// `qemu-img` could not do it.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The file system refused.
    #[error("cannot {doing} {path}", path = path.display())]
    Io {
        /// What was tried: "create", "rename", "read".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ImageError {
    /// For `map_err`: what was tried, on what.
    pub(super) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

//! What can go wrong with images, for whoever stands outside of this room.

use super::qemu_img::ToolError;
use std::{io, path::PathBuf};

/// Why an image could not be taken in, found or handed on.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
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

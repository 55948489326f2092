//! How far a transfer is.

use waifud_model::size::ByteSize;

/// Bytes of one image on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// How many are here.
    pub done: ByteSize,
    /// How many there are in all, where that is known.
    pub total: Option<ByteSize>,
}

//! What keeps a command from being applied: a reject, which every node comes to alike, or a halt of this node alone.

use super::read::ReadError;
use rusqlite::ErrorCode;
use waifud_model::reject::Reject;

/// This node cannot go on applying. Skipping the command would make its state differ from the others' without a word.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The state cannot be read.
    #[error("the state cannot be read")]
    Read(#[from] ReadError),
    /// The state cannot be written: the disk is full or fails, or the file is damaged.
    #[error("the state cannot be written")]
    Write(#[source] rusqlite::Error),
    /// A record cannot be encoded.
    #[error("a record cannot be encoded")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The cluster has moved on to what this build does not know.
    #[error("the cluster is at feature level {wanted}, this build knows {known}: it must be upgraded")]
    TooOld {
        /// The level of the cluster.
        wanted: u32,
        /// The highest level of this build.
        known: u32,
    },
    /// The caller gave an index that SQLite cannot hold.
    #[error("{0} is not an index of the log")]
    Index(u64),
}

/// Why a command's work ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The command is refused.
    Reject(Reject),
    /// This node cannot go on.
    Halt(Halt),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Self::Reject(reject)
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(halt)
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Halt(error.into())
    }
}

impl From<rmp_serde::encode::Error> for Stop {
    fn from(error: rmp_serde::encode::Error) -> Self {
        Self::Halt(error.into())
    }
}

impl From<rusqlite::Error> for Stop {
    /// A constraint holds on every node alike, so its violation is a reject; anything else is this node's own trouble.
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(code, message) if code.code == ErrorCode::ConstraintViolation => {
                Self::Reject(Reject::Constraint(message.clone().unwrap_or_else(|| code.to_string())))
            }
            _ => Self::Halt(Halt::Write(error)),
        }
    }
}

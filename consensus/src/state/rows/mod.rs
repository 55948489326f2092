//! Records as rows: how each record of the model is spread over its table's columns, and put together again.
//!
//! What is unique, counted, ordered or joined has a column; the rest is one MessagePack map in `more`, so that a field
//! can be added without touching the table. Nothing is kept twice but a node's sums over its VMs, and the digests and sizes
//! of their documents. No rule of the cluster belongs here.

pub(super) mod cloud_defaults;
pub(super) mod cluster;
pub(super) mod net_peer;
pub(super) mod node;
pub(super) mod template;
pub(super) mod token;
pub(super) mod vm;

use super::{
    read::{OutOfRange, ReadError, corrupt},
    stop::Stop,
};
use rusqlite::{Row, types::FromSql};
use serde::de::DeserializeOwned;
use std::str::FromStr;
use waifud_model::{
    cloud_init::UserData,
    command::Origin,
    event::EventKind,
    reject::Reject,
    size::ByteSize,
    template::ImageFormat,
    time::Timestamp,
    token::Role,
    vm::{Desired, Phase},
};

/// The cells of one row, taken from left to right.
pub(super) struct Cells<'a> {
    row: &'a Row<'a>,
    table: &'static str,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(super) fn of(table: &'static str, row: &'a Row<'a>) -> Self {
        Self { row, table, next: 0 }
    }

    fn step(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// The next cell as it is.
    pub(super) fn plain<T: FromSql>(&mut self) -> Result<T, ReadError> {
        let at = self.step();
        Ok(self.row.get(at)?)
    }

    /// The next cell, which is never negative.
    pub(super) fn unsigned(&mut self) -> Result<u64, ReadError> {
        let number: i64 = self.plain()?;
        u64::try_from(number).map_err(corrupt(self.table))
    }

    /// The next cell, a number of bytes.
    pub(super) fn size(&mut self) -> Result<ByteSize, ReadError> {
        self.unsigned().map(ByteSize::bytes)
    }

    /// The next cell, a moment.
    pub(super) fn time(&mut self) -> Result<Timestamp, ReadError> {
        self.unsigned().map(Timestamp)
    }

    /// The next cell, a number that stands for something; `None` says that this one does not.
    pub(super) fn id<T>(&mut self, what: &'static str, new: impl Fn(u64) -> Option<T>) -> Result<T, ReadError> {
        let number = self.unsigned()?;
        self.known(what, new(number))
    }

    /// The next cell, a text of the model.
    pub(super) fn parsed<T>(&mut self) -> Result<T, ReadError>
    where
        T: FromStr,
        T::Err: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str().map_err(corrupt(self.table))?;
        text.parse().map_err(corrupt(self.table))
    }

    /// The next cell, one of a few words.
    pub(super) fn word<T: Word>(&mut self) -> Result<T, ReadError> {
        let at = self.step();
        let text = self.row.get_ref(at)?.as_str().map_err(corrupt(self.table))?;
        self.known("word", T::ALL.iter().copied().find(|value| value.word() == text))
    }

    /// The next cell, a MessagePack value.
    pub(super) fn packed<T: DeserializeOwned>(&mut self) -> Result<T, ReadError> {
        let at = self.step();
        let bytes = self.row.get_ref(at)?.as_blob().map_err(corrupt(self.table))?;
        rmp_serde::from_slice(bytes).map_err(corrupt(self.table))
    }

    /// The next cell, a MessagePack value or nothing.
    pub(super) fn packed_or_none<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReadError> {
        let bytes: Option<Vec<u8>> = self.plain()?;
        bytes.map(|bytes| rmp_serde::from_slice(&bytes)).transpose().map_err(corrupt(self.table))
    }

    /// What was made of a cell, if anything could be.
    pub(super) fn known<T>(&self, what: &'static str, value: Option<T>) -> Result<T, ReadError> {
        value.ok_or_else(|| corrupt(self.table)(OutOfRange { what }))
    }
}

/// A closed choice that is kept as a word, so that the file can be read by people and checked by SQLite.
pub(super) trait Word: Copy + 'static {
    /// All there are.
    const ALL: &'static [Self];

    /// How it is written.
    fn word(self) -> &'static str;
}

impl Word for Desired {
    const ALL: &'static [Self] = &[Self::Running, Self::Stopped, Self::Paused];

    fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

impl Word for Phase {
    const ALL: &'static [Self] = &[Self::Live, Self::Deleting];

    fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Deleting => "deleting",
        }
    }
}

impl Word for ImageFormat {
    const ALL: &'static [Self] = &[Self::Qcow2, Self::Raw, Self::Iso];

    fn word(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Iso => "iso",
        }
    }
}

impl Word for Role {
    const ALL: &'static [Self] = &[Self::Viewer, Self::Operator, Self::Admin];

    fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl Word for EventKind {
    const ALL: &'static [Self] = &[
        Self::Created,
        Self::Changed,
        Self::Deleting,
        Self::Deleted,
        Self::Started,
        Self::Stopped,
        Self::Crashed,
        Self::Failed,
        Self::Opened,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
            Self::Opened => "opened",
        }
    }
}

impl Word for Origin {
    const ALL: &'static [Self] = &[Self::Client, Self::Internal];

    fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Internal => "internal",
        }
    }
}

/// The next cell, a document for cloud-init, if there is one.
fn document(cells: &mut Cells<'_>) -> Result<Option<UserData>, ReadError> {
    let bytes: Option<Vec<u8>> = cells.plain()?;
    bytes.map(UserData::new).transpose().map_err(corrupt(cells.table))
}

/// A number for a column. SQLite's are signed; the few that do not fit are refused, never bent.
pub(super) fn number(field: &str, value: u64) -> Result<i64, Stop> {
    i64::try_from(value).map_err(|_| {
        Stop::Reject(Reject::BadSpec { field: field.to_owned(), why: format!("{value} is more than can be kept") })
    })
}

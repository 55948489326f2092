//! Entries and notes as rows, each with a checksum that is verified whenever it is read.

use crate::{
    database::DatabaseError,
    raft::{
        stored::{self, Members},
        types::{Entry, LeaderId, LogId, Logged, Membership},
    },
};
use openraft::{EntryPayload, entry::RaftEntry, vote::RaftLeaderId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use std::ops::Range;
use waifud_model::ids::NodeId;

/// A note in `log.db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The last vote.
    Vote,
    /// The last entry that was purged.
    Purged,
}

impl Note {
    const fn key(self) -> &'static str {
        match self {
            Self::Vote => "vote",
            Self::Purged => "purged",
        }
    }
}

/// An entry, ready to be written: encoding can fail, and must do so before anything is queued.
#[derive(Debug)]
pub(super) struct EntryRow {
    index: i64,
    term: i64,
    leader: i64,
    kind: i64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Command(Logged),
    Other(Vec<u8>),
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Command(logged) => logged.bytes(),
            Self::Other(bytes) => bytes,
        }
    }
}

const BLANK: i64 = 0;
const COMMAND: i64 = 1;
const MEMBERSHIP: i64 = 2;

impl EntryRow {
    pub(super) fn new(entry: &Entry) -> Result<Self, DatabaseError> {
        let id = entry.log_id();
        let (kind, body) = match &entry.payload {
            EntryPayload::Blank => (BLANK, Body::Other(Vec::new())),
            EntryPayload::Normal(logged) => (COMMAND, Body::Command(logged.clone())),
            EntryPayload::Membership(membership) => (MEMBERSHIP, Body::Other(encode(&Members::from(membership))?)),
        };
        let leader = id.committed_leader_id();
        Ok(Self {
            index: integer(id.index())?,
            term: integer(leader.term)?,
            leader: integer(leader.node_id.get())?,
            kind,
            body,
        })
    }

    /// Writes the row, over one of the same index if a crash left it there.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> Result<(), DatabaseError> {
        let body = self.body.bytes();
        tx.prepare_cached(
            "INSERT OR REPLACE INTO entries (idx, term, leader, kind, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut insert| {
            let sum = entry_sum([self.index, self.term, self.leader, self.kind], body);
            insert.execute(params![self.index, self.term, self.leader, self.kind, body, sum])
        })
        .map(drop)
        .map_err(DatabaseError::sqlite("append to the log"))
    }
}

/// Reads the entries of a range of indexes, in order.
pub(super) fn read(db: &Connection, range: &Range<u64>) -> Result<Vec<Entry>, DatabaseError> {
    let doing = "read the log";
    let (from, to) = (integer(range.start)?, integer(range.end)?);
    let mut select = db
        .prepare_cached(
            "SELECT idx, term, leader, kind, body, sum FROM entries WHERE idx >= ?1 AND idx < ?2 ORDER BY idx",
        )
        .map_err(DatabaseError::sqlite(doing))?;
    let mut rows = select.query(params![from, to]).map_err(DatabaseError::sqlite(doing))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(DatabaseError::sqlite(doing))? {
        entries.push(entry(row)?);
    }
    Ok(entries)
}

/// The first entry and the last, if there are any.
pub(super) fn ends(db: &Connection) -> Result<Option<(LogId, LogId)>, DatabaseError> {
    let doing = "find the ends of the log";
    let ends = db
        .query_row("SELECT min(idx), max(idx) FROM entries", [], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })
        .map_err(DatabaseError::sqlite(doing))?;
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    let id = |index: i64| {
        let index = natural(index)?;
        let found = read(db, &(index..index + 1))?;
        found.first().map(RaftEntry::log_id).ok_or_else(|| DatabaseError::Corrupt(format!("log entry {index} is gone")))
    };
    Ok(Some((id(first)?, id(last)?)))
}

/// Removes all entries from `index` on.
pub(super) fn truncate(tx: &Transaction<'_>, index: u64) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM entries WHERE idx >= ?1", [integer(index)?])
        .map(drop)
        .map_err(DatabaseError::sqlite("truncate the log"))
}

/// Removes all entries up to `index`, and that one.
pub(super) fn purge(tx: &Transaction<'_>, index: u64) -> Result<(), DatabaseError> {
    tx.execute("DELETE FROM entries WHERE idx <= ?1", [integer(index)?])
        .map(drop)
        .map_err(DatabaseError::sqlite("purge the log"))
}

/// Writes a note over the one before.
pub(super) fn put<T: Serialize>(tx: &Transaction<'_>, note: Note, value: &T) -> Result<(), DatabaseError> {
    let value = encode(value)?;
    tx.prepare_cached("INSERT OR REPLACE INTO notes (key, value, sum) VALUES (?1, ?2, ?3)")
        .and_then(|mut insert| insert.execute(params![note.key(), value, note_sum(note, &value)]))
        .map(drop)
        .map_err(DatabaseError::sqlite("write a note of the log"))
}

/// Reads a note.
pub(super) fn get<T: DeserializeOwned>(db: &Connection, note: Note) -> Result<Option<T>, DatabaseError> {
    let found: Option<(Vec<u8>, [u8; 8])> = db
        .query_row("SELECT value, sum FROM notes WHERE key = ?1", [note.key()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(DatabaseError::sqlite("read a note of the log"))?;
    let Some((value, sum)) = found else { return Ok(None) };
    if sum != note_sum(note, &value) {
        return Err(DatabaseError::Corrupt(format!("the log's {} does not match its checksum", note.key())));
    }
    decode(&value, note.key()).map(Some)
}

fn entry(row: &Row<'_>) -> Result<Entry, DatabaseError> {
    let doing = "read an entry of the log";
    let number = |column: usize| row.get::<_, i64>(column).map_err(DatabaseError::sqlite(doing));
    let (index, term, leader, kind) = (number(0)?, number(1)?, number(2)?, number(3)?);
    let body: Vec<u8> = row.get(4).map_err(DatabaseError::sqlite(doing))?;
    let sum: [u8; 8] = row.get(5).map_err(DatabaseError::sqlite(doing))?;
    if sum != entry_sum([index, term, leader, kind], &body) {
        return Err(DatabaseError::Corrupt(format!("log entry {index} does not match its checksum")));
    }
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Logged::from(body)),
        MEMBERSHIP => EntryPayload::Membership(Membership::from(decode::<Members>(&body, "membership")?)),
        other => return Err(DatabaseError::Corrupt(format!("log entry {index} is of kind {other}"))),
    };
    let leader = NodeId::new(natural(leader)?)
        .ok_or_else(|| DatabaseError::Corrupt(format!("log entry {index} has no leader")))?;
    Ok(Entry { log_id: LogId::new(LeaderId::new(natural(term)?, leader), natural(index)?), payload })
}

fn entry_sum(numbers: [i64; 4], body: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    shorten(hasher.update(body))
}

fn note_sum(note: Note, value: &[u8]) -> [u8; 8] {
    shorten(blake3::Hasher::new().update(note.key().as_bytes()).update(&[0]).update(value))
}

/// Eight bytes are enough against bits that flip by themselves; nobody forges what is on our own disk.
fn shorten(hasher: &blake3::Hasher) -> [u8; 8] {
    let mut sum = [0; 8];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, DatabaseError> {
    stored::encode(value).map_err(|error| DatabaseError::Corrupt(format!("cannot be encoded: {error}")))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, DatabaseError> {
    stored::decode(bytes).map_err(|error| DatabaseError::Corrupt(format!("the log's {what} does not read: {error}")))
}

/// SQLite's integers are signed.
fn integer(number: u64) -> Result<i64, DatabaseError> {
    i64::try_from(number).map_err(|_| DatabaseError::Corrupt(format!("{number} is beyond what the log can count")))
}

fn natural(number: i64) -> Result<u64, DatabaseError> {
    u64::try_from(number).map_err(|_| DatabaseError::Corrupt(format!("{number} is less than nothing")))
}

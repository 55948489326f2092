//! Events: what commands leave behind for people, in the order of the log. Written by apply only; no secret ever enters one.

use super::{
    read::ReadError,
    rows::{Cells, number},
    stop::Stop,
};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use waifud_model::{
    command::Actor,
    digest::Blake3,
    event::{Change, Event, EventKind, Subject},
    ids::{NodeId, TokenId, VmId},
    labels::Labels,
    name::{PeerName, TemplateName},
    time::Timestamp,
};

/// How many events are kept; the oldest go first. About 60 MB, years of a small cluster's life, weeks of a large one's.
const KEPT: i64 = 200_000;

/// Values longer than this appear as digest and size: an event is a line, not a document.
const VALUE_MAX: usize = 256;

pub(super) const COLUMNS: &str = "\"index\", seq, at, body";

/// Which object events are about, by what never changes about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKey {
    /// The cluster as a whole.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A VM.
    Vm(VmId),
    /// A template.
    Template(TemplateName),
    /// A join or API token.
    Token(TokenId),
    /// A machine that is no node and may reach the guests.
    Peer(PeerName),
}

impl Display for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::Vm(id) => write!(f, "vm:{id}"),
            Self::Template(name) => write!(f, "template:{name}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Peer(name) => write!(f, "peer:{name}"),
        }
    }
}

impl From<&Subject> for SubjectKey {
    fn from(subject: &Subject) -> Self {
        match subject {
            Subject::Cluster => Self::Cluster,
            Subject::Node(id, _) => Self::Node(*id),
            Subject::Vm(id, _) => Self::Vm(*id),
            Subject::Template(name) => Self::Template(name.clone()),
            Subject::Token(id) => Self::Token(*id),
            Subject::Peer(name) => Self::Peer(name.clone()),
        }
    }
}

/// What of an event has no column.
#[derive(Serialize, Deserialize)]
struct Body<A, S, C> {
    actor: A,
    subject: S,
    kind: EventKind,
    changes: C,
}

pub(super) fn read(row: &Row<'_>) -> Result<Event, ReadError> {
    let mut cells = Cells::of("events", row);
    let (index, seq, at) = (cells.unsigned()?, cells.plain()?, cells.time()?);
    let Body { actor, subject, kind, changes } = cells.packed::<Body<Actor, Subject, Vec<Change>>>()?;
    Ok(Event { index, seq, at, actor, subject, kind, changes })
}

/// Writes the events of one command.
#[derive(Debug)]
pub(super) struct Trail<'a> {
    db: &'a Connection,
    index: i64,
    at: Timestamp,
    actor: &'a Actor,
    seq: u32,
}

impl<'a> Trail<'a> {
    pub(super) fn new(db: &'a Connection, index: i64, at: Timestamp, actor: &'a Actor) -> Self {
        Self { db, index, at, actor, seq: 0 }
    }

    /// One more event of this command.
    pub(super) fn add(&mut self, subject: Subject, kind: EventKind, changes: Changes) -> Result<(), Stop> {
        let key = SubjectKey::from(&subject).to_string();
        let body = Body { actor: self.actor, subject, kind, changes: changes.0 };
        self.db
            .prepare_cached(
                "INSERT INTO events (number, \"index\", seq, at, subject, body)
                 VALUES ((SELECT coalesce(max(number), 0) + 1 FROM events), ?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![self.index, self.seq, number("at", self.at.0)?, key, rmp_serde::to_vec_named(&body)?,])?;
        self.seq += 1;
        Ok(())
    }

    /// Drops the oldest events beyond the bound.
    pub(super) fn trim(&self) -> Result<(), Stop> {
        self.db
            .prepare_cached("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?1")?
            .execute([KEPT])?;
        Ok(())
    }
}

/// Fields before and after.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn none() -> Self {
        Self::default()
    }

    /// A field that came to be.
    pub(super) fn set(self, field: &str, new: impl Display) -> Self {
        self.push(field, None, Some(brief(&new)))
    }

    /// A field that came to be, whole, because the caller has bounded it.
    pub(super) fn text(self, field: &str, new: &str) -> Self {
        self.push(field, None, Some(new.to_owned()))
    }

    /// A field that went away.
    pub(super) fn unset(self, field: &str, old: impl Display) -> Self {
        self.push(field, Some(brief(&old)), None)
    }

    /// A field that may have changed; left out if it did not.
    pub(super) fn diff<T: Display + PartialEq>(self, field: &str, old: &T, new: &T) -> Self {
        if old == new { self } else { self.push(field, Some(brief(old)), Some(brief(new))) }
    }

    /// A field that came to be, and that nobody may read here.
    pub(super) fn secret(self, field: &str, bytes: &[u8]) -> Self {
        self.push(field, None, Some(sealed(bytes)))
    }

    /// A field that may have changed, and that nobody may read here.
    pub(super) fn secret_diff(self, field: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Self {
        if old == new { self } else { self.push(field, old.map(sealed), new.map(sealed)) }
    }

    /// These too.
    pub(super) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Labels that may have changed, one by one.
    pub(super) fn labels(mut self, old: &Labels, new: &Labels) -> Self {
        for (key, value) in old.iter().filter(|(key, _)| new.get(key).is_none()) {
            self = self.unset(&format!("labels.{key}"), value);
        }
        for (key, value) in new.iter() {
            let field = format!("labels.{key}");
            self = match old.get(key) {
                None => self.set(&field, value),
                Some(before) => self.diff(&field, &before, &value),
            };
        }
        self
    }

    /// Field by field.
    pub(super) fn into_inner(self) -> Vec<Change> {
        self.0
    }

    fn push(mut self, field: &str, old: Option<String>, new: Option<String>) -> Self {
        self.0.push(Change { field: field.to_owned(), old, new });
        self
    }
}

/// What stands for bytes that are secret or too long.
fn sealed(bytes: &[u8]) -> String {
    format!("blake3:{} {} bytes", Blake3::of(bytes).short(), bytes.len())
}

fn brief(value: &impl Display) -> String {
    let text = value.to_string();
    if text.len() > VALUE_MAX { sealed(text.as_bytes()) } else { text }
}

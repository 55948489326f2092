//! The writing side: the events of one command, and the bounds on all of them.
//!
//! In: what apply did. Out: rows. Values are shortened here, and what is secret is replaced by digest and size; nothing
//! else stands between a secret and a reader.

use super::{
    super::{
        read::ReadError,
        rows::{self, Cells, Word},
        stop::{Halt, Stop},
        view::View,
    },
    SEQ_BITS, SubjectKey, number,
};
use rusqlite::{Connection, params};
use serde::Serialize;
use std::{fmt::Display, time::Duration};
use waifud_model::{
    command::Actor,
    digest::Blake3,
    event::{Authority, Change, EventKind, Place, Subject},
    labels::Labels,
    reject::Reject,
    time::Timestamp,
};

/// How many events of people are kept, and how many of nodes; the oldest go first. About 30 MB each, years of a small
/// cluster's life, weeks of a large one's.
const KEPT: i64 = 100_000;

/// How long an event is kept at most, in log time: a year, and a month in which to compare it with the one before.
const LIFETIME: Duration = Duration::from_hours(24 * 400);

/// How many events a command drops at most for their age: after a leap of log time the work is spread over many.
const DROPPED_AT_ONCE: i64 = 256;

/// Values longer than this appear as digest and size: an event is a line, not a document.
const VALUE_MAX: usize = 256;

/// Who gave a command, and which.
#[derive(Debug)]
pub(in crate::state) struct Author<'a> {
    /// Who.
    pub(in crate::state) actor: &'a Actor,
    /// As what, where it was a person.
    pub(in crate::state) authority: Option<Authority>,
    /// The command in a word.
    pub(in crate::state) command: &'static str,
}

/// What of an event has no column. Read by [`super::find`].
#[derive(Serialize)]
struct Body<'a> {
    command: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a Authority>,
    changes: Vec<Change>,
}

/// Writes the events of one command.
#[derive(Debug)]
pub(in crate::state) struct Trail<'a> {
    db: &'a Connection,
    ends: &'a mut Ends,
    index: i64,
    at: Timestamp,
    author: Author<'a>,
    seq: u32,
}

impl<'a> Trail<'a> {
    pub(in crate::state) fn new(
        db: &'a Connection,
        ends: &'a mut Ends,
        index: i64,
        at: Timestamp,
        author: Author<'a>,
    ) -> Self {
        Self { db, ends, index, at, author, seq: 0 }
    }

    /// One more event of this command.
    pub(in crate::state) fn add(&mut self, subject: Subject, kind: EventKind, changes: Changes) -> Result<(), Stop> {
        if self.seq >> SEQ_BITS != 0 {
            return Err(Reject::Constraint("a command changes too many objects".to_owned()).into());
        }
        let index = self.index.unsigned_abs();
        if self.index > i64::MAX >> SEQ_BITS {
            return Err(Halt::Index(index).into());
        }
        let Author { actor, authority, command } = &self.author;
        let body = Body { command, authority: authority.as_ref(), changes: changes.0 };
        let nths = self.ends.of(self.author.is_person());
        let nth = nths.map_or(1, |nths| nths.newest + 1);
        self.db
            .prepare_cached(
                "INSERT INTO events (place, at, person, nth, subject, name, actor, kind, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                number(Place { index, seq: self.seq }),
                rows::number("at", self.at.0)?,
                self.author.is_person(),
                nth,
                SubjectKey::from(&subject).to_string(),
                subject.name(),
                actor.to_string(),
                kind.word(),
                rmp_serde::to_vec_named(&body)?,
            ])?;
        *nths = Some(Nths { oldest: nths.map_or(nth, |nths| nths.oldest), newest: nth });
        self.ends.first.get_or_insert(self.at);
        self.seq += 1;
        Ok(())
    }

    /// Drops the oldest events beyond the bounds.
    pub(in crate::state) fn trim(&mut self) -> Result<(), Stop> {
        let person = self.author.is_person();
        if let Some(nths) = self.ends.of(person)
            && nths.oldest <= nths.newest - KEPT
        {
            let last = nths.newest - KEPT;
            self.db
                .prepare_cached("DELETE FROM events WHERE person = ?1 AND nth <= ?2")?
                .execute(params![person, last])?;
            nths.oldest = last + 1;
        }
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let Some(edge) = self.at.0.checked_sub(lifetime) else { return Ok(()) };
        if self.ends.first.is_some_and(|first| first.0 < edge) {
            // Log time never goes back, so the oldest are the first.
            self.db
                .prepare_cached(
                    "DELETE FROM events WHERE place IN (SELECT place FROM events ORDER BY place LIMIT ?2) AND at < ?1",
                )?
                .execute(params![rows::number("at", edge)?, DROPPED_AT_ONCE])?;
            *self.ends = Ends::read(View::new(self.db))?;
        }
        Ok(())
    }
}

impl Author<'_> {
    /// Whose bound it is.
    const fn is_person(&self) -> bool {
        self.authority.is_some()
    }
}

/// Where the events begin and end.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Ends {
    people: Option<Nths>,
    nodes: Option<Nths>,
    /// When the first of all was, or one that was dropped since and was no later.
    first: Option<Timestamp>,
}

/// Between which numbers the events of the one kind or the other are.
#[derive(Debug, Clone, Copy)]
struct Nths {
    /// None is lower.
    oldest: i64,
    newest: i64,
}

impl Ends {
    pub(in crate::state) fn read(view: View<'_>) -> Result<Self, ReadError> {
        let nths = |person: bool| {
            let sql = "SELECT (SELECT min(nth) FROM events WHERE person = ?1), (SELECT max(nth) FROM events WHERE person = ?1)";
            let found = view.one(sql, [person], |row| {
                let mut cells = Cells::of("events", row);
                Ok(cells.plain::<Option<i64>>()?.zip(cells.plain()?))
            })?;
            Ok::<_, ReadError>(found.flatten().map(|(oldest, newest)| Nths { oldest, newest }))
        };
        let first = "SELECT at FROM events ORDER BY place LIMIT 1";
        let first = view.one(first, [], |row| Cells::of("events", row).time())?;
        Ok(Self { people: nths(true)?, nodes: nths(false)?, first })
    }

    const fn of(&mut self, person: bool) -> &mut Option<Nths> {
        if person { &mut self.people } else { &mut self.nodes }
    }
}

/// Fields before and after.
#[derive(Debug, Default)]
pub(in crate::state) struct Changes(Vec<Change>);

impl Changes {
    pub(in crate::state) fn none() -> Self {
        Self::default()
    }

    /// A field that came to be.
    pub(in crate::state) fn set(self, field: &str, new: impl Display) -> Self {
        self.push(field, None, Some(brief(&new)))
    }

    /// A field that came to be, whole, because the caller has bounded it.
    pub(in crate::state) fn text(self, field: &str, new: &str) -> Self {
        self.push(field, None, Some(new.to_owned()))
    }

    /// A field that went away.
    pub(in crate::state) fn unset(self, field: &str, old: impl Display) -> Self {
        self.push(field, Some(brief(&old)), None)
    }

    /// A field that may have changed; left out if it did not.
    pub(in crate::state) fn diff<T: Display + PartialEq>(self, field: &str, old: &T, new: &T) -> Self {
        if old == new { self } else { self.push(field, Some(brief(old)), Some(brief(new))) }
    }

    /// A field that came to be, and that nobody may read here.
    pub(in crate::state) fn secret(self, field: &str, bytes: &[u8]) -> Self {
        self.push(field, None, Some(sealed(bytes)))
    }

    /// A field that may have changed, and that nobody may read here.
    pub(in crate::state) fn secret_diff(self, field: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> Self {
        if old == new { self } else { self.push(field, old.map(sealed), new.map(sealed)) }
    }

    /// These too.
    pub(in crate::state) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Labels that may have changed, one by one.
    pub(in crate::state) fn labels(mut self, old: &Labels, new: &Labels) -> Self {
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
    pub(in crate::state) fn into_inner(self) -> Vec<Change> {
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

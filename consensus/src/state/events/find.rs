//! The reading side: pages of events in either direction, filtered; what people did; objects by a name they once had.
//!
//! In: an [`EventQuery`]. Out: events in log order, the same on every node that has applied as much. A filter never costs more
//! than one walk over what is kept, which is bounded.

use super::{
    super::{
        read::ReadError,
        rows::{Cells, Word},
        view::View,
    },
    SubjectKey, number, place,
    sight::Sight,
};
use rusqlite::{Row, ToSql, params, params_from_iter};
use serde::Deserialize;
use waifud_model::{
    command::Actor,
    event::{Authority, Change, Event, EventKind, Place, SubjectKind},
    scope::Scope,
    time::Timestamp,
};

const COLUMNS: &str = "place, at, subject, name, actor, kind, body";

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventQuery {
    /// Only later ones than this.
    pub after: Option<Place>,
    /// Only earlier ones than this.
    pub before: Option<Place>,
    /// About what; about anything if it is none.
    pub subject: Option<BySubject>,
    /// By whom; by anybody if it is none.
    pub actor: Option<ByActor>,
    /// Of which kinds; of all if it is empty.
    pub kinds: Vec<EventKind>,
    /// Only about what the asker may know of: see [`View::sees`].
    pub scope: Scope,
    /// How many at most.
    pub limit: u32,
    /// Where there are more than that: the newest of them, not the oldest.
    pub newest: bool,
}

impl EventQuery {
    /// All events, the oldest first, at most so many.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self {
            after: None,
            before: None,
            subject: None,
            actor: None,
            kinds: Vec::new(),
            scope: Scope::default(),
            limit,
            newest: false,
        }
    }

    /// All events, at most so many: the newest of them.
    #[must_use]
    pub fn last(limit: u32) -> Self {
        Self { newest: true, ..Self::first(limit) }
    }

    /// The same, after a place.
    #[must_use]
    pub fn after(self, place: Place) -> Self {
        Self { after: Some(place), ..self }
    }
}

/// What events are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BySubject {
    /// Any object of a kind.
    Kind(SubjectKind),
    /// Any object of a kind that had this name then.
    Name(SubjectKind, String),
    /// These objects, whatever they were called.
    Keys(Vec<SubjectKey>),
}

/// Whose doing events are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByActor {
    /// Any person's, or their program's.
    People,
    /// Any node's on its own account.
    Nodes,
    /// A local user's, on whichever node.
    Uid(u32),
    /// Exactly one of these.
    Is(Vec<Actor>),
}

/// The conditions of a query, as SQL and what is bound to it.
struct Conditions {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Conditions {
    fn of(query: &EventQuery) -> Self {
        let mut all = Self { sql: "1".to_owned(), values: Vec::new() };
        if let Some(after) = query.after {
            all.and("place > ?", [Box::new(number(after)) as Box<dyn ToSql>]);
        }
        if let Some(before) = query.before {
            all.and("place < ?", [Box::new(number(before)) as Box<dyn ToSql>]);
        }
        match &query.subject {
            None => {}
            Some(BySubject::Kind(kind)) => all.and("subject >= ? AND subject < ?", range(*kind)),
            Some(BySubject::Name(kind, name)) => {
                all.and("name = ?", [text(name.clone())]);
                all.and("subject >= ? AND subject < ?", range(*kind));
            }
            Some(BySubject::Keys(keys)) => all.among("subject", keys.iter().map(|key| text(key.to_string()))),
        }
        match &query.actor {
            None => {}
            Some(ByActor::People) => all.and("person = 1", []),
            Some(ByActor::Nodes) => all.and("person = 0", []),
            // The sign after `@`: all texts that begin with `uid:0@` lie between.
            Some(ByActor::Uid(uid)) => {
                all.and("actor >= ? AND actor < ?", [text(format!("uid:{uid}@")), text(format!("uid:{uid}A"))])
            }
            Some(ByActor::Is(actors)) => all.among("actor", actors.iter().map(|actor| text(actor.to_string()))),
        }
        if !query.kinds.is_empty() {
            all.among("kind", query.kinds.iter().map(|kind| text(kind.word().to_owned())));
        }
        all
    }

    /// Among none there is nothing.
    fn among(&mut self, column: &str, values: impl ExactSizeIterator<Item = Box<dyn ToSql>>) {
        let marks = vec!["?"; values.len()].join(", ");
        self.and(&format!("{column} IN ({marks})"), values);
    }

    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Box<dyn ToSql>>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }
}

fn text(text: String) -> Box<dyn ToSql> {
    Box::new(text)
}

/// All keys of a kind lie between these: `;` is the sign after `:`.
fn range(kind: SubjectKind) -> [Box<dyn ToSql>; 2] {
    [text(format!("{kind}:")), text(format!("{kind};"))]
}

/// The events that match, in order.
pub(in crate::state) fn find(view: View<'_>, query: &EventQuery) -> Result<Vec<Event>, ReadError> {
    let Conditions { sql, mut values } = Conditions::of(query);
    let order = if query.newest { "DESC" } else { "ASC" };
    // SQLite does not know what a scope leaves out, so it cannot count what is left.
    values.push(Box::new(if query.scope.is_whole() { query.limit.into() } else { -1_i64 }));
    let sql = format!("SELECT {COLUMNS} FROM events WHERE {sql} ORDER BY place {order} LIMIT ?");
    let mut sight = Sight::of(view, &query.scope);
    let mut found = Vec::new();
    view.each(&sql, params_from_iter(values), |row| {
        if found.len() >= query.limit as usize {
            return Ok(false);
        }
        let event = read(row)?;
        if sight.has(&event.subject)? {
            found.push(event);
        }
        Ok(true)
    })?;
    if query.newest {
        found.reverse();
    }
    Ok(found)
}

/// The commands of people that match, each with those of its events that do.
pub(in crate::state) fn commands(view: View<'_>, query: &EventQuery) -> Result<Vec<Vec<Event>>, ReadError> {
    let Conditions { sql, values } = Conditions::of(query);
    let order = if query.newest { "DESC" } else { "ASC" };
    let sql = format!("SELECT {COLUMNS} FROM events WHERE {sql} AND person = 1 ORDER BY place {order}");
    let mut sight = Sight::of(view, &query.scope);
    let mut found: Vec<Vec<Event>> = Vec::new();
    view.each(&sql, params_from_iter(values), |row| {
        let event = read(row)?;
        if !sight.has(&event.subject)? {
            return Ok(true);
        }
        let enough = found.len() >= query.limit as usize;
        match found.last_mut() {
            Some(command) if command.last().is_some_and(|last| last.index == event.index) => command.push(event),
            _ if enough => return Ok(false),
            _ => found.push(vec![event]),
        }
        Ok(true)
    })?;
    if query.newest {
        found.reverse();
        found.iter_mut().for_each(|command| command.reverse());
    }
    Ok(found)
}

/// All objects of a kind that events remember under a name.
pub(in crate::state) fn named(view: View<'_>, kind: SubjectKind, name: &str) -> Result<Vec<SubjectKey>, ReadError> {
    let sql = "SELECT DISTINCT subject FROM events WHERE name = ?1 AND subject >= ?2 AND subject < ?3 ORDER BY subject";
    let [from, to] = range(kind);
    view.many(sql, params![name, from, to], |row| Cells::of("events", row).parsed())
}

/// The newest event.
pub(in crate::state) fn newest(view: View<'_>) -> Result<Option<Place>, ReadError> {
    view.one("SELECT place FROM events ORDER BY place DESC LIMIT 1", [], |row| {
        Ok(place(Cells::of("events", row).plain()?))
    })
}

/// The place before which events were dropped; none while nothing was.
pub(in crate::state) fn forgotten(view: View<'_>) -> Result<Option<Place>, ReadError> {
    let mut edge = None;
    for person in [false, true] {
        let sql = "SELECT nth, place FROM events WHERE person = ?1 ORDER BY nth LIMIT 1";
        let oldest = view.one(sql, [person], |row| {
            let mut cells = Cells::of("events", row);
            Ok((cells.plain::<i64>()?, place(cells.plain()?)))
        })?;
        // They are counted from one on, so an older one was there.
        edge = edge.max(oldest.filter(|(nth, _)| *nth > 1).map(|(_, place)| place));
    }
    Ok(edge)
}

/// The last place before all events at `at` and later. Log time never goes back, so halving finds it.
pub(in crate::state) fn before(view: View<'_>, at: Timestamp) -> Result<Place, ReadError> {
    let newest = view.one("SELECT place FROM events ORDER BY place DESC LIMIT 1", [], |row| {
        Cells::of("events", row).plain::<i64>()
    })?;
    let (mut low, mut high) = (0_i64, newest.unwrap_or(0));
    while low < high {
        let middle = low + (high - low) / 2;
        let sql = "SELECT place, at FROM events WHERE place > ?1 ORDER BY place LIMIT 1";
        let next = view.one(sql, [middle], |row| {
            let mut cells = Cells::of("events", row);
            Ok((cells.plain::<i64>()?, cells.time()?))
        })?;
        match next {
            Some((found, then)) if then < at => low = found,
            _ => high = middle,
        }
    }
    Ok(place(low))
}

/// What of an event has no column.
#[derive(Deserialize)]
struct Body {
    command: String,
    #[serde(default)]
    authority: Option<Authority>,
    changes: Vec<Change>,
}

fn read(row: &Row<'_>) -> Result<Event, ReadError> {
    let mut cells = Cells::of("events", row);
    let (number, at, key, name) =
        (cells.plain()?, cells.time()?, cells.parsed::<SubjectKey>()?, cells.plain::<String>()?);
    let (actor, kind, body) = (cells.parsed()?, cells.word()?, cells.packed()?);
    let subject = cells.known("name", key.named(&name))?;
    let Place { index, seq } = place(number);
    let Body { command, authority, changes } = body;
    Ok(Event { index, seq, at, actor, authority, command, subject, kind, changes })
}

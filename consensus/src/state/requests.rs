//! Remembered requests: a repetition gets the first one's reply. Bounded in age (log time), number and bytes; when one
//! bound is passed the oldest go first, on every node alike.

use super::{
    read::ReadError,
    rows::{Cells, Word, number},
    stop::Stop,
    view::View,
};
use rusqlite::{Connection, params};
use std::time::Duration;
use waifud_model::{
    command::{Origin, Reply, RequestKey},
    digest::Blake3,
    reject::Reject,
    time::Timestamp,
};

/// Longest key, in bytes; UUIDs and hashes are much shorter.
const KEY_MAX: usize = 255;

/// How much is remembered for requests of one origin.
struct Bounds {
    lifetime: Duration,
    number: i64,
    bytes: i64,
}

const fn bounds(origin: Origin) -> Bounds {
    match origin {
        // A person, or their script, tries again after hours. A write each second, all day long, stays within it.
        Origin::Client => Bounds { lifetime: Duration::from_hours(24), number: 100_000, bytes: 64 << 20 },
        // A node tries again within seconds; ten minutes outlast any election.
        Origin::Internal => Bounds { lifetime: Duration::from_mins(10), number: 20_000, bytes: 16 << 20 },
    }
}

/// Checks the form of a key.
pub(super) fn check(request: &RequestKey) -> Result<(), Reject> {
    if (1..=KEY_MAX).contains(&request.key.len()) {
        return Ok(());
    }
    let why = format!("has {} bytes; 1 to {KEY_MAX} are allowed", request.key.len());
    Err(Reject::BadSpec { field: "idempotency key".to_owned(), why })
}

/// The reply to an earlier request with the same key, if it is remembered.
pub(super) fn recall(view: View<'_>, actor: &str, request: &RequestKey) -> Result<Option<Reply>, Stop> {
    find(view, actor, request)?.transpose().map_err(Into::into)
}

/// The same for readers: the reply, or why the key cannot be used.
pub(super) fn find(
    view: View<'_>,
    actor: &str,
    request: &RequestKey,
) -> Result<Option<Result<Reply, Reject>>, ReadError> {
    let sql = "SELECT body, reply FROM requests WHERE actor = ?1 AND key = ?2";
    let found = view.one(sql, params![actor, request.key], |row| {
        let mut cells = Cells::of("requests", row);
        Ok((Blake3(cells.plain()?), cells.packed::<Reply>()?))
    })?;
    Ok(found.map(|(body, reply)| if body == request.body { Ok(reply) } else { Err(Reject::KeyReused) }))
}

/// Remembers a reply.
pub(super) fn remember(
    db: &Connection,
    ends: &mut Ends,
    actor: &str,
    request: &RequestKey,
    reply: &Reply,
    now: Timestamp,
) -> Result<(), Stop> {
    let reply = rmp_serde::to_vec_named(reply)?;
    let row = ends.of(request.origin);
    let (count, bytes) = row.map_or((0, 0), |row| (row.newest.number, row.newest.bytes));
    let newest = Edge { number: count + 1, bytes: bytes + number("reply", reply.len() as u64)?, at: now };
    db.prepare_cached(
        "INSERT INTO requests (origin, number, bytes, actor, key, body, reply, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        request.origin.word(),
        newest.number,
        newest.bytes,
        actor,
        request.key,
        request.body.0,
        reply,
        number("at", now.0)?,
    ])?;
    *row = Some(Span { oldest: row.map_or(newest, |row| row.oldest), newest });
    Ok(())
}

/// Forgets what is beyond the bounds, and makes room for one more.
pub(super) fn forget(db: &Connection, ends: &mut Ends, now: Timestamp) -> Result<(), Stop> {
    for origin in Origin::ALL.iter().copied() {
        let bounds = bounds(origin);
        let row = ends.of(origin);
        while let Some(Span { oldest, newest }) = *row {
            let within =
                newest.number - oldest.number < bounds.number - 1 && newest.bytes - oldest.bytes < bounds.bytes;
            if now.since(oldest.at) < bounds.lifetime && within {
                break;
            }
            db.prepare_cached("DELETE FROM requests WHERE origin = ?1 AND number = ?2")?
                .execute(params![origin.word(), oldest.number])?;
            *row = edge(View::new(db), origin, OLDEST)?.map(|oldest| Span { oldest, newest });
        }
    }
    Ok(())
}

/// Where each origin's row begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    client: Option<Span>,
    internal: Option<Span>,
}

/// The ends of one origin's row; it may be one and the same request.
#[derive(Debug, Clone, Copy)]
struct Span {
    oldest: Edge,
    newest: Edge,
}

/// A remembered request at one end of its origin's row.
#[derive(Debug, Clone, Copy)]
struct Edge {
    number: i64,
    bytes: i64,
    at: Timestamp,
}

const OLDEST: &str = "SELECT number, bytes, at FROM requests WHERE origin = ?1 ORDER BY number LIMIT 1";
const NEWEST: &str = "SELECT number, bytes, at FROM requests WHERE origin = ?1 ORDER BY number DESC LIMIT 1";

impl Ends {
    pub(super) fn read(view: View<'_>) -> Result<Self, ReadError> {
        let span = |origin| {
            let (oldest, newest) = (edge(view, origin, OLDEST)?, edge(view, origin, NEWEST)?);
            Ok::<_, ReadError>(oldest.zip(newest).map(|(oldest, newest)| Span { oldest, newest }))
        };
        Ok(Self { client: span(Origin::Client)?, internal: span(Origin::Internal)? })
    }

    const fn of(&mut self, origin: Origin) -> &mut Option<Span> {
        match origin {
            Origin::Client => &mut self.client,
            Origin::Internal => &mut self.internal,
        }
    }
}

fn edge(view: View<'_>, origin: Origin, sql: &'static str) -> Result<Option<Edge>, ReadError> {
    view.one(sql, [origin.word()], |row| {
        let mut cells = Cells::of("requests", row);
        Ok(Edge { number: cells.plain()?, bytes: cells.plain()?, at: cells.time()? })
    })
}

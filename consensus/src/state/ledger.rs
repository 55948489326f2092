//! What every command asks of the state, remembered from one command to the next: half of a command's statements were these.
//!
//! ```text
//!   unknown ──read──> known ──accepted──> known, moved on          a reject leaves it as it was, as it does the tables
//!      ^                └──────── another writer, a lost transaction: the caller drops it
//! ```
//!
//! In: the tables, once; then what apply itself writes. It must not hold anything that the tables do not say: with a ledger or
//! without one, the same log gives the same rows.

use super::{
    events,
    read::ReadError,
    requests,
    rows::{Cells, number},
    stop::Stop,
    view::View,
};
use rusqlite::Connection;
use waifud_model::time::Timestamp;

/// Belongs to one connection, and only as long as nothing but [`apply`](super::apply) writes through it. The default knows
/// nothing yet, and is right for every state.
#[derive(Debug, Default)]
pub struct Ledger(Option<Known>);

/// What is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Is there a cluster?
    pub(super) founded: bool,
    /// Log time; none before the first command.
    log_time: Option<Timestamp>,
    pub(super) requests: requests::Ends,
    pub(super) events: events::Ends,
}

impl Ledger {
    /// The last accepted command's time, as [`View::log_time`] gives it.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn log_time(&mut self, db: &Connection) -> Result<Timestamp, ReadError> {
        Ok(self.known(View::new(db))?.log_time.unwrap_or_default())
    }

    /// A copy, to be given back by [`Ledger::accept`] if what it was changed for is to stand.
    pub(super) fn known(&mut self, view: View<'_>) -> Result<Known, ReadError> {
        let known = match self.0 {
            Some(known) => known,
            None => Known::read(view)?,
        };
        self.0 = Some(known);
        Ok(known)
    }

    pub(super) const fn accept(&mut self, known: Known) {
        self.0 = Some(known);
    }
}

impl Known {
    fn read(view: View<'_>) -> Result<Self, ReadError> {
        Ok(Self {
            founded: view.any("SELECT 1 FROM cluster", [])?,
            log_time: view.one("SELECT log_time FROM clock", [], |row| Cells::of("clock", row).time())?,
            requests: requests::Ends::read(view)?,
            events: events::Ends::read(view)?,
        })
    }

    /// Moves log time on; it never goes back, and never to where SQLite cannot count.
    pub(super) fn tick(&mut self, db: &Connection, at: Timestamp) -> Result<Timestamp, Stop> {
        let now = self.log_time.unwrap_or_default().max(at);
        if self.log_time != Some(now) {
            db.prepare_cached(
                "INSERT INTO clock (one, log_time) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET log_time = ?1",
            )?
            .execute([number("at", now.0)?])?;
            self.log_time = Some(now);
        }
        Ok(now)
    }
}

//! The log as openraft sees it.

use super::{
    rows::{self, EntryRow, Note},
    schema,
    tail::{self, Tail},
};
use crate::{
    config::Storage,
    database::{Counters, DatabaseError, Halted, Readers, Writer},
    raft::{
        stored::{Ballot, Position},
        types::{Entry, LogId, Types, Vote},
    },
};
use futures::{Stream, TryStreamExt, stream};
use openraft::{
    LogState, OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
};
use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// One request to a follower carries at least one entry and stops at this size: at 50 Mbit/s that is a tenth of a second,
/// within what a heartbeat may take.
const REPLICATE: usize = 512 << 10;

/// So many entries are read at once: a node that was away must not be fed, or feed itself, from a vector of everything.
const PIECE: u64 = 512;

/// The log. Cloning it gives another handle on the same one.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    writer: Writer,
    readers: Readers,
    memory: Arc<Mutex<Memory>>,
}

/// What is known without asking the disk.
#[derive(Debug)]
struct Memory {
    tail: Tail,
    /// The index of the first entry, or that the first will have if it follows on what was purged.
    first: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    /// Counts truncations and purges: a reader that was on the disk meanwhile reads again.
    cuts: u64,
}

impl LogStore {
    /// Opens `log.db` in `dir`, or makes it.
    pub(crate) fn open(dir: &Path, storage: Storage, halted: Halted) -> Result<Self, DatabaseError> {
        let path = dir.join("log.db");
        let db = schema::open(&path, storage)?;
        let vote = rows::get::<Ballot>(&db, Note::Vote)?.map(Vote::from);
        let purged = rows::get::<Position>(&db, Note::Purged)?.map(LogId::from);
        let ends = rows::ends(&db)?;
        let memory = Memory {
            tail: Tail::default(),
            first: ends.map_or_else(|| after(purged), |(first, _)| first.index()),
            last: ends.map(|(_, last)| last).max(purged),
            purged,
            vote,
            cuts: 0,
        };
        Ok(Self {
            writer: Writer::start("log", db, storage, halted)?,
            readers: Readers::new(storage, move || schema::open_reader(&path)),
            memory: Arc::new(Mutex::new(memory)),
        })
    }

    /// How many transactions and jobs the log has written.
    pub(crate) fn counters(&self) -> &Counters {
        self.writer.counters()
    }

    /// Finishes what is queued and closes the file.
    pub(crate) async fn close(&self) {
        self.readers.close();
        self.writer.close().await;
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index after the last entry.
    fn end(&self) -> u64 {
        after(self.memory().last)
    }

    /// All entries of a range that the log has; every one of them, or an error.
    async fn read(&self, wanted: Range<u64>) -> Result<Vec<Entry>, DatabaseError> {
        loop {
            let (range, recent, on_disk, cuts) = {
                let memory = self.memory();
                let range = wanted.start.max(memory.first)..wanted.end.min(after(memory.last));
                let recent = memory.tail.read(&range);
                let on_disk = range.start
                    ..memory.tail.first().unwrap_or(range.end).clamp(range.start, range.end.max(range.start));
                (range, recent, on_disk, memory.cuts)
            };
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let mut entries = if on_disk.is_empty() {
                Vec::new()
            } else {
                self.readers.run(move |db| rows::read(db, &on_disk)).await?
            };
            entries.extend(recent);
            if entries.iter().map(RaftEntry::index).eq(range.clone()) {
                return Ok(entries);
            }
            if self.memory().cuts == cuts {
                return Err(DatabaseError::Corrupt(format!(
                    "the log has a hole between {} and {}",
                    range.start, range.end
                )));
            }
        }
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.read(indexes(&range)).await?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.memory().vote)
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let range = indexes(&range);
        let pieces = stream::try_unfold(range.start, move |start| {
            let (this, end) = (self.clone(), range.end);
            async move {
                if start >= end {
                    return Ok(None);
                }
                let entries = this.read(start..end.min(start.saturating_add(PIECE))).await?;
                // What is applied must follow on what was applied before: missing entries are never skipped.
                match (entries.first().map(RaftEntry::index), entries.last().map(RaftEntry::index)) {
                    // Beyond the end there is nothing; openraft knows where that is.
                    (None, _) if start >= this.end() => Ok(None),
                    (Some(first), Some(last)) if first == start => Ok(Some((entries, last + 1))),
                    _ => Err(io::Error::from(DatabaseError::Corrupt(format!("log entry {start} is gone")))),
                }
            }
        });
        Box::pin(pieces.map_ok(|entries| stream::iter(entries.into_iter().map(Ok))).try_flatten())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut entries = self.read(start..end.min(start.saturating_add(PIECE))).await?;
        let mut bytes = 0;
        let fit = entries.iter().take_while(|entry| {
            bytes += tail::size(entry);
            bytes <= REPLICATE
        });
        let fit = fit.count().max(1);
        entries.truncate(fit);
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let memory = self.memory();
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: memory.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (vote, ballot) = (*vote, Ballot::from(*vote));
        self.writer.write(move |tx| rows::put(tx, Note::Vote, &ballot)).await.map_err(io_error)?;
        self.memory().vote = Some(vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let rows = entries.iter().map(EntryRow::new).collect::<Result<Vec<_>, _>>()?;
        let last = entries.last().map(RaftEntry::log_id);
        {
            let mut memory = self.memory();
            if let Some(first) = entries.first()
                && memory.last == memory.purged
            {
                memory.first = first.index();
            }
            memory.last = last.or(memory.last);
            entries.into_iter().for_each(|entry| memory.tail.push(entry));
        }
        let memory = self.memory.clone();
        self.writer.submit(
            move |tx| rows.iter().try_for_each(|row| row.write(tx)),
            move |result| {
                if result.is_ok()
                    && let Some(last) = last
                {
                    memory.lock().unwrap_or_else(PoisonError::into_inner).tail.durable(&last);
                }
                callback.io_completed(result.map_err(io_error));
            },
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = after(last);
        {
            let mut memory = self.memory();
            memory.cuts += 1;
            memory.tail.truncate(from);
            if after(memory.last) > from {
                memory.last = last.max(memory.purged);
            }
        }
        self.writer.write(move |tx| rows::truncate(tx, from)).await.map_err(io_error)
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut memory = self.memory();
            memory.cuts += 1;
            memory.tail.purge(upto.index());
            memory.purged = Some(upto);
            memory.first = memory.first.max(upto.index() + 1);
            memory.last = memory.last.max(Some(upto));
        }
        let position = Position::from(upto);
        self.writer
            .write(move |tx| {
                rows::put(tx, Note::Purged, &position)?;
                rows::purge(tx, upto.index())
            })
            .await
            .map_err(io_error)
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

/// The index that follows.
fn after(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index() + 1)
}

/// openraft speaks `io::Error` and prints only its text, so the whole chain goes in.
fn io_error(error: Arc<DatabaseError>) -> io::Error {
    io::Error::other(crate::database::chain(&*error))
}

#[cfg(test)]
mod tests;

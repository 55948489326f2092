//! The end of the log in memory: what is not on disk yet, and what was just put there.
//!
//! In: entries in order, and news of what became durable. Out: entries by range. Replication and apply read nearly always
//! what was appended a moment ago, so nearly all reads end here. It is a pure value: no lock, no database.

use crate::raft::types::{Entry, LogId};
use openraft::{EntryPayload, entry::RaftEntry};
use std::{collections::VecDeque, ops::Range};

/// Durable entries are kept while all entries together are smaller than this, …
const BYTES: usize = 8 << 20;
/// … and fewer than this. What a follower lags behind more than that, it gets from the disk.
const ENTRIES: usize = 4096;

/// Entries without a gap, up to the last of the log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// How many of them, from the front, are on disk.
    durable: usize,
    bytes: usize,
}

impl Tail {
    /// Takes entries that follow on the last one. After a gap, which only an installed snapshot makes, nothing from before
    /// it is kept.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.back().is_some_and(|last| last.index() + 1 != entry.index()) {
            self.clear();
        }
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    /// All entries up to `id` are on disk; they may be forgotten.
    pub(super) fn durable(&mut self, id: &LogId) {
        let Some(place) = self.place(id.index()) else { return };
        // Another entry of that index means that it was truncated while it was on its way to the disk.
        if self.entries.get(place).map(RaftEntry::log_id) == Some(*id) {
            self.durable = self.durable.max(place + 1);
            while self.durable > 0 && (self.bytes > BYTES || self.entries.len() > ENTRIES) {
                self.drop_first();
            }
        }
    }

    /// Forgets all entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|last| last.index() >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= size(&entry);
            }
        }
        self.durable = self.durable.min(self.entries.len());
    }

    /// Forgets all entries up to `index`, and that one.
    pub(super) fn purge(&mut self, index: u64) {
        while self.entries.front().is_some_and(|first| first.index() <= index) {
            self.drop_first();
        }
    }

    /// The index of the first entry here, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(RaftEntry::index)
    }

    /// What is here of a range.
    pub(super) fn read(&self, range: &Range<u64>) -> Vec<Entry> {
        let Some(first) = self.first() else { return Vec::new() };
        let place =
            |index: u64| usize::try_from(index.saturating_sub(first)).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(place(range.start)..place(range.end).max(place(range.start))).cloned().collect()
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first()?)?).ok()
    }

    fn drop_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= size(&entry);
            self.durable = self.durable.saturating_sub(1);
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// About what an entry takes: only commands are ever large.
pub(super) fn size(entry: &Entry) -> usize {
    const OVERHEAD: usize = 96;
    OVERHEAD
        + match &entry.payload {
            EntryPayload::Normal(logged) => logged.bytes().len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{LeaderId, Logged};
    use openraft::vote::RaftLeaderId;
    use waifud_model::ids::NodeId;

    fn entry(term: u64, index: u64, bytes: usize) -> Entry {
        let leader = LeaderId::new(term, NodeId::from_random(1));
        Entry { log_id: LogId::new(leader, index), payload: EntryPayload::Normal(Logged::from(vec![0; bytes])) }
    }

    fn tail(range: Range<u64>) -> Tail {
        let mut tail = Tail::default();
        range.for_each(|index| tail.push(entry(1, index, 0)));
        tail
    }

    fn indexes(tail: &Tail, range: Range<u64>) -> Vec<u64> {
        tail.read(&range).iter().map(RaftEntry::index).collect()
    }

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let tail = tail(5..9);
        assert_eq!(indexes(&tail, 0..100), [5, 6, 7, 8]);
        assert_eq!(indexes(&tail, 6..8), [6, 7]);
        assert_eq!(indexes(&tail, 9..12), []);
        assert_eq!(indexes(&tail, 0..5), []);
        #[expect(clippy::reversed_empty_ranges, reason = "a reader may ask for it")]
        let reversed = 8..6;
        assert_eq!(indexes(&tail, reversed), []);
        assert_eq!(indexes(&Tail::default(), 0..9), []);
    }

    #[test]
    fn truncation_and_purge_cut_the_ends() {
        let mut tail = tail(5..9);
        tail.truncate(8);
        tail.purge(5);
        assert_eq!(indexes(&tail, 0..100), [6, 7]);
        tail.push(entry(2, 8, 0));
        assert_eq!(tail.read(&(8..9)), [entry(2, 8, 0)]);
        tail.truncate(0);
        assert_eq!((tail.first(), tail.bytes, tail.durable), (None, 0, 0));
    }

    #[test]
    fn only_durable_entries_are_forgotten() {
        let mut tail = Tail::default();
        for index in 0..20 {
            tail.push(entry(1, index, BYTES / 10));
        }
        assert_eq!(tail.first(), Some(0), "nothing is on disk yet");
        tail.durable(&entry(1, 4, 0).log_id());
        assert_eq!(tail.first(), Some(5));
        tail.durable(&entry(1, 19, 0).log_id());
        assert_eq!(tail.first(), Some(11), "what fits stays");
        assert!(tail.bytes <= BYTES);
    }

    #[test]
    fn many_small_entries_are_bounded_too() {
        let last = ENTRIES as u64 + 99;
        let mut tail = tail(0..last + 1);
        tail.durable(&entry(1, last, 0).log_id());
        assert_eq!(tail.entries.len(), ENTRIES);
    }

    #[test]
    fn news_of_a_truncated_entry_says_nothing_about_its_successor() {
        let mut tail = tail(0..3);
        tail.truncate(2);
        tail.push(entry(2, 2, 0));
        tail.durable(&entry(1, 2, 0).log_id());
        assert_eq!(tail.durable, 0);
        tail.durable(&entry(2, 2, 0).log_id());
        assert_eq!(tail.durable, 3);
    }

    #[test]
    fn nothing_from_before_a_gap_is_kept() {
        let mut tail = tail(0..3);
        tail.push(entry(1, 10, 0));
        assert_eq!(indexes(&tail, 0..100), [10]);
    }
}

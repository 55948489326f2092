//! How much of the stack anybody may use: counts for each source and in all.
//!
//! In: connections that open, are established, and end. Out: whether there is room, and who has to go for it. Pure: it knows
//! counts, not sockets, and takes the time as an argument.
//!
//! A SYN's source may be a lie, so half-open connections are counted apart and can only push out each other. An
//! established one has answered from its address, and when all places are taken the source with the most of them gives up
//! one, so that nobody keeps the others out.

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
};
use tokio::time::Instant;

/// What may be kept for peers. Each connection holds 40 KiB of buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Established connections in all: at 40 KiB each, the default allows 40 MiB, if all buffers are in use.
    pub connections: usize,
    /// Connections of one source, half-open ones included. A guest that boots uses one or two at a time.
    pub per_source: usize,
    /// Half-open connections in all. When there are more, the oldest goes: an honest one is half-open for a millisecond, so
    /// a flood of half a million SYNs a second would be needed to push it out.
    pub half_open: usize,
    /// Half-open connections of one source.
    pub half_open_per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, per_source: 64, half_open: 512, half_open_per_source: 32 }
    }
}

/// The counts.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    sources: HashMap<Ipv4Addr, Count>,
    /// Half-open connections, oldest first.
    half_open: BTreeSet<(Instant, SocketAddrV4)>,
    established: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    half_open: usize,
    established: usize,
}

/// What to do with a SYN.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Take it.
    Take,
    /// Take it, after this half-open connection was dropped.
    Instead(SocketAddrV4),
    /// Drop it; its sender may try again.
    Refuse,
}

/// What to do with a connection whose handshake is complete.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Establishing {
    /// Hand it over.
    Take,
    /// Hand it over, after a connection of this source was reset.
    InsteadOfOneOf(Ipv4Addr),
    /// Reset it.
    Refuse,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, sources: HashMap::new(), half_open: BTreeSet::new(), established: 0 }
    }

    /// Whether a SYN of `peer` may open a connection. Counts nothing.
    pub(super) fn opening(&self, peer: SocketAddrV4) -> Opening {
        let count = self.sources.get(peer.ip()).copied().unwrap_or_default();
        let full = count.half_open >= self.limits.half_open_per_source
            || count.half_open + count.established >= self.limits.per_source;
        match self.half_open.first() {
            _ if full => Opening::Refuse,
            Some((_, oldest)) if self.half_open.len() >= self.limits.half_open => Opening::Instead(*oldest),
            _ => Opening::Take,
        }
    }

    /// Whether the half-open connection of `peer` may be established. Counts nothing.
    pub(super) fn establishing(&self, peer: SocketAddrV4) -> Establishing {
        if self.established < self.limits.connections {
            return Establishing::Take;
        }
        let own = self.sources.get(peer.ip()).map_or(0, |count| count.established);
        let heaviest = self.sources.iter().max_by_key(|(source, count)| (count.established, **source));
        match heaviest {
            // Not for one more than what it has itself: the two would take it from each other in turns.
            Some((source, count)) if count.established > own + 1 => Establishing::InsteadOfOneOf(*source),
            _ => Establishing::Refuse,
        }
    }

    pub(super) fn opened(&mut self, peer: SocketAddrV4, at: Instant) {
        self.sources.entry(*peer.ip()).or_default().half_open += 1;
        self.half_open.insert((at, peer));
    }

    /// What opened `at` is established.
    pub(super) fn established(&mut self, peer: SocketAddrV4, at: Instant) {
        self.half_open_ended(peer, at);
        self.sources.entry(*peer.ip()).or_default().established += 1;
        self.established += 1;
    }

    /// What opened `at` ended before it was established.
    pub(super) fn half_open_ended(&mut self, peer: SocketAddrV4, at: Instant) {
        if self.half_open.remove(&(at, peer)) {
            self.take_off(*peer.ip(), |count| count.half_open -= 1);
        }
    }

    pub(super) fn established_ended(&mut self, peer: SocketAddrV4) {
        self.established -= 1;
        self.take_off(*peer.ip(), |count| count.established -= 1);
    }

    /// A source with nothing leaves nothing behind, or a liar could fill the memory with addresses.
    fn take_off(&mut self, source: Ipv4Addr, change: impl FnOnce(&mut Count)) {
        if let Some(count) = self.sources.get_mut(&source) {
            change(count);
            if count.half_open + count.established == 0 {
                self.sources.remove(&source);
            }
        }
    }

    /// Established and half-open connections, and sources that have any.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        (self.established, self.half_open.len(), self.sources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(source: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, source), port)
    }

    fn small() -> Admission {
        Admission::new(Limits { connections: 4, per_source: 4, half_open: 3, half_open_per_source: 2 })
    }

    #[tokio::test]
    async fn half_open_ones_push_out_only_each_other_and_only_when_all_places_are_taken() {
        let (mut admission, at) = (small(), Instant::now());
        admission.opened(peer(1, 1), at);
        admission.opened(peer(1, 2), at);
        assert_eq!(admission.opening(peer(1, 3)), Opening::Refuse);
        assert_eq!(admission.opening(peer(2, 3)), Opening::Take);
        admission.opened(peer(2, 1), at);
        assert_eq!(admission.opening(peer(3, 1)), Opening::Instead(peer(1, 1)));
        admission.half_open_ended(peer(1, 1), at);
        admission.half_open_ended(peer(1, 2), at);
        admission.half_open_ended(peer(2, 1), at);
        assert_eq!(admission.counts(), (0, 0, 0));
    }

    #[tokio::test]
    async fn the_heaviest_source_gives_up_a_place_but_not_to_its_equal() {
        let (mut admission, at) = (small(), Instant::now());
        for (source, port) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            admission.opened(peer(source, port), at);
            assert_eq!(admission.establishing(peer(source, port)), Establishing::Take);
            admission.established(peer(source, port), at);
        }
        assert_eq!(admission.establishing(peer(3, 1)), Establishing::InsteadOfOneOf(*peer(1, 0).ip()));
        assert_eq!(admission.establishing(peer(2, 2)), Establishing::InsteadOfOneOf(*peer(1, 0).ip()));
        assert_eq!(admission.establishing(peer(1, 4)), Establishing::Refuse);
        admission.established_ended(peer(1, 1));
        admission.opened(peer(2, 2), at);
        admission.established(peer(2, 2), at);
        assert_eq!(admission.establishing(peer(1, 4)), Establishing::Refuse);
        for (source, port) in [(1, 2), (1, 3), (2, 1), (2, 2)] {
            admission.established_ended(peer(source, port));
        }
        assert_eq!(admission.counts(), (0, 0, 0));
    }
}

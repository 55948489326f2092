//! A connection's life in the driver's table, and what is due at each point of it.
//!
//! ```text
//!   SYN ──> half-open ──(handshake complete: handed over)──> open ──(stream dropped)──> lingering ──> gone
//!               │ 3 s, RST, or pushed out                      │ stalled 30 s: reset       │ both ends closed, or 30 s: reset
//!               └──> gone, without a word                      └──> as if it had ended     └──> gone
//! ```
//!
//! Reads the socket's state and decides; must not move packets.

use super::connection::Connection;
use smoltcp::socket::tcp::State;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// An honest peer answers a SYN-ACK within a millisecond, or within a second if that was lost.
const HALF_OPEN: Duration = Duration::from_secs(3);
/// How long a closed connection may take to get its last bytes across.
const LINGER: Duration = Duration::from_secs(30);
/// How long a peer may take none of what waits for it. TCP itself would let a closed window stay closed for ever.
const STALL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) connection: Arc<Connection>,
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    pub(super) since: Instant,
    /// What the peer has not acknowledged yet, and since when it is as much.
    pub(super) unsent: (usize, Instant),
    pub(super) wake_at: Option<Instant>,
    pub(super) held_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    HalfOpen,
    Open,
    Lingering,
}

/// What a look at a connection's socket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Establish,
    Linger,
    /// Forget it.
    Remove,
    /// Say RST, then forget it or let its stream find out.
    Reset,
}

impl Entry {
    /// A connection whose SYN has just come.
    pub(super) fn new(connection: Connection, now: Instant) -> Self {
        Self {
            connection: Arc::new(connection),
            phase: Phase::HalfOpen,
            since: now,
            unsent: (0, now),
            wake_at: None,
            held_up: false,
        }
    }

    /// Neither end has anything to say any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.connection.lock().tcp().state(), State::Closed | State::TimeWait)
    }

    /// What is to be done about it now.
    ///
    /// A connection in TIME-WAIT is forgotten as soon as its stream is gone: between us and a guest there is one link, on which
    /// nothing is late, and a guest whose last ACK was lost gets a RST after all its data. Kept for its time, it would keep
    /// a guest from opening more than a few connections a second.
    pub(super) fn judge(&mut self, now: Instant) -> Verdict {
        let mut socket = self.connection.lock();
        let (state, unsent) = (socket.tcp().state(), socket.tcp().send_queue());
        drop(socket);
        if unsent != self.unsent.0 {
            self.unsent = (unsent, now);
        }
        let over = matches!(state, State::Closed | State::TimeWait);
        match self.phase {
            // A RST puts a socket that was listening back to that.
            Phase::HalfOpen if matches!(state, State::Closed | State::Listen) => Verdict::Remove,
            // No RST: where it would go to has never answered.
            Phase::HalfOpen if now >= self.since + HALF_OPEN => Verdict::Remove,
            Phase::HalfOpen if state == State::SynReceived => Verdict::Keep,
            Phase::HalfOpen => Verdict::Establish,
            Phase::Open if self.connection.is_released() && over => Verdict::Remove,
            Phase::Open if unsent > 0 && now >= self.unsent.1 + STALL => Verdict::Reset,
            Phase::Open if self.connection.is_released() => Verdict::Linger,
            Phase::Lingering if over => Verdict::Remove,
            Phase::Lingering if now >= self.since + LINGER => Verdict::Reset,
            Phase::Open | Phase::Lingering => Verdict::Keep,
        }
    }

    /// When it has to be looked at, whatever smoltcp thinks.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::HalfOpen => Some(self.since + HALF_OPEN),
            Phase::Open => (self.unsent.0 > 0).then(|| self.unsent.1 + STALL),
            Phase::Lingering => Some(self.since + LINGER),
        }
    }
}

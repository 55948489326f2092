//! The pool: what connections stand to each member, whether a dial is under way, and when the next one may be.
//!
//! ```text
//!   none ──open──> dialling ──welcome──> connected ──closed──> none
//!                     └──failed──> backing off ──time──> none
//! ```
//!
//! Both sides may dial at once; then two connections stand, each side uses the newest it knows, and both are served.
//! Pure bookkeeping under one short lock; it never waits and never dials.

use super::{error::PeerError, protocol::CloseCode};
use crate::table::PeerTable;
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use waifud_model::ids::NodeId;

/// Connections kept for one peer. Two come from dialling at once; more only from a peer that does not notice that its
/// old ones work.
const CONNECTIONS_MAX: usize = 4;
/// The pause after the first failed dial.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// The longest pause: a peer that comes back dials by itself, this is for the case that only we can reach it.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Where many cannot be reached the longest pause is longer, so that there are not more dials than one in so long: each is a
/// TLS handshake, sent several times, to somebody who most likely is not there.
const DIAL_EVERY: Duration = Duration::from_millis(250);

/// All links, by member.
#[derive(Default)]
pub(super) struct Links(Mutex<BTreeMap<NodeId, Link>>);

#[derive(Default)]
struct Link {
    /// Newest last.
    connections: Vec<quinn::Connection>,
    /// Closes when the dial under way ends.
    dialling: Option<watch::Receiver<()>>,
    failures: u32,
    /// The last dial's error, and until when it is given to callers without trying again.
    backing_off: Option<(Instant, PeerError)>,
}

/// What to do to get a connection.
pub(super) enum Next {
    /// Use this one.
    Use(quinn::Connection),
    /// Somebody dials already: ask again when this closes.
    Wait(watch::Receiver<()>),
    /// Dial, and drop the sender when done; others wait on the receiver too.
    Dial(watch::Sender<()>),
    /// It failed a moment ago.
    Fail(PeerError),
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a caller who wants to talk to `node` has to do.
    pub(super) fn next(&self, node: NodeId, now: Instant) -> Next {
        let mut links = self.lock();
        let link = links.entry(node).or_default();
        link.connections.retain(is_open);
        if let Some(connection) = link.connections.last() {
            return Next::Use(connection.clone());
        }
        // A dial whose task died (a panic, a runtime that ends) leaves a closed channel behind.
        if let Some(dialling) = link.dialling.as_ref().filter(|dialling| dialling.has_changed().is_ok()) {
            return Next::Wait(dialling.clone());
        }
        match &link.backing_off {
            Some((until, error)) if now < *until => Next::Fail(error.clone()),
            _ => {
                let (done, dialling) = watch::channel(());
                link.dialling = Some(dialling);
                Next::Dial(done)
            }
        }
    }

    /// Keeps a connection that was made to, or by, `node`, if `still_member` holds: asked under the lock, so that no
    /// connection slips past [`keep_members`](Self::keep_members).
    #[must_use]
    pub(super) fn add(&self, node: NodeId, connection: &quinn::Connection, still_member: impl Fn() -> bool) -> bool {
        let mut links = self.lock();
        if !still_member() {
            return false;
        }
        let link = links.entry(node).or_default();
        link.connections.retain(is_open);
        if link.connections.len() >= CONNECTIONS_MAX {
            CloseCode::Surplus.close(&link.connections.remove(0));
        }
        link.connections.push(connection.clone());
        link.pardon();
        true
    }

    /// Notes that a dial failed; whoever asks in the next moments gets the same error.
    pub(super) fn failed(&self, node: NodeId, error: PeerError, now: Instant) {
        let mut links = self.lock();
        let silent = links.iter().filter(|(other, link)| **other != node && link.failures > 0).count() + 1;
        let link = links.entry(node).or_default();
        link.dialling = None;
        link.backing_off = Some((now + backoff(link.failures, silent), error));
        link.failures = link.failures.saturating_add(1);
    }

    /// Lets `node` be dialled again at once: others hear it.
    pub(super) fn pardon(&self, node: NodeId) {
        if let Some(link) = self.lock().get_mut(&node) {
            link.pardon();
        }
    }

    /// Notes that a dial succeeded; the connection was [added](Self::add).
    pub(super) fn dialled(&self, node: NodeId) {
        self.lock().entry(node).or_default().dialling = None;
    }

    /// Closes and forgets the links of everybody who is not in `table`, and lets those be dialled again at once whose
    /// address or key is not what it was `before`. Connections made with a key that was rotated since stay: whoever has
    /// lost control of a key removes the node.
    pub(super) fn keep_members(&self, before: &PeerTable, table: &PeerTable) {
        self.lock().retain(|node, link| {
            let member = table.get(node);
            if member.is_none() {
                link.connections.iter().for_each(|connection| CloseCode::Removed.close(connection));
            } else if member != before.get(node) {
                link.pardon();
            }
            member.is_some()
        });
    }
}

impl Link {
    /// Forgets its failures.
    fn pardon(&mut self) {
        self.failures = 0;
        self.backing_off = None;
    }
}

fn is_open(connection: &quinn::Connection) -> bool {
    connection.close_reason().is_none()
}

/// The pause after one more failure, where so many peers in all cannot be reached.
fn backoff(failures: u32, silent: usize) -> Duration {
    let longest = DIAL_EVERY.saturating_mul(u32::try_from(silent).unwrap_or(u32::MAX)).max(BACKOFF_MAX);
    BACKOFF_FIRST.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Peer;
    use waifud_model::digest::Fingerprint;

    fn error() -> PeerError {
        PeerError::ShuttingDown
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_dial_is_repeated_after_growing_pauses() {
        let (links, node) = (Links::default(), NodeId::from_random(1));
        let mut pause = BACKOFF_FIRST;
        for _ in 0..8 {
            assert!(matches!(links.next(node, Instant::now()), Next::Dial(_)));
            links.failed(node, error(), Instant::now());
            tokio::time::advance(pause - Duration::from_millis(1)).await;
            assert!(matches!(links.next(node, Instant::now()), Next::Fail(e) if e == error()));
            tokio::time::advance(Duration::from_millis(1)).await;
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    #[tokio::test]
    async fn one_dials_and_the_others_wait_for_it() {
        let (links, node) = (Links::default(), NodeId::from_random(1));
        let Next::Dial(done) = links.next(node, Instant::now()) else { panic!("the first must dial") };
        let Next::Wait(mut dialling) = links.next(node, Instant::now()) else { panic!("the second must wait") };
        drop(done);
        assert!(dialling.changed().await.is_err());
        // The dialling task died without a word: the next caller dials.
        assert!(matches!(links.next(node, Instant::now()), Next::Dial(_)));
    }

    #[tokio::test]
    async fn a_new_address_ends_the_backing_off_and_strangers_are_forgotten() {
        let (links, node) = (Links::default(), NodeId::from_random(1));
        let at = |host: u8| {
            let addr = ([10, 0, 0, host], 7400).into();
            let fingerprint = Fingerprint([1; 32]);
            PeerTable::from([(node, Peer { name: "n1".parse().unwrap(), addr, fingerprint })])
        };
        links.failed(node, error(), Instant::now());
        links.keep_members(&at(1), &at(1));
        assert!(matches!(links.next(node, Instant::now()), Next::Fail(_)), "somebody else changed");
        links.keep_members(&at(1), &at(2));
        assert!(matches!(links.next(node, Instant::now()), Next::Dial(_)));
        links.failed(node, error(), Instant::now());
        links.keep_members(&at(2), &PeerTable::new());
        assert!(links.lock().is_empty());
        assert!(matches!(links.next(node, Instant::now()), Next::Dial(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_that_are_silent_are_not_dialled_more_often_than_a_few() {
        let links = Links::default();
        let nodes: Vec<_> = (1..=300).map(NodeId::from_random).collect();
        let mut dials = 0;
        let end = Instant::now() + Duration::from_secs(600);
        while Instant::now() < end {
            for node in &nodes {
                if matches!(links.next(*node, Instant::now()), Next::Dial(_)) {
                    // The first minutes are those in which they are found to be silent.
                    dials += usize::from(Instant::now() + Duration::from_secs(300) > end);
                    links.failed(*node, error(), Instant::now());
                }
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!((1..=1200).contains(&dials), "{dials} dials in 300 seconds");
    }

    #[tokio::test]
    async fn whoever_is_heard_again_is_dialled_at_once() {
        let (links, node) = (Links::default(), NodeId::from_random(1));
        links.failed(node, error(), Instant::now());
        links.pardon(node);
        assert!(matches!(links.next(node, Instant::now()), Next::Dial(_)));
    }

    #[test]
    fn the_pause_is_bounded() {
        assert_eq!(backoff(0, 1), BACKOFF_FIRST);
        assert_eq!(backoff(1, 300), BACKOFF_FIRST * 2);
        assert_eq!(backoff(40, 1), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 12), BACKOFF_MAX);
        assert_eq!(backoff(u32::MAX, 300), Duration::from_secs(75));
    }
}

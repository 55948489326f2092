//! Messages on their way out: a short queue and a task for each member.
//!
//! chitchat sends from inside its only loop, which must never wait for a peer. What does not fit is dropped: the next
//! round says the same and more. One message at a time is on its way to a peer: were they all handed to QUIC at once, a
//! connection slower than the rounds would carry dozens of old ones side by side and finish none in time.

use crate::peers::{PeerError, Peers};
use bytes::Bytes;
use std::{collections::BTreeMap, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use waifud_model::ids::NodeId;

/// A round sends a peer at most a few messages; more in the queue means that it does not take them.
const QUEUE: usize = 4;
/// A message that could not be sent within this is old news.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// All queues.
#[derive(Debug)]
pub(super) struct Outboxes {
    peers: Peers,
    queues: BTreeMap<NodeId, mpsc::Sender<Bytes>>,
}

impl Outboxes {
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers, queues: BTreeMap::new() }
    }

    /// Hands `message` over and returns.
    pub(super) fn send(&mut self, to: NodeId, message: Bytes) {
        // A task ends when its node left the table.
        self.queues.retain(|_, queue| !queue.is_closed());
        let queue = self.queues.entry(to).or_insert_with(|| {
            let (queue, messages) = mpsc::channel(QUEUE);
            tokio::spawn(deliver(self.peers.clone(), to, messages));
            queue
        });
        if queue.try_send(message).is_err() {
            tracing::trace!(node = %to, "a gossip message was dropped");
        }
    }
}

async fn deliver(peers: Peers, to: NodeId, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        match timeout(SEND_TIMEOUT, peers.send_gossip(to, message)).await {
            Ok(Err(PeerError::Unknown(_) | PeerError::ShuttingDown)) => return,
            Ok(Err(error)) => tracing::trace!(%error, "a gossip message was lost"),
            Ok(Ok(())) | Err(_) => {}
        }
    }
}

//! The inside of the metadata peer: the packets that guests sent to the metadata address, and the answers.
//!
//! Whoever holds a [`PacketLink`] is that address. Sources are kept as the guests' own; that they are true is the taps'
//! and the routing rules' business. Full queues drop packets, as any network does: neither side can stop the other.

use bytes::Bytes;
use tokio::sync::mpsc;

/// Packets that may wait in each direction: enough for a window of 16 connections at 64 KiB, and at most 1.5 MB.
pub(crate) const PACKETS_WAITING: usize = 1024;

/// Decrypted IPv4 packets to and from 169.254.169.254.
#[derive(Debug)]
pub struct PacketLink {
    /// What guests sent. Ends when the mesh has stopped.
    pub rx: mpsc::Receiver<Bytes>,
    /// What is sent to them. Packets that do not come from the metadata address are dropped.
    pub tx: mpsc::Sender<Bytes>,
}

/// The other ends of a [`PacketLink`].
#[derive(Debug)]
pub(crate) struct Far {
    pub(crate) to_service: mpsc::Sender<Bytes>,
    pub(crate) from_service: mpsc::Receiver<Bytes>,
}

pub(crate) fn pair() -> (PacketLink, Far) {
    let (to_service, rx) = mpsc::channel(PACKETS_WAITING);
    let (tx, from_service) = mpsc::channel(PACKETS_WAITING);
    (PacketLink { rx, tx }, Far { to_service, from_service })
}

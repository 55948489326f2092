//! What is said on the wire before anything else: ALPN, the byte that begins a stream, and the codes that end things.

use async_trait::async_trait;
use quinn::VarInt;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use waifud_model::ids::NodeId;

/// Connections between members.
pub(crate) const MEMBER_ALPN: &[u8] = b"waifud/1";
/// Connections of machines that want to become members.
pub(crate) const JOIN_ALPN: &[u8] = b"waifud-join/1";

/// What the accepting side sends, on a stream of its own, once it has let a dialling member in. Without it the dialler
/// would take a finished handshake for success: in TLS 1.3 a client's certificate is judged after that.
pub(crate) const WELCOME: u8 = 1;

/// The largest gossip message. chitchat fills them up to 65,507 bytes, the most a UDP datagram holds, but does not count
/// its own head (four bytes), and our frame adds some: 1 KiB of room for both.
pub(crate) const GOSSIP_MESSAGE_MAX: usize = 65_507 + 1_024;

/// What a stream is for; the number is its first byte. Numbers are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Protocol {
    /// Membership and observations; one stream a message, in one direction.
    Gossip = 1,
    /// Consensus calls.
    Raft = 2,
    /// Consensus snapshots.
    Snapshot = 3,
    /// HTTP that another node has to answer, consoles too.
    Api = 4,
    /// Blocks of images.
    Image = 5,
}

impl Protocol {
    /// The protocol that a stream's first byte names.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Gossip, Self::Raft, Self::Snapshot, Self::Api, Self::Image].into_iter().find(|p| *p as u8 == byte)
    }

    /// Which stream's bytes go first when a connection is full: elections and heartbeats must not wait behind an image.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Gossip | Self::Raft => 2,
            Self::Api => 1,
            Self::Snapshot => 0,
            Self::Image => -1,
        }
    }
}

/// A stream between two members.
#[derive(Debug)]
pub struct PeerStream {
    /// Towards the peer. Dropping it finishes it; [`quinn::SendStream::reset`] says that something went wrong.
    pub send: quinn::SendStream,
    /// From the peer.
    pub recv: quinn::RecvStream,
}

/// The code under which a question is taken back.
const TAKEN_BACK: VarInt = VarInt::from_u32(101);

/// The sending side of a stream on which a question is asked. Dropped before it is [answered](Self::answered) it takes the question
/// back: otherwise QUIC would go on sending what was lost on the way, and it would be carried out seconds after the one who
/// asked had made do without.
#[derive(Debug)]
pub struct Question {
    pub(super) send: quinn::SendStream,
    answered: Arc<AtomicBool>,
}

/// Says that a question was answered; then its stream ends like any other.
#[derive(Debug, Clone)]
pub struct Answered(Arc<AtomicBool>);

impl Question {
    /// On this stream.
    #[must_use]
    pub fn on(send: quinn::SendStream) -> Self {
        Self { send, answered: Arc::default() }
    }

    /// What to tell it by, for whoever gives it away.
    #[must_use]
    pub fn answered(&self) -> Answered {
        Answered(Arc::clone(&self.answered))
    }
}

impl Answered {
    /// It is.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.answered.load(Ordering::Relaxed) {
            // Fails only when all of it has arrived, or the connection is gone.
            let _ = self.send.reset(TAKEN_BACK);
        }
    }
}

impl AsyncWrite for Question {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// Serves the streams of one protocol.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Serves one stream that `from` opened; the byte that named the protocol is already read. `from` is who the
    /// connection's key belongs to. Runs in a task of its own, which ends with the connection only when it next touches
    /// the stream.
    async fn serve(&self, from: NodeId, stream: PeerStream);
}

/// Why a connection ends; the number goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum CloseCode {
    /// The node stops.
    ShuttingDown = 0,
    /// The other side may not connect; the reason says why.
    Refused = 1,
    /// The other side was removed from the cluster.
    Removed = 2,
    /// The other side has more connections than it needs.
    Surplus = 3,
    /// A join is over.
    JoinOver = 4,
}

impl CloseCode {
    fn reason(self) -> &'static str {
        match self {
            Self::ShuttingDown => "the node is shutting down",
            Self::Refused => "refused",
            Self::Removed => "the node was removed from the cluster",
            Self::Surplus => "the node has newer connections",
            Self::JoinOver => "done",
        }
    }

    /// The number.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// Closes `connection`, with the standing reason.
    pub(crate) fn close(self, connection: &quinn::Connection) {
        connection.close(self.code(), self.reason().as_bytes());
    }

    /// Closes `connection`, with a reason for people.
    pub(crate) fn close_with(self, connection: &quinn::Connection, reason: &str) {
        connection.close(self.code(), reason.as_bytes());
    }

    /// Closes all connections of `endpoint`.
    pub(crate) fn close_endpoint(self, endpoint: &quinn::Endpoint) {
        endpoint.close(self.code(), self.reason().as_bytes());
    }
}

/// Why a single stream is refused; the number goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum StreamCode {
    /// Nothing serves this protocol here.
    Unserved = 1,
    /// The stream did not say what it is for.
    Silent = 2,
    /// Whoever sent it has no use for it any more.
    GivenUp = 3,
}

impl StreamCode {
    /// The number.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_found_by_its_byte() {
        for protocol in [Protocol::Gossip, Protocol::Raft, Protocol::Snapshot, Protocol::Api, Protocol::Image] {
            assert_eq!(Protocol::from_byte(protocol as u8), Some(protocol));
        }
        assert_eq!(Protocol::from_byte(0), None);
        assert_eq!(Protocol::from_byte(255), None);
    }
}

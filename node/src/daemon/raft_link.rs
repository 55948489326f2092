//! Carries consensus between nodes: its calls and snapshots go over the peers' QUIC streams.
//!
//! In: [`Transport`] calls of the local consensus, and streams of peers. Out: the same on the other side, where they are
//! served by the peer's [`Handle`]. The bytes are not looked into.
//!
//! ```text
//!   call      [kind: 1 byte][body]                            ──>  answer  |  stream reset: not served
//!   snapshot  [header length: u32, big endian][header][file]  ──>  answer  |  stream reset: not installed
//! ```

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use std::{path::PathBuf, time::Duration};
use tokio::io::AsyncReadExt as _;
use waifud_consensus::{Handle, RpcKind, Transport, TransportError};
use waifud_gossip::peers::{PeerError, PeerStream, Peers, Protocol, Service};
use waifud_model::ids::NodeId;

/// The largest call and the largest answer: a batch of log entries whose largest members are VMs with user-data.
const MESSAGE_MAX: usize = 64 << 20;
/// A snapshot's header is a vote and a membership.
const HEADER_MAX: u32 = 1 << 20;
/// The answer to a snapshot is a vote.
const SNAPSHOT_ANSWER_MAX: usize = 1 << 20;
/// Why a stream was reset, for whoever reads a packet trace; the other side only needs to know that it was.
const NOT_SERVED: u32 = 100;

/// The consensus' way to the other nodes.
#[derive(Debug, Clone)]
pub(super) struct RaftLink {
    peers: Peers,
}

impl RaftLink {
    /// Over these peers.
    #[must_use]
    pub(super) fn new(peers: Peers) -> Self {
        Self { peers }
    }
}

fn failed(node: NodeId, timeout: Duration) -> impl FnOnce(PeerError) -> TransportError {
    move |error| match error {
        error if error.never_sent() => TransportError::Unreachable { node, why: error.to_string() },
        PeerError::Timeout { .. } => TransportError::Timeout { node, after: timeout },
        error => TransportError::Broken { node, why: error.to_string() },
    }
}

#[async_trait]
impl Transport for RaftLink {
    async fn call(&self, to: NodeId, kind: RpcKind, body: Bytes, timeout: Duration) -> Result<Bytes, TransportError> {
        let mut request = BytesMut::with_capacity(body.len() + 1);
        request.put_u8(kind.byte());
        request.put(body);
        self.peers.call(to, Protocol::Raft, request.freeze(), timeout, MESSAGE_MAX).await.map_err(failed(to, timeout))
    }

    async fn send_snapshot(&self, to: NodeId, header: Bytes, file: PathBuf) -> Result<Bytes, TransportError> {
        let broken = |why: &dyn std::fmt::Display| TransportError::Broken { node: to, why: why.to_string() };
        // A failure to open has no timeout of its own; the caller bounds the whole.
        let PeerStream { mut send, mut recv } =
            self.peers.open(to, Protocol::Snapshot).await.map_err(failed(to, Duration::ZERO))?;
        let mut file = tokio::fs::File::open(file).await.map_err(|e| broken(&e))?;
        let length = u32::try_from(header.len()).map_err(|e| broken(&e))?;
        send.write_all(&length.to_be_bytes()).await.map_err(|e| broken(&e))?;
        send.write_all(&header).await.map_err(|e| broken(&e))?;
        tokio::io::copy(&mut file, &mut send).await.map_err(|e| broken(&e))?;
        send.finish().map_err(|e| broken(&e))?;
        let answer = recv.read_to_end(SNAPSHOT_ANSWER_MAX).await.map_err(|e| broken(&e))?;
        Ok(answer.into())
    }
}

/// Serves peers' calls.
#[derive(Debug)]
pub(super) struct RaftCalls(pub Handle);

#[async_trait]
impl Service for RaftCalls {
    async fn serve(&self, from: NodeId, mut stream: PeerStream) {
        let request = match stream.recv.read_to_end(MESSAGE_MAX).await {
            Ok(request) => Bytes::from(request),
            Err(error) => return tracing::debug!(%from, %error, "a consensus call broke off"),
        };
        let Some(kind) = request.first().copied().and_then(RpcKind::from_byte) else {
            tracing::warn!(%from, "a consensus call of an unknown kind; is that node newer than this one?");
            return refuse(stream);
        };
        match self.0.serve_call(from, kind, request.slice(1..)).await {
            Ok(answer) => reply(from, stream, answer).await,
            Err(error) => {
                tracing::debug!(%from, ?kind, %error, "a consensus call was not served");
                refuse(stream);
            }
        }
    }
}

/// Serves peers' snapshots.
#[derive(Debug)]
pub(super) struct RaftSnapshots(pub Handle);

#[async_trait]
impl Service for RaftSnapshots {
    async fn serve(&self, from: NodeId, mut stream: PeerStream) {
        let header = match read_header(&mut stream.recv).await {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(%from, %error, "a snapshot has no header");
                return refuse(stream);
            }
        };
        let served = self.0.serve_snapshot(from, header, &mut stream.recv).await;
        match served {
            Ok(answer) => reply(from, stream, answer).await,
            Err(error) => {
                tracing::warn!(%from, %error, "a snapshot was not installed");
                refuse(stream);
            }
        }
    }
}

async fn read_header(recv: &mut quinn::RecvStream) -> std::io::Result<Bytes> {
    let length = recv.read_u32().await?;
    if length > HEADER_MAX {
        return Err(std::io::Error::other(format!("the header claims {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    recv.read_exact(&mut header).await.map_err(std::io::Error::other)?;
    Ok(header.into())
}

async fn reply(to: NodeId, mut stream: PeerStream, answer: Bytes) {
    if let Err(error) = stream.send.write_chunk(answer).await {
        tracing::debug!(%to, %error, "an answer could not be sent");
    }
}

fn refuse(mut stream: PeerStream) {
    // Fails only when the stream is closed already, and then the peer knows.
    let _ = stream.send.reset(quinn::VarInt::from_u32(NOT_SERVED));
}

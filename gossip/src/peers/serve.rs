//! What comes in on a connection that stands: each stream goes to the service that its first byte names.

use super::{
    Inner,
    protocol::{GOSSIP_MESSAGE_MAX, PeerStream, Protocol, StreamCode},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use waifud_model::ids::NodeId;

/// How long a new stream may take to say what it is for, and a gossip message to arrive whole.
const FIRST_WORDS: Duration = Duration::from_secs(5);

/// Serves `connection`, whose key belongs to `node`, until it ends.
pub(super) async fn run(inner: Arc<Inner>, node: NodeId, connection: quinn::Connection) {
    tracing::debug!(%node, remote = %connection.remote_address(), "connected");
    let error = loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => drop(tokio::spawn(request(inner.clone(), node, PeerStream { send, recv }))),
                Err(error) => break error,
            },
            stream = connection.accept_uni() => match stream {
                Ok(recv) => drop(tokio::spawn(message(inner.clone(), node, recv))),
                Err(error) => break error,
            },
        }
    };
    tracing::debug!(%node, %error, "disconnected");
}

async fn first_byte(recv: &mut quinn::RecvStream) -> Option<u8> {
    let mut byte = [0];
    timeout(FIRST_WORDS, recv.read_exact(&mut byte)).await.ok()?.ok()?;
    Some(byte[0])
}

async fn request(inner: Arc<Inner>, node: NodeId, mut stream: PeerStream) {
    let Some(byte) = first_byte(&mut stream.recv).await else { return refuse(stream, StreamCode::Silent) };
    let Some((protocol, service)) = Protocol::from_byte(byte).and_then(|p| Some((p, inner.service(p)?))) else {
        tracing::debug!(%node, byte, "a stream nothing serves here");
        return refuse(stream, StreamCode::Unserved);
    };
    // Fails only on a stream that is already gone, which the service will see.
    let _ = stream.send.set_priority(protocol.priority());
    service.serve(node, stream).await;
}

fn refuse(mut stream: PeerStream, code: StreamCode) {
    // Both fail only when the stream is already gone.
    let _ = stream.send.reset(code.code());
    let _ = stream.recv.stop(code.code());
}

async fn message(inner: Arc<Inner>, node: NodeId, mut recv: quinn::RecvStream) {
    let Some((Protocol::Gossip, inbox)) = first_byte(&mut recv).await.and_then(Protocol::from_byte).zip(inner.gossip())
    else {
        let _ = recv.stop(StreamCode::Unserved.code());
        return;
    };
    match timeout(FIRST_WORDS, recv.read_to_end(GOSSIP_MESSAGE_MAX)).await {
        // Gossip is lossy by design: when it cannot keep up, the next message says the same and more.
        Ok(Ok(message)) => drop(inbox.try_send((node, Bytes::from(message)))),
        // This one would come again and again.
        Ok(Err(quinn::ReadToEndError::TooLong)) => tracing::warn!(%node, "a gossip message is too long"),
        Ok(Err(quinn::ReadToEndError::Read(_))) | Err(_) => {}
    }
}

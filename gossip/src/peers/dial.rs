//! From "I want to talk to that node" to a stream.
//!
//! A dial runs in a task of its own: a caller with little patience gives up alone and does not cut the dial short for
//! those who wait with him, nor start it over each time he tries again.

use super::{
    Inner,
    admission::{self, Refusal},
    error::PeerError,
    link::Next,
    protocol::{CloseCode, PeerStream, Protocol, StreamCode, WELCOME},
    serve, tls,
};
use crate::table::Peer;
use bytes::Bytes;
use quinn::ConnectionError;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use waifud_model::ids::NodeId;

/// How long a dial may take, handshake and welcome together. A request to another node has a second in all.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a stream may take to open on a connection that stands: it waits only when the peer holds back credit.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries until a stream opens. The second finds out that a pooled connection died since it was last looked at.
const TRIES: usize = 2;

/// Opens a bidirectional stream to `to`.
pub(super) async fn open(inner: &Arc<Inner>, to: NodeId, protocol: Protocol) -> Result<PeerStream, PeerError> {
    let mut last = PeerError::ShuttingDown;
    for _ in 0..TRIES {
        let connection = connection(inner, to).await?;
        match timeout(OPEN_TIMEOUT, connection.open_bi()).await {
            Ok(Ok((mut send, recv))) => {
                begin(to, &mut send, protocol).await?;
                return Ok(PeerStream { send, recv });
            }
            Ok(Err(error)) => last = lost(inner, to, &error),
            Err(_) => return Err(PeerError::Timeout { node: to, after: OPEN_TIMEOUT }),
        }
    }
    Err(last)
}

/// Sends `message` on a unidirectional stream of its own and waits until it has arrived: whoever sends the next one after
/// that never fills a slow connection with old news. Given up half-way, it is broken off and not delivered in part.
pub(super) async fn send_uni(
    inner: &Arc<Inner>,
    to: NodeId,
    protocol: Protocol,
    message: Bytes,
) -> Result<(), PeerError> {
    let connection = connection(inner, to).await?;
    let mut send = match timeout(OPEN_TIMEOUT, connection.open_uni()).await {
        Ok(opened) => opened.map_err(|error| lost(inner, to, &error))?,
        Err(_) => return Err(PeerError::Timeout { node: to, after: OPEN_TIMEOUT }),
    };
    begin(to, &mut send, protocol).await?;
    let lost = |why: String| PeerError::Lost { node: to, why };
    let mut whole = BreakOff(send);
    whole.0.write_chunk(message).await.map_err(|e| lost(e.to_string()))?;
    whole.0.finish().map_err(|e| lost(e.to_string()))?;
    match whole.0.stopped().await {
        Ok(None) => Ok(()),
        Ok(Some(code)) => Err(PeerError::Reset { node: to, code: code.into_inner() }),
        Err(error) => Err(lost(error.to_string())),
    }
}

/// A stream that is reset when it is dropped before all of it has arrived; quinn would finish it where it stands.
struct BreakOff(quinn::SendStream);

impl Drop for BreakOff {
    fn drop(&mut self) {
        // Fails when there is nothing left to reset.
        let _ = self.0.reset(StreamCode::GivenUp.code());
    }
}

async fn begin(to: NodeId, send: &mut quinn::SendStream, protocol: Protocol) -> Result<(), PeerError> {
    let lost = |why: String| PeerError::Lost { node: to, why };
    send.set_priority(protocol.priority()).map_err(|e| lost(e.to_string()))?;
    send.write_all(&[protocol as u8]).await.map_err(|e| lost(e.to_string()))
}

fn lost(inner: &Inner, to: NodeId, error: &ConnectionError) -> PeerError {
    if inner.stop.is_cancelled() {
        return PeerError::ShuttingDown;
    }
    PeerError::Lost { node: to, why: reason(error) }
}

/// A connection to `to`: one that stands, or a new one.
async fn connection(inner: &Arc<Inner>, to: NodeId) -> Result<quinn::Connection, PeerError> {
    loop {
        if inner.stop.is_cancelled() {
            return Err(PeerError::ShuttingDown);
        }
        if to == inner.me() {
            return Err(PeerError::Myself(to));
        }
        let peer = inner.table().get(&to).cloned().ok_or(PeerError::Unknown(to))?;
        let mut dialling = match inner.links.next(to, Instant::now()) {
            Next::Use(connection) => return Ok(connection),
            Next::Fail(error) => return Err(error),
            Next::Wait(dialling) => dialling,
            Next::Dial(done) => {
                let dialling = done.subscribe();
                tokio::spawn(dial_and_note(inner.clone(), to, peer, done));
                dialling
            }
        };
        // Closed by the dialling task at its end, whatever came of it; then the link tells.
        while dialling.changed().await.is_ok() {}
    }
}

async fn dial_and_note(inner: Arc<Inner>, to: NodeId, peer: Peer, done: watch::Sender<()>) {
    let outcome = tokio::select! {
        () = inner.stop.cancelled() => Err(PeerError::ShuttingDown),
        outcome = timeout(DIAL_TIMEOUT, dial(&inner, to, &peer)) => outcome.unwrap_or_else(|_| {
            Err(PeerError::Unreachable { node: to, name: peer.name.clone(), addr: peer.addr, why: "no answer".into() })
        }),
    };
    match outcome {
        Ok(connection) => {
            inner.links.dialled(to);
            tokio::spawn(serve::run(inner.clone(), to, connection));
        }
        Err(error) => {
            tracing::debug!(%error, "dial failed");
            inner.links.failed(to, error, Instant::now());
        }
    }
    drop(done);
}

async fn dial(inner: &Arc<Inner>, to: NodeId, peer: &Peer) -> Result<quinn::Connection, PeerError> {
    let unreachable = |why: String| PeerError::Unreachable { node: to, name: peer.name.clone(), addr: peer.addr, why };
    let impostor = |why: String| PeerError::Impostor { node: to, name: peer.name.clone(), addr: peer.addr, why };
    let identity = inner.identity.borrow().clone();
    let config = tls::client_config(&identity).map_err(|e| unreachable(e.to_string()))?;
    let connecting =
        inner.endpoint.connect_with(config, peer.addr, &to.dns_name()).map_err(|e| unreachable(e.to_string()))?;
    let connection = connecting.await.map_err(|e| match &e {
        // Verification of the server's certificate fails on this side, as a TLS alert.
        ConnectionError::TransportError(e) => impostor(e.to_string()),
        e => unreachable(reason(e)),
    })?;
    let verdict = admission::certified(&connection)
        .and_then(|(subject, key)| admission::admit_only(&inner.table(), identity.subject(), subject, key, to));
    if let Err(refusal) = verdict {
        CloseCode::Refused.close_with(&connection, &refusal.to_string());
        return Err(impostor(refusal.to_string()));
    }
    if let Err(error) = welcome(&connection).await {
        let why = reason(&error);
        return Err(match &error {
            ConnectionError::ApplicationClosed(close) if close.error_code != CloseCode::Refused.code() => {
                unreachable(why)
            }
            // A certificate of another CA is refused by TLS itself, which closes below the application.
            ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => {
                PeerError::Refused { node: to, name: peer.name.clone(), addr: peer.addr, why }
            }
            _ => unreachable(why),
        });
    }
    let still_member = || inner.table().get(&to).is_some_and(|now| now.fingerprint == peer.fingerprint);
    if !inner.links.add(to, &connection, still_member) {
        CloseCode::Refused.close_with(&connection, &Refusal::NotAMember(to).to_string());
        return Err(PeerError::Unknown(to));
    }
    Ok(connection)
}

/// Waits until the other side has let this node in.
async fn welcome(connection: &quinn::Connection) -> Result<(), ConnectionError> {
    let mut stream = connection.accept_uni().await?;
    let mut byte = [0];
    if stream.read_exact(&mut byte).await.is_ok() && byte == [WELCOME] {
        return Ok(());
    }
    // Either the connection was closed, and says why, or what is there speaks another language.
    CloseCode::Refused.close_with(connection, "that is no welcome");
    Err(connection.closed().await)
}

/// Why a connection ended, in the other side's words where it gave some.
fn reason(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        ConnectionError::TimedOut => "no answer".into(),
        error => error.to_string(),
    }
}

//! Connections that others make: limits first, then TLS, then the decision who it is, then the welcome.
//!
//! A stranger costs little: past [`UNPROVEN_MAX`] handshakes at once, whoever has not proved that he receives at his
//! address is asked to (QUIC retry, stateless on our side), and past [`HANDSHAKES_MAX`] he is turned away.

use super::{
    Inner,
    admission::{self, Refusal},
    protocol::{CloseCode, JOIN_ALPN, MEMBER_ALPN, WELCOME},
    serve, transport,
};
use crate::join;
use quinn::crypto::rustls::HandshakeData;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use waifud_model::ids::NodeId;

/// Handshakes at once. A power cycle of a hundred nodes fits; a flood does not.
const HANDSHAKES_MAX: usize = 128;
/// Handshakes at once with people whose address is not proven.
const UNPROVEN_MAX: usize = 32;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Joins at once. A rack that is set up in one go fits; each has shown the token within seconds or is gone.
const JOINS_MAX: usize = 64;

/// Accepts until the endpoint stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let joins = Arc::new(Semaphore::new(JOINS_MAX));
    while let Some(incoming) = inner.endpoint.accept().await {
        let under_way = HANDSHAKES_MAX - handshakes.available_permits();
        if under_way >= UNPROVEN_MAX && !incoming.remote_address_validated() && incoming.may_retry() {
            if let Err(error) = incoming.retry() {
                error.into_incoming().refuse();
            }
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        tokio::spawn(handshake(inner.clone(), incoming, permit, joins.clone()));
    }
}

async fn handshake(inner: Arc<Inner>, incoming: quinn::Incoming, permit: OwnedSemaphorePermit, joins: Arc<Semaphore>) {
    let remote = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "handshake failed"),
        Err(_) => return tracing::debug!(%remote, "handshake took too long"),
    };
    drop(permit);
    let data = connection.handshake_data().and_then(|any| any.downcast::<HandshakeData>().ok());
    match data.as_ref().and_then(|data| data.protocol.as_deref()) {
        Some(MEMBER_ALPN) => match admit(&inner, &connection).await {
            Ok(node) => serve::run(inner, node, connection).await,
            Err(refusal) => {
                tracing::warn!(%remote, %refusal, "a peer was refused");
                CloseCode::Refused.close_with(&connection, &refusal.to_string());
            }
        },
        Some(JOIN_ALPN) => match (inner.desk(), joins.try_acquire_owned()) {
            (Some(desk), Ok(_permit)) => {
                join::serve(&connection, &*desk).await;
                CloseCode::JoinOver.close(&connection);
            }
            (None, _) => CloseCode::Refused.close_with(&connection, "this node cannot let others join yet"),
            (_, Err(_)) => CloseCode::Refused.close_with(&connection, "too many machines join at once; try again"),
        },
        _ => CloseCode::Refused.close_with(&connection, &Refusal::NoProtocol.to_string()),
    }
}

/// Decides, welcomes and keeps the connection.
async fn admit(inner: &Arc<Inner>, connection: &quinn::Connection) -> Result<NodeId, Refusal> {
    let myself = inner.identity.borrow().subject();
    let (subject, key) = admission::certified(connection)?;
    let node = admission::admit(&inner.table(), myself, subject, key)?;
    transport::trust(connection);
    // The first stream this side opens: the dialler takes it for the welcome. If it does not get there the connection
    // is dead, which the serving task will see.
    let _ = timeout(HANDSHAKE_TIMEOUT, welcome(connection)).await;
    let still_member = || admission::admit(&inner.table(), myself, subject, key).is_ok();
    if inner.links.add(node, connection, still_member) { Ok(node) } else { Err(Refusal::NotAMember(node)) }
}

async fn welcome(connection: &quinn::Connection) -> Option<()> {
    let mut stream = connection.open_uni().await.ok()?;
    stream.write_all(&[WELCOME]).await.ok()
}

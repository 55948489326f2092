//! Connections: HTTP/1 on each stream that the listener gives, with limits on what a client may send and how slowly.
//!
//! Bounded by the stack: it accepts no more than [`Limits`](crate::stack::Limits) allow.

use crate::stack::{Listener, Peer, Stream};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// From the end of one answer (or the start) to the end of the next request's headers: slower is not worth the place.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a request's line and headers; tokens and the names of clients are short.
const HEADER_BYTES: usize = 16 * 1024;
/// Header fields of a request.
const HEADERS: usize = 64;
/// How long answers may take that are under way when the service is told to stop.
const GRACE: Duration = Duration::from_secs(1);

/// Serves until `stop`, or until the stack has ended because its packets did.
pub async fn run(mut listener: Listener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            next = listener.next() => match next {
                Some((stream, peer)) => {
                    connections.spawn(serve(stream, peer, router.clone(), stop.clone()));
                }
                None => break,
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection of the metadata service failed");
                }
            }
        }
    }
    let ended = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::debug!(connections = connections.len(), "answers were cut off");
    }
}

async fn serve(stream: Stream, peer: Peer, router: Router, stop: CancellationToken) {
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        // A router is always ready.
        router.clone().call(request)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN).max_headers(HEADERS).max_buf_size(HEADER_BYTES);
    // `nc` and others say that they are done before they are answered.
    server.half_close(true);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::trace!(%error, peer = %peer.0, "a connection ended early");
    }
}

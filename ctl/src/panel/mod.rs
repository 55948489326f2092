//! The panel for a browser on this machine: a local address that passes everything on to the API.
//!
//! ```text
//!   browser ── HTTP/1, 127.0.0.1:port, cookie ──> door.rs  may it come in? ──> proxy.rs ── socket or HTTPS ──> a node
//! ```
//!
//! In: a client that is already allowed to use the API. Out: the same for one browser, let in by a link that works once. It
//! must not become a door for anybody else on the machine or for other web sites: see `door.rs`.

mod door;
mod proxy;
#[cfg(test)]
mod tests;

pub(crate) use door::Door;

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use waifud_api::client::Client;

/// A browser that opens a connection and says nothing for this long is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause after a connection could not be taken: out of file descriptors, usually, which passes.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, door: Door, client: Client) -> io::Result<()> {
    let door = Arc::new(door);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (door, client) = (Arc::clone(&door), client.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let (door, client) = (Arc::clone(&door), client.clone());
                async move { Ok::<_, std::convert::Infallible>(proxy::handle(&door, &client, request).await) }
            });
            // How a browser's connection ends is the browser's business.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

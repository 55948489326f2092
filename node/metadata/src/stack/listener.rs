//! Where accepted connections come out, with the address that the accepted socket itself tells.

use super::stream::Stream;
use axum::{extract::connect_info::Connected, serve::IncomingStream};
use std::{io, net::SocketAddrV4};
use tokio::sync::mpsc;

/// Who is at the other end of an accepted connection: the remote end of the accepted socket, never what a header or an
/// earlier packet said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(pub SocketAddrV4);

/// Accepts connections. Use it as axum's listener, or by [`Listener::next`].
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<(Stream, Peer)>,
    local: SocketAddrV4,
}

impl Listener {
    pub(super) fn new(accepted: mpsc::Receiver<(Stream, Peer)>, local: SocketAddrV4) -> Self {
        Self { accepted, local }
    }

    /// The next connection; none when the stack has ended because its packets did. Cancel safe.
    pub async fn next(&mut self) -> Option<(Stream, Peer)> {
        self.accepted.recv().await
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddrV4;

    /// Waits for ever when the stack has ended: axum's listeners cannot say so. [`Listener::next`] can.
    async fn accept(&mut self) -> (Stream, SocketAddrV4) {
        match self.next().await {
            Some((stream, peer)) => (stream, peer.0),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddrV4> {
        Ok(self.local)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self(*stream.remote_addr())
    }
}

//! An accepted connection, as axum and hyper see it.
//!
//! Reads and writes copy from and to the socket's buffers and ring the driver when packets have to follow. Must not send
//! packets itself: the driver alone does.

use super::connection::{Bell, Connection, RECEIVE_BUFFER};
use smoltcp::socket::tcp::RecvError;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One accepted connection. Dropping it closes it in order: what was written is still sent.
#[derive(Debug)]
pub struct Stream {
    connection: Arc<Connection>,
    bell: Arc<Bell>,
}

impl Stream {
    pub(super) fn new(connection: Arc<Connection>, bell: Arc<Bell>) -> Self {
        Self { connection, bell }
    }

    fn write(&self, cx: &Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut socket = self.connection.lock();
        let tcp = socket.tcp();
        if !tcp.may_send() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut written = 0;
        for part in parts {
            let taken = tcp.send_slice(part).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            written += taken;
            if taken < part.len() {
                break;
            }
        }
        if written == 0 && parts.iter().any(|part| !part.is_empty()) {
            tcp.register_send_waker(cx.waker());
            return Poll::Pending;
        }
        drop(socket);
        self.bell.ring(&self.connection);
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.connection.lock();
        let tcp = socket.tcp();
        let waiting = tcp.recv_queue();
        match tcp.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) if waiting == 0 && buffer.remaining() > 0 => {
                tcp.register_recv_waker(cx.waker());
                return Poll::Pending;
            }
            Ok(read) => buffer.advance(read),
            // The peer said that this was all.
            Err(RecvError::Finished) => {}
            Err(RecvError::InvalidState) => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
        drop(socket);
        // The peer learns of the room with the answer; only who may have run out of it has to be told at once.
        if waiting >= RECEIVE_BUFFER / 2 {
            self.bell.ring(&self.connection);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing waits here for more to come: what was written is on its way.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.lock().tcp().close();
        self.bell.ring(&self.connection);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.lock().tcp().close();
        self.connection.release();
        self.bell.ring(&self.connection);
    }
}

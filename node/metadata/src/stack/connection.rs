//! One connection: its smoltcp socket, and how its stream tells the driver that there is something to do.
//!
//! The socket is shared by the stream (which reads and writes its buffers) and the driver (which moves its packets); each
//! holds the lock for the time of a copy, never across an await.

use smoltcp::{
    iface::{SocketHandle, SocketSet},
    socket::tcp,
    time::Duration,
};
use std::{
    net::SocketAddrV4,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;

/// Bytes received and not yet read. Requests are a few hundred bytes, and their headers are limited to twice this; what is
/// longer waits at the sender.
pub(super) const RECEIVE_BUFFER: usize = 8 * 1024;

/// Bytes sent and not yet acknowledged. A round trip to a guest is some 0.2 ms, so this allows 160 MB/s to each.
const SEND_BUFFER: usize = 32 * 1024;

/// A peer from which nothing was heard for this long is gone: a guest that was switched off says nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// A connection, as its stream and the driver share it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Where the SYN came from; the key in the driver's table. What an *accepted* connection tells about itself comes from
    /// the socket.
    pub(super) peer: SocketAddrV4,
    socket: Mutex<Socket>,
    /// Its key waits in the bell already.
    rung: AtomicBool,
    /// The stream is gone; the socket says goodbye on its own.
    released: AtomicBool,
}

/// A set of one: smoltcp drives sockets by sets, and a set of its own keeps each connection's packets away from all others.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
}

impl Socket {
    pub(super) fn tcp(&mut self) -> &mut tcp::Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

impl Connection {
    /// A socket that waits for the SYN of `peer`; none if `local` cannot be listened on.
    pub(super) fn listening(peer: SocketAddrV4, local: SocketAddrV4) -> Option<Self> {
        let buffer = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BUFFER), buffer(SEND_BUFFER));
        socket.set_timeout(Some(SILENCE));
        // Answers are written whole; holding back their ends would only make them late.
        socket.set_nagle_enabled(false);
        socket.listen((*local.ip(), local.port())).ok()?;
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        Some(Self {
            peer,
            socket: Mutex::new(Socket { set, handle }),
            rung: AtomicBool::new(false),
            released: AtomicBool::new(false),
        })
    }

    /// The socket. A panic while it was held cannot leave it in pieces for others: the driver takes a socket whose packet made
    /// smoltcp panic out of service.
    pub(super) fn lock(&self) -> MutexGuard<'_, Socket> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
    }

    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }
}

/// Tells the driver which connections have something to say.
///
/// Bounded by the number of connections: each is in it once.
#[derive(Debug, Default)]
pub(super) struct Bell {
    waiting: Mutex<Vec<SocketAddrV4>>,
    rang: Notify,
}

impl Bell {
    /// This connection has something to do.
    pub(super) fn ring(&self, connection: &Connection) {
        if !connection.rung.swap(true, Ordering::AcqRel) {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(connection.peer);
            self.rang.notify_one();
        }
    }

    /// From now on the connection rings again. Before its socket is looked at, so that nothing is missed in between.
    pub(super) fn heard(connection: &Connection) {
        connection.rung.store(false, Ordering::Release);
    }

    /// Waits until somebody rings.
    pub(super) async fn rang(&self) {
        self.rang.notified().await;
    }

    /// Moves who rang to `into`, which is empty.
    pub(super) fn take(&self, into: &mut Vec<SocketAddrV4>) {
        std::mem::swap(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

//! A TCP stack for one service, in this process: raw IPv4 packets in, accepted connections out.
//!
//! ```text
//!   packets ──> segment ──> admission ──> driver ──> smoltcp socket ──> Listener ──> Stream
//!            only TCP to    a SYN needs   one task,   one for each
//!            our end        room          all timers  remote end
//!   packets <───────────── device <───────────────── <─────────────────────────────── Stream
//! ```
//!
//! Every connection has a socket of its own, found by the remote end's address and port before smoltcp sees the packet. So a
//! SYN that comes twice can only reach the socket that it opened, nobody's packets are offered to another's socket, and a
//! packet costs the same whatever the number of connections. Who is at the other end is what the *accepted socket* says.
//!
//! All that a sender can make us keep is bounded by [`Limits`]. Nothing here knows HTTP, WireGuard or what guests are.

mod admission;
mod connection;
mod device;
mod driver;
mod entry;
mod listener;
mod segment;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddrV4;
use tokio::sync::mpsc;

pub use admission::Limits;
pub use listener::{Listener, Peer};
pub use stream::Stream;

/// The largest IP packet that is sent, in bytes: what WireGuard leaves of an Ethernet frame, and the MTU of the guests' bridge.
/// The segment size told to peers follows from it.
pub const MTU: usize = 1420;

/// The userspace TCP stack.
#[derive(Debug)]
pub struct Stack;

impl Stack {
    /// Starts the stack's task on this runtime, and gives what accepts connections to `local`.
    ///
    /// `rx` and `tx` carry whole IPv4 packets. The stack never waits for `tx` before it takes from `rx`: while `tx` is full
    /// it keeps data in its sockets and drops what comes in, as any router does.
    ///
    /// The task ends when `rx` or `tx` is closed, or when the listener and all its streams are gone. Connections that are open
    /// then fail; a stack that is started anew knows nothing of them and answers with RST.
    #[must_use]
    pub fn start<P>(rx: mpsc::Receiver<P>, tx: mpsc::Sender<P>, local: SocketAddrV4, limits: Limits) -> Listener
    where
        P: AsRef<[u8]> + From<Vec<u8>> + Send + 'static,
    {
        // As many as can be open at all, so that handing one over never has to wait.
        let (accepted, listener) = mpsc::channel(limits.connections.max(1));
        tokio::spawn(driver::Driver::new(tx, accepted, local, limits).run(rx));
        Listener::new(listener, local)
    }
}

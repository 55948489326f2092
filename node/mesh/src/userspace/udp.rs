//! The mesh's UDP socket, and datagrams in batches.
//!
//! One socket for both families (IPv4 alone where the host has no IPv6). Up to 64 datagrams of one size to one
//! destination go to the kernel in one call (UDP segmentation offload), and come from it so too. Addresses outside of this file
//! are plain: an IPv4 peer is never seen as an IPv6 one.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// What a socket may hold in each direction: wireguard-go's figure. The default of 208 KiB is three batches.
const SOCKET_BUFFER: usize = 7 << 20;

/// The most that one call may carry: the largest UDP payload over IPv4.
const BATCH_BYTES: usize = 65_507;

/// Batches taken from the socket in one call. Each may be 64 KiB; more would only leave the cache before they are decrypted.
const RECEIVE: usize = 4;

pub(super) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Bound to `[::]`, so IPv4 addresses are written as mapped ones.
    dual: bool,
}

impl Udp {
    /// Must be called on the runtime that receives.
    pub(super) fn bind(port: u16) -> io::Result<Self> {
        let (socket, dual) = match std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Ok(socket) => (socket, true),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // No IPv6 on this host.
            Err(_) => (std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?, false),
        };
        let state = UdpSocketState::new((&socket).into())?;
        // quinn forbids fragments because it finds the path's MTU itself. WireGuard does not: where the network between two nodes
        // carries less than 1,500 bytes, fragments are slow and nothing at all is worse.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        for forced in [
            setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER),
            setsockopt(&socket, sockopt::SndBufForce, &SOCKET_BUFFER),
        ] {
            if let Err(error) = forced {
                tracing::debug!(%error, "the mesh's socket keeps its default buffers");
            }
        }
        Ok(Self { socket: UdpSocket::from_std(socket)?, state, dual })
    }

    pub(super) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    fn outer(&self, address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if self.dual => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            _ => address,
        }
    }

    /// One datagram, now or never: for handshakes, which are repeated by themselves.
    pub(super) fn send_now(&self, datagram: &[u8], destination: SocketAddr) {
        let transmit = Transmit {
            destination: self.outer(destination),
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: None,
        };
        // The kernel is asked whatever the runtime thinks of the socket: a fresh one, by which the first handshakes go, is not
        // writable until the runtime has looked, and the next try would be five seconds later.
        if let Err(error) = self.state.try_send((&self.socket).into(), &transmit) {
            tracing::debug!(%destination, %error, "message not sent");
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), transmit))
    }

    async fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        loop {
            match self.try_send(transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                other => return other,
            }
        }
    }

    /// Waits until there may be something to [`Self::receive`].
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// What is there, without waiting.
    pub(super) fn receive(&self, received: &mut Received) -> io::Result<()> {
        received.filled = 0;
        let Received { buffers, meta, filled } = received;
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        *filled =
            self.socket.try_io(Interest::READABLE, || self.state.recv((&self.socket).into(), &mut slices, meta))?;
        Ok(())
    }
}

/// Room for what one call receives.
pub(super) struct Received {
    buffers: [Vec<u8>; RECEIVE],
    meta: [RecvMeta; RECEIVE],
    filled: usize,
}

impl Received {
    pub(super) fn new() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; usize::from(u16::MAX)]),
            meta: [RecvMeta::default(); RECEIVE],
            filled: 0,
        }
    }

    /// The batches: who sent one, its bytes, and how long each datagram in it is (the last may be shorter).
    pub(super) fn batches(&self) -> impl Iterator<Item = (SocketAddr, &[u8], usize)> {
        self.meta[..self.filled].iter().zip(&self.buffers).map(|(meta, buffer)| {
            let from = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            (from, &buffer[..meta.len], meta.stride.max(1))
        })
    }
}

/// Datagrams of one size to one destination, one behind the other, that wait to be sent together. The last may be
/// shorter, and then is the last.
pub(super) struct Batch {
    bytes: Vec<u8>,
    used: usize,
    segment: usize,
    count: usize,
    destination: Option<SocketAddr>,
    closed: bool,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH_BYTES + usize::from(u16::MAX)],
            used: 0,
            segment: 0,
            count: 0,
            destination: None,
            closed: false,
        }
    }

    /// Whether a datagram of `length` bytes to `destination` may still join.
    pub(super) fn takes(&self, udp: &Udp, destination: SocketAddr, length: usize) -> bool {
        match self.destination {
            None => true,
            Some(before) => {
                before == destination
                    && !self.closed
                    && length <= self.segment
                    && self.used + length <= BATCH_BYTES
                    && self.count < udp.state.max_gso_segments()
            }
        }
    }

    /// Where the next datagram is to be written.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.used..]
    }

    /// `length` bytes have been written to [`Self::room`].
    pub(super) fn push(&mut self, destination: SocketAddr, length: usize) {
        if self.destination.is_none() {
            self.destination = Some(destination);
            self.segment = length;
        }
        self.closed |= length < self.segment;
        self.used += length;
        self.count += 1;
    }

    /// Sends what is there, waiting for the socket if it is full. What cannot be sent is lost, as on any wire.
    pub(super) async fn flush(&mut self, udp: &Udp) {
        let Some(destination) = self.destination.take() else {
            return;
        };
        let contents = &self.bytes[..self.used];
        let mut transmit = Transmit {
            destination: udp.outer(destination),
            ecn: None,
            contents,
            segment_size: (self.count > 1).then_some(self.segment),
            src_ip: None,
        };
        let mut sent = udp.send(&transmit).await;
        if sent.is_err() && self.count > 1 {
            // A card, or a path whose MTU is smaller than a segment, that cannot have batches.
            transmit.segment_size = None;
            for datagram in contents.chunks(self.segment) {
                transmit.contents = datagram;
                sent = udp.send(&transmit).await;
            }
        }
        if let Err(error) = sent {
            tracing::debug!(%destination, %error, "datagrams not sent");
        }
        (self.used, self.segment, self.count, self.closed) = (0, 0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(udp: &Udp, received: &mut Received) -> Vec<(SocketAddr, Vec<u8>)> {
        loop {
            udp.readable().await.unwrap();
            match udp.receive(received) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        received
            .batches()
            .flat_map(|(from, bytes, stride)| bytes.chunks(stride).map(move |datagram| (from, datagram.to_vec())))
            .collect()
    }

    #[tokio::test]
    async fn a_batch_arrives_as_the_datagrams_it_was_made_of() {
        let (a, b) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, b.port().unwrap()));
        let mut batch = Batch::new();
        let sent: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; if n == 9 { 70 } else { 100 }]).collect();
        for datagram in &sent {
            assert!(batch.takes(&a, to, datagram.len()));
            batch.room()[..datagram.len()].copy_from_slice(datagram);
            batch.push(to, datagram.len());
        }
        assert!(!batch.takes(&a, to, 70), "a shorter one is the last");
        batch.flush(&a).await;
        assert!(batch.takes(&a, to, 1400), "empty again");
        let mut received = Received::new();
        let mut got = Vec::new();
        while got.len() < sent.len() {
            got.extend(receive(&b, &mut received).await);
        }
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, a.port().unwrap()));
        assert_eq!(got, sent.into_iter().map(|datagram| (from, datagram)).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_batch_is_of_one_destination_and_one_size() {
        let udp = Udp::bind(0).unwrap();
        let (one, other) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        let mut batch = Batch::new();
        batch.push(one, 100);
        assert!(batch.takes(&udp, one, 100));
        assert!(!batch.takes(&udp, other, 100));
        assert!(!batch.takes(&udp, one, 101));
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_said_to_be() {
        let first = Udp::bind(0).unwrap();
        let again = Udp::bind(first.port().unwrap());
        assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    }

    #[tokio::test]
    async fn a_message_leaves_before_the_runtime_has_looked_at_the_socket() {
        let peer = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        peer.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        Udp::bind(0).unwrap().send_now(b"hello", peer.local_addr().unwrap());
        let mut heard = [0; 16];
        let (length, _) = peer.recv_from(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"hello");
    }
}

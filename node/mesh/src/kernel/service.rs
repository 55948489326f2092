//! The metadata service's end of its tunnel, when the other end is the kernel's: one `Tunn` and a UDP socket on the loopback.
//!
//! In and out: WireGuard messages with the kernel's port on 127.0.0.1 and nobody else; decrypted packets with the
//! [`PacketLink`](crate::PacketLink). Nothing of it leaves the machine, and the port takes no part in the mesh.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use boringtun::noise::{Tunn, TunnResult};
use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::METADATA_ADDRESS;
use crate::error::MeshError;
use crate::key::{PrivateKey, PublicKey};
use crate::link::{Far, PACKETS_WAITING};
use crate::packet::{self, DATA_OVERHEAD, LONGEST_HANDSHAKE};

/// How often a `Tunn` wants to be looked at.
const TICK: std::time::Duration = std::time::Duration::from_millis(250);

/// The kernel's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostEnd {
    pub(super) key: PublicKey,
    pub(super) address: SocketAddr,
}

/// A handle to the task.
#[derive(Debug)]
pub(super) struct Service {
    key: PublicKey,
    address: SocketAddr,
    host: watch::Sender<HostEnd>,
    stop: CancellationToken,
    /// Cancelled by the task when it ends, however it ends.
    stopped: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Service {
    pub(super) async fn start(key: PrivateKey, host: HostEnd, mtu: u16, far: Far) -> Result<Self, MeshError> {
        let bind = |source| MeshError::Bind { port: 0, source };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        let (public, room) = (key.public(), usize::from(mtu) + DATA_OVERHEAD + LONGEST_HANDSHAKE);
        let (give_host, take_host) = watch::channel(host);
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let end = End {
            tunn: tunn(&key, host.key),
            key,
            host,
            socket,
            to_service: far.to_service.clone(),
            scratch: vec![0; room.max(2048)],
        };
        let (token, done) = (stop.clone(), stopped.clone().drop_guard());
        tokio::spawn(async move {
            let _done = done;
            tokio::select! {
                ended = end.run(take_host, far) => if let Err(error) = ended {
                    tracing::warn!(%error, "the metadata peer has ended");
                },
                () = token.cancelled() => {}
            }
        });
        Ok(Self { key: public, address, host: give_host, stop, stopped })
    }

    pub(super) fn key(&self) -> PublicKey {
        self.key
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The node's key or port may have changed.
    pub(super) fn host_is(&self, host: HostEnd) {
        self.host.send_if_modified(|before| std::mem::replace(before, host) != host);
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    pub(super) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

fn tunn(key: &PrivateKey, host: PublicKey) -> Tunn {
    Tunn::new(key.secret(), host.point(), None, None, 0, None)
}

struct End {
    key: PrivateKey,
    tunn: Tunn,
    host: HostEnd,
    socket: UdpSocket,
    to_service: tokio::sync::mpsc::Sender<Bytes>,
    scratch: Vec<u8>,
}

impl End {
    async fn run(mut self, mut hosts: watch::Receiver<HostEnd>, mut far: Far) -> io::Result<()> {
        let mut clock = tokio::time::interval(TICK);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut datagram = vec![0; self.scratch.len()];
        let mut packets = Vec::new();
        let mut serving = true;
        loop {
            tokio::select! {
                received = self.socket.recv_from(&mut datagram) => match received {
                    // Anybody on this machine can send to a loopback port; only the kernel's is listened to.
                    Ok((length, from)) if from == self.host.address => self.received(&datagram[..length]).await,
                    Ok(_) => {}
                    // The kernel's port is not open (yet).
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                },
                count = far.from_service.recv_many(&mut packets, PACKETS_WAITING), if serving => {
                    serving = count > 0;
                    for packet in packets.drain(..) {
                        self.answer(&packet).await;
                    }
                }
                _ = clock.tick() => {
                    if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut self.scratch) {
                        send(&self.socket, message, self.host.address).await;
                    }
                }
                Ok(()) = hosts.changed() => {
                    let host = *hosts.borrow_and_update();
                    if host.key != self.host.key {
                        self.tunn = tunn(&self.key, host.key);
                    }
                    self.host = host;
                }
            }
        }
    }

    async fn received(&mut self, datagram: &[u8]) {
        let mut datagram = datagram;
        loop {
            match self.tunn.decapsulate(None, datagram, &mut self.scratch) {
                TunnResult::WriteToNetwork(message) => send(&self.socket, message, self.host.address).await,
                TunnResult::WriteToTunnelV4(packet, _) => {
                    // Full or gone: dropped, as on any network.
                    if self.to_service.try_send(Bytes::copy_from_slice(packet)).is_err() {
                        tracing::debug!("the metadata service is behind; packet dropped");
                    }
                    return;
                }
                _ => return,
            }
            // An answer was sent, so packets may have waited for it: an empty datagram asks for them.
            datagram = &[];
        }
    }

    async fn answer(&mut self, packet: &[u8]) {
        if packet::source(packet) != Some(METADATA_ADDRESS) || packet.len() + DATA_OVERHEAD > self.scratch.len() {
            tracing::debug!("a packet of the metadata service that is not its own; dropped");
            return;
        }
        if let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(packet, &mut self.scratch) {
            send(&self.socket, message, self.host.address).await;
        }
    }
}

async fn send(socket: &UdpSocket, message: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(message, to).await {
        tracing::debug!(%error, "message to the kernel's end not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's end, played by another `Tunn` on a socket of its own.
    #[tokio::test]
    async fn packets_pass_both_ways() {
        let host_key = PrivateKey::generate().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let host = HostEnd { key: host_key.public(), address: socket.local_addr().unwrap() };
        let (mut near, far) = crate::link::pair();
        let service = Service::start(PrivateKey::generate().unwrap(), host, 1420, far).await.unwrap();
        let mut kernel = Tunn::new(host_key.secret(), service.key().point(), None, None, 9, None);

        let mut request = vec![0u8; 24];
        request[0] = 0x45;
        request[3] = 24;
        request[12..16].copy_from_slice(&[10, 77, 1, 9]);
        request[16..20].copy_from_slice(&METADATA_ADDRESS.octets());
        let mut answer = request.clone();
        answer[12..16].copy_from_slice(&METADATA_ADDRESS.octets());
        answer[16..20].copy_from_slice(&[10, 77, 1, 9]);

        let (mut out, mut datagram) = (vec![0; 2048], vec![0; 2048]);
        if let TunnResult::WriteToNetwork(message) = kernel.encapsulate(&request, &mut out) {
            socket.send_to(message, service.address()).await.unwrap();
        }
        // A stranger on the same machine is not listened to.
        UdpSocket::bind("127.0.0.1:0").await.unwrap().send_to(&[4; 64], service.address()).await.unwrap();
        let mut answered = false;
        loop {
            let (length, _) = socket.recv_from(&mut datagram).await.unwrap();
            let mut received = &datagram[..length];
            loop {
                match kernel.decapsulate(None, received, &mut out) {
                    TunnResult::WriteToNetwork(message) => {
                        socket.send_to(message, service.address()).await.unwrap();
                        received = &[];
                    }
                    TunnResult::WriteToTunnelV4(packet, _) => {
                        assert_eq!(packet, answer);
                        return;
                    }
                    _ => break,
                }
            }
            if !answered {
                assert_eq!(near.rx.recv().await.unwrap(), request);
                near.tx.send(Bytes::from(answer.clone())).await.unwrap();
                answered = true;
            }
        }
    }

    #[tokio::test]
    async fn it_ends_when_it_is_stopped() {
        let host =
            HostEnd { key: PrivateKey::from_bytes([1; 32]).public(), address: SocketAddr::from(([127, 0, 0, 1], 9)) };
        let (mut near, far) = crate::link::pair();
        let service = Service::start(PrivateKey::generate().unwrap(), host, 1420, far).await.unwrap();
        service.stop();
        service.stopped().await;
        assert_eq!(near.rx.recv().await, None);
    }
}

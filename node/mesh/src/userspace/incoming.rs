//! From the peers to the interface: receive, find the session, decrypt, check the source, write.
//!
//! In: datagrams from anybody. Out: packets for the host's network stack, each from a source that its peer may use; and
//! answers to handshakes. Where an authentic message comes from is where the peer is from then on. A datagram that proves
//! nothing changes nothing and costs no Diffie-Hellman without a valid MAC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};

use super::outgoing::flush_waiting;
use super::plane::Plane;
use super::table::{Peer, Session, Table};
use super::tun::Writes;
use super::udp::{Received, Udp};
use crate::key::PublicKey;
use crate::packet::{self, LONGEST_HANDSHAKE};

/// What one turn needs.
pub(super) struct Incoming {
    received: Received,
    writes: Writes,
    /// For answers and for packets that waited: the longest is a packet of the interface's MTU.
    scratch: Vec<u8>,
    /// Longer datagrams are nobody's.
    longest: usize,
}

impl Incoming {
    pub(super) fn new(mtu: u16) -> Self {
        let longest = usize::from(mtu).max(2048) + LONGEST_HANDSHAKE;
        Self { received: Received::new(), writes: Writes::new(), scratch: vec![0; longest], longest }
    }

    /// Takes what the socket has, once.
    ///
    /// # Errors
    /// The TUN device is gone.
    pub(super) async fn turn(&mut self, plane: &Plane, udp: &Udp) -> io::Result<()> {
        match udp.receive(&mut self.received) {
            Ok(()) => {}
            Err(error) => {
                // A peer's host may refuse a datagram of ours (ECONNREFUSED), which says nothing about the next.
                if error.kind() != io::ErrorKind::WouldBlock {
                    tracing::debug!(%error, "nothing received");
                }
                return Ok(());
            }
        }
        let table = plane.table();
        for (from, bytes, stride) in self.received.batches() {
            let mut datagrams = bytes.chunks(stride).peekable();
            while let Some(first) = datagrams.next() {
                let Some(index) = data_index(first) else {
                    control(&table, udp, from, first, &mut self.scratch);
                    continue;
                };
                let Some(peer) = table.by_receiver(index) else {
                    continue;
                };
                if self.writes.is_full() {
                    self.writes.flush(&plane.tun).await?;
                }
                let turn = Turn { table: &table, udp, from, peer, longest: self.longest };
                // What came in one batch is nearly always of one session: it is decrypted under one lock.
                let mut session = peer.lock();
                let mut next = Some(first);
                while let Some(datagram) = next {
                    turn.data(&mut session, datagram, &mut self.writes);
                    next = if self.writes.is_full() {
                        None
                    } else {
                        datagrams.next_if(|next| data_index(next) == Some(index))
                    };
                }
                if session.waiting {
                    // The peer has used the keys of a handshake that it began: what we had to say to it can go now.
                    flush_waiting(&mut session, udp, from, &mut self.scratch);
                }
            }
        }
        self.writes.flush(&plane.tun).await
    }
}

fn data_index(datagram: &[u8]) -> Option<u32> {
    (datagram.first() == Some(&packet::TRANSPORT_DATA)).then(|| packet::receiver_index(datagram)).flatten()
}

/// What the datagrams of one session have in common.
struct Turn<'a> {
    table: &'a Table,
    udp: &'a Udp,
    from: SocketAddr,
    peer: &'a Arc<Peer>,
    longest: usize,
}

impl Turn<'_> {
    fn data(&self, session: &mut Session, datagram: &[u8], writes: &mut Writes) {
        if datagram.len() > self.longest {
            return;
        }
        let room = writes.room(datagram.len());
        match session.tunn.decapsulate(Some(self.from.ip()), datagram, room) {
            TunnResult::WriteToTunnelV4(packet, source) => {
                session.endpoint = Some(self.from);
                if self.table.may_send(self.peer, source) {
                    let length = packet.len();
                    writes.keep(length);
                } else {
                    tracing::debug!(peer = %self.peer.key, %source, "a source that the peer may not use; dropped");
                }
            }
            // A keepalive.
            TunnResult::Done => session.endpoint = Some(self.from),
            // No peer has IPv6 networks.
            TunnResult::WriteToTunnelV6(..) => session.endpoint = Some(self.from),
            TunnResult::WriteToNetwork(message) => self.udp.send_now(message, self.from),
            // Replayed, forged, or of keys that are gone.
            TunnResult::Err(_) => {}
        }
    }
}

/// A message that is no data: a handshake, or nonsense.
fn control(table: &Table, udp: &Udp, from: SocketAddr, datagram: &[u8], scratch: &mut [u8]) {
    let identity = &table.identity;
    let peer = match datagram.first() {
        // Only its contents tell whose an initiation is, and only its key holder's MAC is worth the arithmetic.
        Some(&packet::HANDSHAKE_INITIATION) => {
            match identity.limiter.verify_packet(Some(from.ip()), datagram, scratch) {
                Ok(Packet::HandshakeInit(initiation)) => {
                    let (secret, public) = (identity.key.secret(), identity.key.public().point());
                    parse_handshake_anon(&secret, &public, &initiation)
                        .ok()
                        .and_then(|half| table.by_key(&PublicKey::from_bytes(half.peer_static_public)))
                }
                Err(TunnResult::WriteToNetwork(cookie)) => {
                    udp.send_now(cookie, from);
                    None
                }
                _ => None,
            }
        }
        _ => packet::receiver_index(datagram).and_then(|index| table.by_receiver(index)),
    };
    let Some(peer) = peer else { return };
    let mut session = peer.lock();
    match session.tunn.decapsulate(Some(from.ip()), datagram, scratch) {
        TunnResult::WriteToNetwork(answer) => {
            let authentic = answer[0] != packet::COOKIE_REPLY;
            udp.send_now(answer, from);
            if authentic {
                session.endpoint = Some(from);
                session.silent_ticks = 0;
            }
            if datagram[0] == packet::HANDSHAKE_RESPONSE && session.waiting {
                flush_waiting(&mut session, udp, from, scratch);
            }
        }
        TunnResult::Err(error) => tracing::debug!(peer = %peer.key, ?error, "a handshake that came to nothing"),
        // A cookie: it says nothing about where the peer is.
        _ => {}
    }
}

//! From the interface to the peers: read, find the peer, encrypt, send.
//!
//! In: packets of the host's network stack, up to 64 KiB of one stream in a read. Out: WireGuard messages, up to 64 to
//! one peer in a call; packets for the metadata service go to [`Inside`](super::inside::Inside) instead. It waits for the
//! socket when that is full, so that TCP behind the interface feels it; it never waits for a handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use boringtun::noise::TunnResult;

use super::plane::Plane;
use super::table::{Peer, Session, Target};
use super::tun::Reads;
use super::udp::{Batch, Udp};
use crate::packet::{self, DATA_OVERHEAD, LONGEST_HANDSHAKE};

/// Reads after the first before what is encrypted is sent: enough to fill a batch with the small packets of one peer.
const READS_AT_ONCE: usize = 64;

/// Runs until the device is gone.
pub(super) async fn run(plane: Arc<Plane>) -> io::Error {
    let mut reads = Reads::new(plane.mtu);
    let mut batch = Batch::new();
    loop {
        let mut read = reads.read(&plane.tun).await;
        for left in (0..READS_AT_ONCE).rev() {
            match read {
                Ok(()) => forward(&plane, &reads, &mut batch).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What the kernel itself reports stays so; the rest is one packet that could not be cut up.
                Err(error) if error.raw_os_error().is_some() => return error,
                Err(error) => tracing::debug!(%error, "a packet from the interface makes no sense; dropped"),
            }
            if left == 0 {
                break;
            }
            read = reads.try_read(&plane.tun);
        }
        batch.flush(&plane.udp()).await;
    }
}

/// Sends the packets of one read, or leaves them in the batch.
async fn forward(plane: &Plane, reads: &Reads, batch: &mut Batch) {
    let (table, udp) = (plane.table(), plane.udp());
    let mut packets = reads.packets().peekable();
    while let Some(first) = packets.next() {
        let address = packet::destination(first);
        match address.and_then(|address| table.towards(address)) {
            None => {}
            Some(Target::Inside(inside)) => inside.inward(first),
            Some(Target::Peer(peer)) => {
                // The packets of one read are nearly always of one stream: they are encrypted under one lock.
                let mut same = || packets.next_if(|next| packet::destination(next) == address);
                let mut left = encrypt(peer, &udp, batch, first, &mut same);
                while let Some(packet) = left {
                    // An empty batch takes any packet, so this ends.
                    batch.flush(&udp).await;
                    left = encrypt(peer, &udp, batch, packet, &mut same);
                }
            }
        }
    }
}

/// Encrypts `packet` and what `same` gives after it into the batch. Gives back the packet that the batch has no room for.
fn encrypt<'a>(
    peer: &Peer,
    udp: &Udp,
    batch: &mut Batch,
    mut packet: &'a [u8],
    same: &mut impl FnMut() -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    let mut session = peer.lock();
    let Some(endpoint) = session.endpoint else {
        // It has to call first. Its packets are dropped, as WireGuard does, not kept for a peer that may never come.
        while same().is_some() {}
        return None;
    };
    loop {
        let length = packet.len() + DATA_OVERHEAD;
        if !batch.takes(udp, endpoint, length) {
            return Some(packet);
        }
        let room = &mut batch.room()[..length.max(LONGEST_HANDSHAKE)];
        match encapsulate(&mut session, packet, room) {
            Some(message) if message[0] == packet::TRANSPORT_DATA => batch.push(endpoint, length),
            Some(handshake) => udp.send_now(handshake, endpoint),
            None => {}
        }
        packet = same()?;
    }
}

/// One message, or none if the packet has to wait for a handshake that is under way.
fn encapsulate<'a>(session: &mut Session, packet: &[u8], room: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let message = match session.tunn.encapsulate(packet, room) {
        TunnResult::WriteToNetwork(message) => Some(message),
        TunnResult::Err(error) => {
            tracing::debug!(?error, "packet not encrypted");
            return None;
        }
        _ => None,
    };
    session.waiting |= message.as_ref().is_none_or(|message| message[0] != packet::TRANSPORT_DATA);
    session.silent_ticks = 0;
    message
}

/// Begins a handshake with a peer whose endpoint is known, unless one is under way.
pub(super) fn greet(peer: &Peer, udp: &Udp) {
    let mut message = [0; LONGEST_HANDSHAKE];
    let mut session = peer.lock();
    if let (Some(endpoint), TunnResult::WriteToNetwork(message)) =
        (session.endpoint, session.tunn.format_handshake_initiation(&mut message, false))
    {
        udp.send_now(message, endpoint);
    }
}

/// Sends the packets that waited for a handshake, in their order.
pub(super) fn flush_waiting(session: &mut Session, udp: &Udp, to: SocketAddr, room: &mut [u8]) {
    session.waiting = false;
    while let TunnResult::WriteToNetwork(message) = session.tunn.decapsulate(None, &[], room) {
        let data = message[0] == packet::TRANSPORT_DATA;
        udp.send_now(message, to);
        if !data {
            // The session is gone again: a new handshake has begun, and the rest waits for that.
            session.waiting = true;
            return;
        }
    }
}

//! What both directions of the data plane share, and its clock.
//!
//! The table and the socket are replaced as a whole; who works takes them once a batch.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use boringtun::noise::TunnResult;
use boringtun::noise::errors::WireGuardError;
use tun_rs::AsyncDevice;

use super::inside::Inside;
use super::outgoing::greet;
use super::table::{Peer, Session, Table};
use super::tun::Writes;
use super::udp::Udp;
use crate::link::{Far, PACKETS_WAITING};
use crate::packet::LONGEST_HANDSHAKE;

/// How often a `Tunn` wants to be looked at.
pub(super) const TICK: Duration = Duration::from_millis(250);
const TICKS_A_SECOND: u32 = 4;

pub(super) struct Plane {
    pub(super) tun: Arc<AsyncDevice>,
    pub(super) mtu: u16,
    pub(super) inside: Arc<Inside>,
    table: RwLock<Arc<Table>>,
    udp: RwLock<Arc<Udp>>,
}

impl Plane {
    pub(super) fn new(tun: Arc<AsyncDevice>, mtu: u16, inside: Arc<Inside>, table: Table, udp: Udp) -> Self {
        Self { tun, mtu, inside, table: RwLock::new(Arc::new(table)), udp: RwLock::new(Arc::new(udp)) }
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_table(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    pub(super) fn udp(&self) -> Arc<Udp> {
        Arc::clone(&self.udp.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_udp(&self, udp: Arc<Udp>) {
        *self.udp.write().unwrap_or_else(PoisonError::into_inner) = udp;
    }

    /// Renews keys, repeats handshakes, keeps NATs open.
    pub(super) fn tick(&self) {
        let (table, udp) = (self.table(), self.udp());
        // Starts counting anew once a second, however often it is called.
        table.identity.limiter.reset_count();
        for peer in &table.peers {
            if tick_peer(peer, &udp) {
                greet(peer, &udp);
            }
        }
        self.inside.tick();
    }
}

/// Whether a handshake has to be begun.
fn tick_peer(peer: &Peer, udp: &Udp) -> bool {
    let mut message = [0; LONGEST_HANDSHAKE];
    let mut session = peer.lock();
    session.silent_ticks = session.silent_ticks.saturating_add(1);
    match session.tunn.update_timers(&mut message) {
        TunnResult::WriteToNetwork(message) => {
            session.silent_ticks = 0;
            if let Some(endpoint) = session.endpoint {
                udp.send_now(message, endpoint);
            }
            false
        }
        // A `Tunn` gives up after 90 s without an answer, and waits for a packet to send. Whoever wants the way kept open
        // wants it found again too.
        TunnResult::Err(WireGuardError::ConnectionExpired) => session.keepalive.is_some() && due(&mut session),
        _ => session.keepalive.is_some() && due(&mut session) && !keep_alive(&mut session, udp),
    }
}

fn due(session: &mut Session) -> bool {
    let seconds = u32::from(session.keepalive.unwrap_or(0));
    let due = seconds > 0 && session.silent_ticks >= seconds * TICKS_A_SECOND;
    if due {
        session.silent_ticks = 0;
    }
    due
}

/// Sends an empty packet if there are keys for it.
fn keep_alive(session: &mut Session, udp: &Udp) -> bool {
    let mut message = [0; LONGEST_HANDSHAKE];
    if session.tunn.stats().0.is_none() {
        return false;
    }
    if let (Some(endpoint), TunnResult::WriteToNetwork(message)) =
        (session.endpoint, session.tunn.encapsulate(&[], &mut message))
    {
        udp.send_now(message, endpoint);
    }
    true
}

/// Carries the service's answers to the interface, until the service or the device is gone.
pub(super) async fn answers(plane: Arc<Plane>, mut far: Far) -> io::Result<()> {
    let mut writes = Writes::new();
    let mut packets = Vec::new();
    while far.from_service.recv_many(&mut packets, PACKETS_WAITING).await > 0 {
        for packet in packets.drain(..) {
            if writes.is_full() {
                writes.flush(&plane.tun).await?;
            }
            plane.inside.outward(&packet, &mut |packet| {
                if !writes.is_full() {
                    let room = writes.room(packet.len());
                    room[..packet.len()].copy_from_slice(packet);
                    writes.keep(packet.len());
                }
            });
        }
        writes.flush(&plane.tun).await?;
    }
    Ok(())
}

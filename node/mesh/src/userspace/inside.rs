//! The metadata service's WireGuard peer, in memory: both ends of one tunnel, and nothing in between.
//!
//! In: packets for 169.254.169.254 that came out of the interface. Out: the same packets, decrypted by the service's own
//! end, on a bounded channel; and the answers back. Messages pass from one end to the other within a call, so no packet
//! of it can leave the machine, and no flood of handshakes from outside can touch it.

use std::sync::{Mutex, PoisonError};

use boringtun::noise::{Tunn, TunnResult};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::METADATA_ADDRESS;
use crate::key::{KeyError, PrivateKey};
use crate::packet::{self, DATA_OVERHEAD, LONGEST_HANDSHAKE};

/// Messages of one handshake, and those that waited for it (a `Tunn` keeps 256 packets): a bound against our own mistakes.
const MESSAGES_AT_ONCE: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The interface's.
    Host,
    /// The service's.
    Service,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Host => Self::Service,
            Self::Service => Self::Host,
        }
    }
}

/// The tunnel.
pub(super) struct Inside {
    ends: Mutex<Ends>,
    to_service: mpsc::Sender<Bytes>,
}

struct Ends {
    host: Tunn,
    service: Tunn,
    /// The message in flight, and where the next one is written.
    message: Vec<u8>,
    scratch: Vec<u8>,
}

impl Inside {
    /// Keys are made fresh and nobody else ever learns them.
    pub(super) fn new(mtu: u16, to_service: mpsc::Sender<Bytes>) -> Result<Self, KeyError> {
        let (host, service) = (PrivateKey::generate()?, PrivateKey::generate()?);
        let room = usize::from(mtu) + DATA_OVERHEAD + LONGEST_HANDSHAKE;
        Ok(Self {
            ends: Mutex::new(Ends {
                // Rate limiters of their own: what strangers do to the node's is nothing to this tunnel.
                host: Tunn::new(host.secret(), service.public().point(), None, None, 0, None),
                service: Tunn::new(service.secret(), host.public().point(), None, None, 1, None),
                message: vec![0; room],
                scratch: vec![0; room],
            }),
            to_service,
        })
    }

    /// A packet for the metadata address. Returns nothing: a packet that finds no room is dropped, and its sender sends again.
    pub(super) fn inward(&self, packet: &[u8]) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.send(End::Host, packet, &mut |end, packet| {
            if end == End::Service {
                match self.to_service.try_send(Bytes::copy_from_slice(packet)) {
                    Ok(()) => {}
                    Err(TrySendError::Full(_)) => tracing::debug!("the metadata service is behind; packet dropped"),
                    Err(TrySendError::Closed(_)) => tracing::debug!("no metadata service; packet dropped"),
                }
            }
        });
    }

    /// An answer of the service; `deliver` gets what shall leave by the interface.
    pub(super) fn outward(&self, packet: &[u8], deliver: &mut dyn FnMut(&[u8])) {
        if packet::source(packet) != Some(METADATA_ADDRESS) {
            tracing::debug!("a packet of the metadata service with another source; dropped");
            return;
        }
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.send(End::Service, packet, &mut |end, packet| {
            if end == End::Host {
                deliver(packet);
            }
        });
    }

    /// Has to be called every 250 ms: keys are renewed by it.
    pub(super) fn tick(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for end in [End::Host, End::Service] {
            let ends = &mut *ends;
            let tunn = match end {
                End::Host => &mut ends.host,
                End::Service => &mut ends.service,
            };
            if let TunnResult::WriteToNetwork(message) = tunn.update_timers(&mut ends.message) {
                let length = message.len();
                // A timer never sends a packet, only handshakes and keepalives.
                ends.carry(end, length, &mut |_, _| {});
            }
        }
    }
}

type Deliver<'a> = &'a mut dyn FnMut(End, &[u8]);

impl Ends {
    fn send(&mut self, from: End, packet: &[u8], deliver: Deliver<'_>) {
        if packet.len() + DATA_OVERHEAD > self.message.len() {
            tracing::debug!(bytes = packet.len(), "a packet beyond the MTU; dropped");
            return;
        }
        let tunn = match from {
            End::Host => &mut self.host,
            End::Service => &mut self.service,
        };
        if let TunnResult::WriteToNetwork(message) = tunn.encapsulate(packet, &mut self.message) {
            let length = message.len();
            self.carry(from, length, deliver);
        }
    }

    /// Carries the message of `length` bytes, and all that follows from it, from end to end until both are quiet.
    fn carry(&mut self, mut from: End, mut length: usize, deliver: Deliver<'_>) {
        let mut shook = false;
        for _ in 0..MESSAGES_AT_ONCE {
            shook |= self.message[0] != packet::TRANSPORT_DATA;
            if length > 0 {
                let to = from.other();
                let tunn = match to {
                    End::Host => &mut self.host,
                    End::Service => &mut self.service,
                };
                match tunn.decapsulate(None, &self.message[..length], &mut self.scratch) {
                    TunnResult::WriteToNetwork(message) => {
                        (from, length) = (to, message.len());
                        std::mem::swap(&mut self.message, &mut self.scratch);
                        continue;
                    }
                    TunnResult::WriteToTunnelV4(packet, _) => deliver(to, packet),
                    TunnResult::WriteToTunnelV6(..) | TunnResult::Done => {}
                    TunnResult::Err(error) => tracing::debug!(?error, "inside the metadata tunnel"),
                }
            }
            // Only a handshake can have let packets wait.
            if !shook {
                return;
            }
            // An empty datagram asks for the next packet that waited.
            if let TunnResult::WriteToNetwork(message) = self.host.decapsulate(None, &[], &mut self.message) {
                (from, length) = (End::Host, message.len());
            } else if let TunnResult::WriteToNetwork(message) = self.service.decapsulate(None, &[], &mut self.message) {
                (from, length) = (End::Service, message.len());
            } else {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn packet(from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0u8; 20];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&u16::try_from(20 + body.len()).unwrap().to_be_bytes());
        packet[12..16].copy_from_slice(&from.octets());
        packet[16..20].copy_from_slice(&to.octets());
        packet.extend_from_slice(body);
        packet
    }

    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 9);

    #[test]
    fn packets_pass_both_ways_from_the_first_on() {
        let (to_service, mut rx) = mpsc::channel(4);
        let inside = Inside::new(1420, to_service).unwrap();
        for body in [b"first".as_slice(), b"second", b""] {
            let request = packet(GUEST, METADATA_ADDRESS, body);
            inside.inward(&request);
            assert_eq!(rx.try_recv().unwrap(), request);
            let answer = packet(METADATA_ADDRESS, GUEST, body);
            let mut out = Vec::new();
            inside.outward(&answer, &mut |packet| out.push(packet.to_vec()));
            assert_eq!(out, [answer]);
        }
    }

    #[test]
    fn the_service_may_speak_first() {
        let (to_service, _rx) = mpsc::channel(4);
        let inside = Inside::new(1420, to_service).unwrap();
        let answer = packet(METADATA_ADDRESS, GUEST, b"x");
        let mut out = Vec::new();
        inside.outward(&answer, &mut |packet| out.push(packet.to_vec()));
        assert_eq!(out, [answer]);
    }

    #[test]
    fn the_service_speaks_as_nobody_else() {
        let (to_service, _rx) = mpsc::channel(4);
        let inside = Inside::new(1420, to_service).unwrap();
        let forged = packet(Ipv4Addr::new(10, 77, 1, 1), GUEST, b"x");
        inside.outward(&forged, &mut |_| panic!("delivered"));
    }

    #[test]
    fn a_full_service_and_a_huge_packet_stop_nobody() {
        let (to_service, mut rx) = mpsc::channel(1);
        let inside = Inside::new(1420, to_service).unwrap();
        let request = packet(GUEST, METADATA_ADDRESS, b"x");
        inside.inward(&packet(GUEST, METADATA_ADDRESS, &[0; 3000]));
        inside.inward(&request);
        inside.inward(&request);
        assert_eq!(rx.try_recv().unwrap(), request);
        assert!(rx.try_recv().is_err());
        inside.inward(&request);
        assert_eq!(rx.try_recv().unwrap(), request);
    }
}

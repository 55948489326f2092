//! smoltcp's view of the tunnel: one packet in at a time, a short queue of packets out.
//!
//! Must not wait: the driver moves the queue on to the channel.

use super::MTU;
use smoltcp::{
    phy::{self, DeviceCapabilities, Medium},
    time::Instant,
    wire::Ipv4Packet,
};
use std::collections::VecDeque;

/// Hop limit of everything that leaves. The host forwards and takes one off, so a guest gets it as 1 and cannot pass it on:
/// a token of IMDSv2 does not leave the guest through a misconfigured router or a container's bridge.
const HOP_LIMIT: u8 = 2;

/// Packets made and not yet taken by the channel, beyond which sockets keep their data: 364 kB, the windows of ten connections.
const QUEUE: usize = 256;

/// The tunnel, as smoltcp sees it.
#[derive(Debug)]
pub(super) struct Device<P> {
    /// What to hand to smoltcp next.
    pub(super) incoming: Option<P>,
    /// What smoltcp made, oldest first.
    pub(super) outgoing: VecDeque<Vec<u8>>,
}

impl<P> Device<P> {
    pub(super) fn new() -> Self {
        Self { incoming: None, outgoing: VecDeque::new() }
    }

    /// Sockets have to keep what they have to say.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() >= QUEUE
    }

    /// There is room again for more than a packet or two.
    pub(super) fn has_drained(&self) -> bool {
        self.outgoing.len() <= QUEUE / 2
    }

    /// Even direct answers (ACK, RST) would pile up, so nothing more may come in.
    pub(super) fn is_overfull(&self) -> bool {
        self.outgoing.len() >= 2 * QUEUE
    }
}

impl<P: AsRef<[u8]>> phy::Device for Device<P> {
    type RxToken<'a>
        = Incoming<P>
    where
        P: 'a;
    type TxToken<'a>
        = Outgoing<'a>
    where
        P: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<P>, Outgoing<'_>)> {
        self.incoming.take().map(|packet| (Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        (!self.is_full()).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// A packet that came in.
#[derive(Debug)]
pub(super) struct Incoming<P>(P);

impl<P: AsRef<[u8]>> phy::RxToken for Incoming<P> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0.as_ref())
    }
}

/// Room for a packet that goes out.
#[derive(Debug)]
pub(super) struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut bytes = vec![0; length];
        let result = write(&mut bytes);
        // Here, because smoltcp's answers to segments without a socket have a hop limit that cannot be set.
        if let Ok(mut ip) = Ipv4Packet::new_checked(&mut bytes) {
            ip.set_hop_limit(HOP_LIMIT);
            ip.fill_checksum();
        }
        self.0.push_back(bytes);
        result
    }
}

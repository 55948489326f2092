//! What a packet is, before anything is kept because of it.
//!
//! In: bytes as they came out of the tunnel. Out: whose connection they belong to, and whether they open one. Everything but
//! whole TCP segments to the service's own address and port is nobody's business here and is dropped without an answer.
//! Must not keep anything, nor trust any length field.

use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, TcpPacket};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A TCP segment for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Where it says it comes from: the key of its connection.
    pub(super) peer: SocketAddrV4,
    /// A SYN and nothing else: it wants a new connection.
    pub(super) opens: bool,
}

/// Reads a packet; none if it is not for `local`, or cannot be answered.
///
/// Fragments are dropped: no host sends a TCP segment in pieces unless something is wrong or being tried. Options of the IP
/// header are passed over. Sums are checked for SYNs alone, because smoltcp checks those of segments that have a socket.
pub(super) fn read(packet: &[u8], local: SocketAddrV4) -> Option<Segment> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let for_us = ip.version() == 4 && ip.next_header() == IpProtocol::Tcp && ip.dst_addr() == *local.ip();
    if !for_us || ip.more_frags() || ip.frag_offset() != 0 || !answerable(ip.src_addr(), local) {
        return None;
    }
    let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
    if tcp.dst_port() != local.port() || tcp.src_port() == 0 {
        return None;
    }
    let opens = tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin();
    let (from, to) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
    if opens && !(ip.verify_checksum() && tcp.verify_checksum(&from, &to)) {
        return None;
    }
    Some(Segment { peer: SocketAddrV4::new(ip.src_addr(), tcp.src_port()), opens })
}

/// Whether a reply to this address could mean anything. Our own as the source would have us talk to ourselves.
fn answerable(source: Ipv4Addr, local: SocketAddrV4) -> bool {
    let nobody = source.is_unspecified() || source.is_multicast() || source.is_broadcast() || source.is_loopback();
    !nobody && source != *local.ip()
}

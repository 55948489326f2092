//! Segments made and read by hand, for what no honest stack would send.

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber},
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// One segment, as a packet.
pub(super) fn segment(
    from: SocketAddrV4,
    to: SocketAddrV4,
    control: TcpControl,
    seq: i32,
    ack: Option<i32>,
    window: u16,
    payload: &[u8],
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: window,
        window_scale: None,
        max_seg_size: (control == TcpControl::Syn).then_some(1380),
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let ip = Ipv4Repr {
        src_addr: *from.ip(),
        dst_addr: *to.ip(),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let sums = ChecksumCapabilities::default();
    let mut bytes = vec![0; 20 + tcp.buffer_len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &sums);
    let (source, target) = (IpAddress::Ipv4(*from.ip()), IpAddress::Ipv4(*to.ip()));
    tcp.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &source, &target, &sums);
    bytes
}

/// What a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) hops: u8,
    pub(super) syn: bool,
    pub(super) rst: bool,
    pub(super) fin: bool,
    pub(super) seq: i32,
    pub(super) ack: i32,
    pub(super) mss: Option<u16>,
    pub(super) payload: Vec<u8>,
}

/// Reads a packet, all of whose sums must be right.
pub(super) fn said(bytes: &[u8]) -> Said {
    let sums = ChecksumCapabilities::default();
    let ip = Ipv4Packet::new_checked(bytes).unwrap();
    assert!(ip.verify_checksum(), "the header's sum");
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    let (source, target): (Ipv4Addr, Ipv4Addr) = (ip.src_addr(), ip.dst_addr());
    let repr = TcpRepr::parse(&tcp, &IpAddress::Ipv4(source), &IpAddress::Ipv4(target), &sums).unwrap();
    Said {
        from: SocketAddrV4::new(source, tcp.src_port()),
        to: SocketAddrV4::new(target, tcp.dst_port()),
        hops: ip.hop_limit(),
        syn: tcp.syn(),
        rst: tcp.rst(),
        fin: tcp.fin(),
        seq: tcp.seq_number().0,
        ack: tcp.ack_number().0,
        mss: repr.max_seg_size,
        payload: tcp.payload().to_vec(),
    }
}

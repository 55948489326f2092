//! The few bytes of an IPv4 header and of a WireGuard message that decide where a packet goes.
//!
//! Nothing here trusts a length it has not compared.

use std::net::Ipv4Addr;

/// WireGuard's message types (whitepaper, section 5.4), as the first byte on the wire.
pub(crate) const HANDSHAKE_INITIATION: u8 = 1;
/// The answer to an initiation.
pub(crate) const HANDSHAKE_RESPONSE: u8 = 2;
/// Refuses a handshake under load until the sender has proven its address.
pub(crate) const COOKIE_REPLY: u8 = 3;
/// An encrypted packet.
pub(crate) const TRANSPORT_DATA: u8 = 4;

/// What encryption adds to a packet: 16 bytes of header, 16 of authentication.
pub(crate) const DATA_OVERHEAD: usize = 32;
/// The longest message that is not data; buffers for messages are never smaller.
pub(crate) const LONGEST_HANDSHAKE: usize = 148;

const IPV4_HEADER: usize = 20;

/// Source of an IPv4 packet.
pub(crate) fn source(packet: &[u8]) -> Option<Ipv4Addr> {
    address(packet, 12)
}

/// Destination of an IPv4 packet.
pub(crate) fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    address(packet, 16)
}

fn address(packet: &[u8], at: usize) -> Option<Ipv4Addr> {
    if packet.len() < IPV4_HEADER || packet[0] >> 4 != 4 {
        return None;
    }
    let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes))
}

/// The receiver's index in a response, a cookie reply or a data message; initiations carry none.
pub(crate) fn receiver_index(message: &[u8]) -> Option<u32> {
    let at = match *message.first()? {
        HANDSHAKE_RESPONSE => 8,
        COOKIE_REPLY | TRANSPORT_DATA => 4,
        _ => return None,
    };
    let bytes: [u8; 4] = message.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_where_rfc_791_puts_them() {
        let mut packet = [0u8; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 77, 1, 2]);
        packet[16..20].copy_from_slice(&[169, 254, 169, 254]);
        assert_eq!(source(&packet), Some(Ipv4Addr::new(10, 77, 1, 2)));
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(169, 254, 169, 254)));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x65;
        assert_eq!(source(&packet), None);
    }

    #[test]
    fn each_message_has_its_index_at_its_place() {
        let mut message = [0u8; 32];
        message[4..8].copy_from_slice(&0x0102_0304u32.to_le_bytes());
        message[8..12].copy_from_slice(&0x0506_0708u32.to_le_bytes());
        for (kind, index) in
            [(1, None), (2, Some(0x0506_0708)), (3, Some(0x0102_0304)), (4, Some(0x0102_0304)), (5, None)]
        {
            message[0] = kind;
            assert_eq!(receiver_index(&message), index, "type {kind}");
        }
        assert_eq!(receiver_index(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (source(&bytes), destination(&bytes), receiver_index(&bytes));
        }
    }
}

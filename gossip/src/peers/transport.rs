//! QUIC's numbers, each with its reason.

use quinn::{TransportConfig, VarInt};
use std::{sync::Arc, time::Duration};

/// A silent connection ends after this. Failure detection is gossip's work; this only frees what a dead peer left, and
/// bounds how long a stream to a peer that vanished may hang.
const IDLE_TIMEOUT_MS: u32 = 6_000;
/// Often enough that a lost ping can be repeated within the idle timeout. Only the dialling side pings.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// Consensus calls, API requests and image blocks that a peer may have open here at once.
const BIDI_STREAMS: u32 = 1_024;
/// Gossip messages that may be on their way here at once; each lives for a round trip.
const UNI_STREAMS: u32 = 128;
/// One stream fills 2.5 Gbit/s at a round trip of 13 ms, 1 Gbit/s at 33 ms.
const STREAM_WINDOW: u32 = 4 << 20;
/// What one peer can make this node hold in all: a service that does not read must not eat the memory.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// What someone who has not yet shown that he is a member gets: one stream, for the request to join.
const STRANGER_STREAMS: u32 = 1;
/// The request to join is a few hundred bytes.
const STRANGER_WINDOW: u32 = 16 << 10;

/// For connections this node dials.
pub(crate) fn client_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    Arc::new(config)
}

/// For connections this node accepts: little, until [`trust`] knows who is there.
pub(super) fn server_transport() -> Arc<TransportConfig> {
    let mut config = common();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STRANGER_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW));
    Arc::new(config)
}

/// Gives an accepted connection what a member needs.
pub(super) fn trust(connection: &quinn::Connection) {
    connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(BIDI_STREAMS));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS));
}

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        // Nothing here uses datagrams; without a buffer they are refused by the protocol itself.
        .datagram_receive_buffer_size(None);
    config
}

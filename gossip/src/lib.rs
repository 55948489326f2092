//! peers: QUIC endpoint, identity, membership, observations.

//! Why a mesh could not do what it was told.

use std::io;

use crate::host::HostError;
use crate::key::PublicKey;

/// Why a mesh could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The configuration names this node as its own peer.
    #[error("peer {0} is this node itself")]
    OwnKey(PublicKey),
    /// The configuration names a peer twice.
    #[error("peer {0} is there twice")]
    DuplicatePeer(PublicKey),
    /// The UDP port could not be had.
    #[error("cannot listen on UDP port {port}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The TUN device could not be made or attached to.
    #[error("cannot open the interface {name}")]
    Tun {
        /// The interface's name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// An interface of that name is there and is neither a TUN device nor WireGuard, so it is somebody else's.
    #[error("the interface {0} is there already and is not ours")]
    Foreign(String),
    /// The data plane's threads could not be started.
    #[error("cannot start the data plane")]
    Thread(#[source] io::Error),
    /// The data plane has ended.
    #[error("the data plane has stopped: {0}")]
    Stopped(String),
    /// The kernel's WireGuard refused.
    #[error("the kernel's WireGuard refused to {what}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The interface could not be looked at or changed.
    #[error(transparent)]
    Host(#[from] HostError),
}

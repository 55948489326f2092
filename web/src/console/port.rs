//! What the web needs of the node for guests' consoles: the port, and what passes through it.
//!
//! In: a VM that this node owns. Out: channels and streams. How they end is said once, here: an output that ends means that
//! the node is about to stop, and the viewer had better connect again.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::{fmt, io};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use waifud_api::console::{FromConsole, LogsQuery, Replay, ToConsole};
use waifud_model::{ids::VmId, name::VmName};

/// Serial ports, screens and logs of the guests of this node.
#[async_trait]
pub trait Consoles: Send + Sync + fmt::Debug {
    /// Opens the serial console for one more viewer.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    async fn attach(&self, vm: VmId, viewer: Viewer) -> Result<Attached, ConsoleError>;

    /// A connection of its own to the guest's screen, in RFB.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    async fn screen(&self, vm: VmId) -> Result<Box<dyn Line>, ConsoleError>;

    /// What the guest has written to its serial port.
    ///
    /// # Errors
    /// [`ConsoleError::Failed`] if it cannot be read. A guest that has written nothing has an empty log.
    async fn log(&self, vm: VmId, part: LogsQuery) -> Result<Log, ConsoleError>;
}

/// Bytes both ways.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// The VM's name, for the greeting.
    pub vm: VmName,
    /// Who it is, for the others.
    pub who: String,
    /// Write although somebody else does.
    pub take: bool,
    /// Never write.
    pub read_only: bool,
    /// What is sent first.
    pub replay: Replay,
}

/// A viewer's ends. Dropping them is leaving.
#[derive(Debug)]
pub struct Attached {
    /// For the viewer.
    pub output: mpsc::Receiver<Said>,
    /// From the viewer. It waits while the guest does not read.
    pub input: mpsc::Sender<Heard>,
}

/// Something for a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The guest's bytes.
    Bytes(Bytes),
    /// A word about the console.
    Told(FromConsole),
}

/// Something from a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Typed.
    Bytes(Bytes),
    /// A word about the console.
    Told(ToConsole),
}

/// A part of a log.
pub struct Log {
    /// Where in the log it begins.
    pub offset: u64,
    /// Its bytes; without an end if it is followed.
    pub bytes: BoxStream<'static, io::Result<Bytes>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The guest is off.
    #[error("the guest is off")]
    Off,
    /// This node cannot tell: its hypervisor is silent, or it has just started.
    #[error("the hypervisor of this node does not answer")]
    Silent,
    /// So many people look already that one more is refused.
    #[error("{0} viewers are there already")]
    Full(usize),
    /// It cannot be opened.
    #[error("the console cannot be opened")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

//! The edges of this crate: what it needs of the node it runs in, as traits that the node implements.
//!
//! In: nothing. Out: questions to gossip ([`Observer`]), to other nodes ([`Forwarder`]), to the local image store
//! ([`Images`]), to the local reconciler ([`Tasks`]), to the encoder of join tokens ([`JoinTokens`]), to the wall clock
//! and to the source of randomness. No trait here names QUIC, gossip or libvirt, so that tests bring small fakes.

use crate::caller::Caller;
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::SocketAddr,
    sync::Arc,
};
use tokio::sync::watch;
use waifud_api::{
    doctor::Finding,
    vm::{Fetching, LastError, PendingChange},
};
use waifud_model::{
    digest::{Blake3, Sha256},
    ids::{NodeId, TokenId, VmId},
    observed::{VmObservation, VmUsage},
    size::ByteSize,
    state::ClusterInfo,
    template::ImageFormat,
    time::Timestamp,
    vm::{Desired, Vm},
};

/// What this node has heard of the others and knows of itself.
pub trait Observer: Send + Sync + fmt::Debug {
    /// The newest picture, and a wake-up whenever it changes. Taking the picture must be cheap: every list does it.
    fn observed(&self) -> watch::Receiver<Arc<Observed>>;
}

/// One picture of all nodes, the answering one included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// By node; a node that was never heard is absent. Pictures share what has not changed from one to the next.
    pub nodes: BTreeMap<NodeId, Arc<NodeSeen>>,
}

/// What is known of one node by gossip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// Is it heard?
    pub alive: bool,
    /// Alive: since when. Silent: when it was last heard. Where the node itself publishes a time, that one is used, so
    /// that all nodes tell the same.
    pub since: Timestamp,
    /// The build it runs, if it said so.
    pub version: Option<String>,
    /// The log index it has applied, if it said so.
    pub applied: Option<u64>,
    /// Its VMs, as it saw them last.
    pub vms: BTreeMap<VmId, VmObservation>,
    /// What its running VMs used when it measured last. Changes of it alone are no news that wait to be told.
    pub usage: BTreeMap<VmId, VmUsage>,
    /// The template versions whose bytes it holds.
    pub images: BTreeSet<Blake3>,
}

impl Observed {
    /// The node, heard now or not.
    #[must_use]
    pub fn seen(&self, node: NodeId) -> Option<&NodeSeen> {
        self.nodes.get(&node).map(Arc::as_ref)
    }

    /// The node, if it is heard now.
    #[must_use]
    pub fn alive(&self, node: NodeId) -> Option<&NodeSeen> {
        self.seen(node).filter(|seen| seen.alive)
    }
}

/// Sends an HTTP request to the same router on another node.
#[async_trait]
pub trait Forwarder: Send + Sync + fmt::Debug {
    /// Sends `request` on behalf of `caller` and gives the answer, its body still streaming.
    ///
    /// The caller's identity travels in [`Caller::HEADER`], which the other side believes because the stream is
    /// authenticated as a member's. The deadline is the asker's business: dropping the future gives up. Headers are passed
    /// on as they are, the request's id among them.
    ///
    /// # Errors
    /// If the node cannot be reached or breaks off before the answer's head.
    async fn forward(
        &self,
        to: NodeId,
        caller: &Caller,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, ForwardError>;
}

/// The other node did not answer.
#[derive(Debug, thiserror::Error)]
#[error("node {to} did not answer")]
pub struct ForwardError {
    /// Which node.
    pub to: NodeId,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Brings image bytes into this node's store.
#[async_trait]
pub trait Images: Send + Sync + fmt::Debug {
    /// Reads `source` to its end, checks it, and keeps it under the BLAKE3 of its bytes.
    ///
    /// Nothing is left behind when this fails or when the future is dropped.
    ///
    /// # Errors
    /// If the bytes cannot be had, are not what was expected, or are not an image that may be booted.
    async fn import(&self, source: ImageSource, expected: Option<Sha256>) -> Result<Imported, ImportError>;

    /// The cluster refused the version that was just imported: its bytes may go, unless the state names them for another
    /// template, or somebody else is importing them too.
    async fn release(&self, version: Blake3);

    /// How far `version` is, while it is on its way from other nodes to this one.
    fn fetching(&self, version: Blake3) -> Option<Fetching>;
}

/// Where an image's bytes come from.
pub enum ImageSource {
    /// A request body.
    Upload(BoxStream<'static, io::Result<Bytes>>),
    /// To be downloaded from here.
    Url(String),
}

impl fmt::Debug for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(_) => f.write_str("Upload"),
            Self::Url(url) => f.debug_tuple("Url").field(url).finish(),
        }
    }
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// BLAKE3 of the stored bytes.
    pub version: Blake3,
    /// SHA-256 of the same bytes.
    pub sha256: Sha256,
    /// Bytes stored.
    pub size: ByteSize,
    /// Size of the disk a guest sees.
    pub virtual_size: ByteSize,
    /// How the bytes are to be read.
    pub format: ImageFormat,
}

/// Why an image was not taken in. Each is a sentence for the person who sent it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Other bytes than were promised.
    #[error("the bytes have SHA-256 {actual}, not {expected}")]
    Checksum {
        /// What was promised.
        expected: Sha256,
        /// What came.
        actual: Sha256,
    },
    /// Not an image, or one that must not be booted: truncated, with a backing file, a bomb.
    #[error("not a usable image: {0}")]
    NotAnImage(String),
    /// More bytes than the store takes.
    #[error("the image is larger than {0}")]
    TooLarge(ByteSize),
    /// The store's disk is full.
    #[error("no space is left in the image store; {needed} would be needed, {free} are free")]
    NoSpace {
        /// What is needed, as far as is known.
        needed: ByteSize,
        /// What is free.
        free: ByteSize,
    },
    /// The URL is not one that may be fetched.
    #[error("{0}")]
    Url(String),
    /// The download failed: the server's answer, a timeout, a broken connection.
    #[error("the download failed: {0}")]
    Download(String),
    /// The client broke off before the end.
    #[error("the upload broke off")]
    BrokenOff(#[source] io::Error),
    /// The store itself failed.
    #[error("the image store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What this node's reconciler is doing for its own VMs, and what it does for them at a word.
#[async_trait]
pub trait Tasks: Send + Sync + fmt::Debug {
    /// What only the owner of `vm` knows; none if this node has no task for it.
    fn known(&self, vm: VmId) -> Option<Known>;

    /// Starts, stops, pauses or resumes `vm`, which is this node's, without the cluster: it is done here and now, and the
    /// cluster is told when it can be. `vm` is the record as this node has it.
    ///
    /// # Errors
    /// If nothing will be done.
    async fn power(&self, vm: &Vm, desired: Desired, grace: Option<u32>) -> Result<(), PowerError>;
}

/// What only its owner knows of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// What keeps it from its wanted state.
    pub last_error: Option<LastError>,
    /// What its running guest has not taken up.
    pub changes: Vec<PendingChange>,
    /// What is being done.
    pub doing: Option<String>,
    /// Why nothing is done although not all is as wanted, or what else is out of the ordinary.
    pub held: Option<String>,
    /// How often its guest died and was started again since it last ran well.
    pub restarts: u32,
}

/// Why a VM's owner does not do it without the cluster.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// It is not running, and cannot be paused.
    #[error("it is not running")]
    NotRunning,
    /// It was started without the cluster, and can be paused once the cluster knows.
    #[error("it was started without the cluster, which has to hear of that before it can be paused")]
    NotYet,
    /// This node runs no VMs yet.
    #[error("this node runs no VMs yet")]
    NotReady,
    /// The wish would not outlive a restart.
    #[error("it cannot be written down")]
    NotKept(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Looks at the node itself: at what only it can see.
#[async_trait]
pub trait Doctor: Send + Sync + fmt::Debug {
    /// What is found, in a fixed order; what is well, too. Ends within two seconds, whatever hangs.
    async fn examine(&self) -> Vec<Finding>;
}

/// Makes join tokens.
pub trait JoinTokens: Send + Sync + fmt::Debug {
    /// Draws a secret for the token `id` and writes the text that a new machine is given.
    ///
    /// # Errors
    /// If the text cannot be made.
    fn mint(&self, id: TokenId, cluster: &ClusterInfo, addresses: &[SocketAddr]) -> Result<MintedToken, MintError>;
}

/// A join token's two halves: what goes to the person, and what goes into the replicated state.
#[derive(Clone)]
pub struct MintedToken {
    /// For the new machine; holds the secret and is never stored.
    pub text: String,
    /// What the proof of the secret is checked with.
    pub key: [u8; 32],
}

impl fmt::Debug for MintedToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MintedToken").finish_non_exhaustive()
    }
}

/// No join token could be made.
#[derive(Debug, thiserror::Error)]
#[error("the join token could not be made")]
pub struct MintError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The wall clock.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The source of randomness: ids, names and secrets are drawn from it.
pub trait Random: Send + Sync + fmt::Debug {
    /// Fills `bytes` with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// `N` bytes from `random`.
pub(crate) fn draw<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

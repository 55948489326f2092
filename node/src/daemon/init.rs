//! `waifud init`: makes a cluster of one.
//!
//! In: the configuration. Out: a membership on disk, with a CA, this node's identity and a log that begins with
//! [`InitCluster`]. It is built aside and put in place in one step, so that a machine is either a member or not; a try
//! that was cut short leaves nothing that stands in the way of the next. No port is opened.

use super::{clock, layout::Layout, random};
use crate::config::{Config, SUBNET_PREFIX};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;
use waifud_consensus::{
    BootstrapError, Config as ConsensusConfig, Handle, Liveness, Proposal, ProposeError, ReadError, RpcKind,
    StartError, Transport, TransportError,
};
use waifud_gossip::identity::{Ca, DirError, Identity, IdentityDir, IdentityError, KeyError, NodeKey};
use waifud_model::{
    command::{Actor, Command, InitCluster, NewNode, Origin, RequestKey},
    digest::Blake3,
    ids::{ClusterId, NodeId},
    node::Node,
};

/// Why no cluster was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// This machine is a member of a cluster.
    #[error(
        "{0} already belongs to a cluster: start it with `waifud run`. To begin anew, stop waifud and remove that directory; \
         everything the cluster knows is lost with its last copy"
    )]
    AlreadyMember(PathBuf),
    /// The data directory cannot be written.
    #[error("{path} cannot be written")]
    Data {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No key could be made.
    #[error("no key could be made")]
    Key(#[from] KeyError),
    /// No identity could be made.
    #[error("this node's identity could not be made")]
    Identity(#[from] IdentityError),
    /// The identity cannot be kept.
    #[error("this node's identity cannot be kept")]
    Dir(#[from] DirError),
    /// The state cannot be made.
    #[error("the replicated state cannot be made")]
    Start(#[from] StartError),
    /// The log cannot begin.
    #[error("the cluster's log cannot begin")]
    Bootstrap(#[from] BootstrapError),
    /// What was just written cannot be read.
    #[error("the new state cannot be read")]
    Read(#[from] ReadError),
    /// The first command was refused: the configuration asks for something impossible.
    #[error("the cluster cannot begin like this")]
    Propose(#[from] ProposeError),
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its first member.
    pub node: Node,
}

/// Makes a cluster of one in the configured data directory. `new_node` is who this machine says it is.
///
/// # Errors
/// If it is a member already, or the disk or the configuration stands in the way; then nothing has changed.
pub async fn init(
    config: &Config,
    new_node: impl FnOnce(NodeId, &NodeKey) -> NewNode,
) -> Result<Initialised, InitError> {
    let layout = Layout::new(&config.node.data_dir);
    if layout.is_member() {
        return Err(InitError::AlreadyMember(layout.cluster().root().to_owned()));
    }
    let making = layout.cluster_in_the_making();
    let failed = |source| InitError::Data { path: making.root().to_owned(), source };
    match fs::remove_dir_all(making.root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => making.make().map_err(failed)?,
    }

    let cluster = ClusterId::from_random(random::bytes());
    let id = NodeId::from_random(u64::from_be_bytes(random::bytes()));
    let ca = Ca::generate(cluster)?;
    let key = NodeKey::generate()?;
    let node = new_node(id, &key);
    let identity = Identity::issue(&ca, id, key, SystemTime::now())?;
    IdentityDir::open(making.identity())?.save(&identity)?;

    let first = InitCluster {
        cluster,
        ca_cert: ca.certificate().to_vec(),
        ca_key: ca.key_der(),
        cidr: config.network.cidr,
        subnet_prefix: SUBNET_PREFIX,
        node,
    };
    let node = write_first_command(making.raft(), id, first).await?;
    layout.commit_membership().map_err(failed)?;
    Ok(Initialised { cluster, node })
}

/// Starts consensus with nobody to talk to, commits the first command, and stops it again.
async fn write_first_command(dir: PathBuf, id: NodeId, first: InitCluster) -> Result<Node, InitError> {
    let (_alive, liveness) = watch::channel(Liveness::default());
    let handle = Handle::start(ConsensusConfig::new(dir, id, clock::wall()), Arc::new(Alone), liveness).await?;
    let made = async {
        handle.bootstrap().await?;
        let request = RequestKey {
            key: "init".to_owned(),
            body: Blake3::of(first.cluster.to_string().as_bytes()),
            origin: Origin::Internal,
        };
        let command = Command::InitCluster(Box::new(first));
        handle.propose(Proposal { request, actor: Actor::Node(id), command, request_id: None }).await?;
        let node = handle.read(move |view| view.node(id)).await?;
        node.ok_or_else(|| InitError::Propose(ProposeError::Halted("the first node is not in the state".to_owned())))
    };
    let made = made.await;
    handle.shutdown().await;
    made
}

/// The transport of a node that has no peers yet.
#[derive(Debug)]
struct Alone;

impl Alone {
    fn refuse<T>(node: NodeId) -> Result<T, TransportError> {
        Err(TransportError::Unreachable { node, why: "this cluster has one node".to_owned() })
    }
}

#[async_trait]
impl Transport for Alone {
    async fn call(&self, to: NodeId, _: RpcKind, _: Bytes, _: Duration) -> Result<Bytes, TransportError> {
        Self::refuse(to)
    }

    async fn send_snapshot(&self, to: NodeId, _: Bytes, _: PathBuf) -> Result<Bytes, TransportError> {
        Self::refuse(to)
    }
}

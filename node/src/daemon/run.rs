//! `waifud run`: opens everything, serves until told to stop, closes everything.

use super::{
    clock::{self, WallClock},
    console_ports::GuestConsoles,
    desk::{Desk, TokenMint},
    doctor::NodeDoctor,
    guest_services::{self, GuestServicesError},
    https::{self, HttpsError},
    image_ports::{GossipImagePeers, ImageBlocks, WebImages},
    layout::Layout,
    listen::{Https, ListenError, LocalSocket},
    membership::{self, Standing},
    observer::{GossipObserver, STARTED, VERSION},
    peer_http::{PeerForwarder, PeerHttp},
    raft_link::{RaftCalls, RaftLink, RaftSnapshots},
    random::SystemRandom,
    reconcile_ports::ReconcileTasks,
    skew, upkeep, watchdog,
    workload::{self, Workload},
};
use crate::{
    config::Config,
    console::{Consoles, SerialLogs},
    facts::{self, Facts, FactsError},
    images::{AddressPolicy, DownloadSettings, ImageError, Limits, Store, StoreSettings},
};
use axum::middleware::from_fn_with_state;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use waifud_consensus::{Config as ConsensusConfig, Handle, Liveness, StartError, Timing, config::VoterRule};
use waifud_gossip::{
    PeerTable,
    identity::{DirError, Identity, IdentityDir},
    membership::{Gossip, GossipConfig, GossipError},
    peers::{BindError, Peers, Protocol},
};
use waifud_model::{ids::NodeId, name::NodeName, node::Node, size::ByteSize, state::ClusterInfo};
use waifud_web::{App, DigestCache, Metrics, bearer};

/// The build, as `waifud --version` says it.
pub(super) const BUILD: &str = env!("CARGO_PKG_VERSION");

/// A download that is slower than this for long is given up: an image of 1 GiB would take half a day.
const SLOWEST_DOWNLOAD: ByteSize = ByteSize::bytes(16 << 10);

/// Why the daemon could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// This machine belongs to no cluster.
    #[error("{0} belongs to no cluster; make one with `waifud init`, or join one with `waifud join`")]
    NoMember(PathBuf),
    /// The replica of this machine says that it is no member any more.
    #[error(
        "this node was removed from its cluster; its VMs' disks are still here. To use the machine again, remove {0} and join"
    )]
    Removed(PathBuf),
    /// The part of waifud that follows the node table ended by itself: a mistake in waifud.
    #[error("waifud has lost sight of the node table, which is a mistake of its own; it has to be started again")]
    FollowerDied,
    /// The identity does not read.
    #[error("this node's identity cannot be used")]
    Identity(#[from] DirError),
    /// A file of the data directory does not read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This machine cannot be looked at, or cannot do what was demanded.
    #[error("this machine cannot be a node as it is configured")]
    Facts(#[from] FactsError),
    /// The port for peers cannot be had.
    #[error("peers cannot be served; another program may have the port: change [node] listen")]
    Bind(#[from] BindError),
    /// Gossip could not start.
    #[error("gossip cannot start")]
    Gossip(#[from] GossipError),
    /// The replicated state cannot be opened.
    #[error("the replicated state cannot be opened")]
    Consensus(#[from] StartError),
    /// The replicated state cannot be read.
    #[error("the replicated state cannot be read")]
    State(#[from] waifud_consensus::ReadError),
    /// The image store cannot be opened.
    #[error("the image store cannot be opened")]
    Images(#[from] ImageError),
    /// Clients cannot be served.
    #[error("clients cannot be served")]
    Listen(#[from] ListenError),
    /// HTTPS cannot be served.
    #[error("HTTPS cannot be served")]
    Https(#[from] HttpsError),
    /// Guests cannot be run.
    #[error("guests cannot be run")]
    Workload(#[from] workload::WorkloadError),
    /// Guests cannot be served.
    #[error("guests cannot be served")]
    GuestServices(#[from] GuestServicesError),
}

/// Serves until `stop`. Guests run on, whatever happens here.
///
/// # Errors
/// If something that is needed cannot be opened.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let layout = Layout::new(&config.node.data_dir);
    if !layout.is_member() {
        return Err(RunError::NoMember(layout.data().to_owned()));
    }
    let facts = facts::detect(&config)?;
    let node = LocalNode::open(&config, &layout).await?;
    let tracker = TaskTracker::new();
    let served = node.serve(&config, &layout, facts, &tracker, &stop).await;

    stop.cancel();
    tracker.close();
    tracker.wait().await;
    node.close().await;
    served
}

/// A node's part in the cluster: who it is, its endpoint, its gossip, its replica.
struct LocalNode {
    me: NodeId,
    name: NodeName,
    identity: watch::Sender<Arc<Identity>>,
    identity_dir: IdentityDir,
    table: watch::Sender<Arc<PeerTable>>,
    liveness: watch::Sender<Liveness>,
    peers: Peers,
    gossip: Gossip,
    consensus: Handle,
}

impl RunError {
    /// True if to be started again would change nothing: somebody has to do something first.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::NoMember(_) | Self::Removed(_))
    }
}

impl LocalNode {
    async fn open(config: &Config, layout: &Layout) -> Result<Self, RunError> {
        let cluster = layout.cluster();
        let identity_dir = IdentityDir::open(cluster.identity())?;
        let identity = identity_dir.load()?.ok_or_else(|| RunError::NoMember(layout.data().to_owned()))?;
        let me = identity.node();
        let (identity, shown) = watch::channel(Arc::new(identity));

        // The endpoint has to be there before consensus, which calls through it, and needs a table to let anybody in.
        let first = membership::read_first_table(&cluster.peers())
            .map_err(|source| RunError::Read { path: cluster.peers(), source })?;
        let (table, in_force) = watch::channel(Arc::new(first));
        let peers = Peers::bind(config.node.listen, shown, in_force)?;
        let (liveness, alive) = watch::channel(Liveness::default());
        let mut settings = ConsensusConfig::new(cluster.raft(), me, clock::wall());
        settings.timing = Timing {
            heartbeat: config.cluster.heartbeat,
            election_min: config.cluster.election_min,
            election_max: config.cluster.election_max,
            ..Timing::default()
        };
        settings.voters = VoterRule { replace_dead_after: config.cluster.replace_dead_after };
        let consensus = Handle::start(settings, Arc::new(RaftLink::new(peers.clone())), alive).await?;

        let replicated = membership::replicated_table(&consensus).await?;
        if replicated.contains_key(&me) {
            table.send_replace(Arc::new(replicated));
        }
        // In neither table: the first one is gone since this node was seen in the state, and now it is not in that either.
        let Some(name) = table.borrow().get(&me).map(|this| this.name.clone()) else {
            return Err(RunError::Removed(cluster.root().to_owned()));
        };
        let mut pace = GossipConfig::new(cluster.gossip_generation());
        pace.pace.interval = config.cluster.gossip_interval;
        let gossip = Gossip::start(peers.clone(), pace).await?;
        Ok(Self { me, name, identity, identity_dir, table, liveness, peers, gossip, consensus })
    }

    /// Starts everything that runs beside, serves clients, and returns when `stop` is given.
    async fn serve(
        &self,
        config: &Config,
        layout: &Layout,
        facts: Facts,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(), RunError> {
        let (standing, mut known) = watch::channel(Standing::CatchingUp);
        let (consensus, gossip) = (&self.consensus, &self.gossip);
        tracker.spawn(membership::follow_table(self.me, consensus.clone(), self.table.clone(), standing, stop.clone()));
        tracker.spawn(membership::follow_members(self.me, gossip.clone(), self.liveness.clone(), stop.clone()));
        tracker.spawn(skew::tell(gossip.clone(), stop.clone()));
        tell(gossip, VERSION, BUILD.to_owned());
        tell(gossip, STARTED, clock::now().0.to_string());

        tracker.spawn(upkeep::tell_progress(consensus.clone(), gossip.clone(), stop.clone()));

        let store = Arc::new(Store::open(
            store_settings(config, layout),
            Arc::new(GossipImagePeers::new(self.peers.clone(), gossip.clone())),
        )?);
        let (tasks, consoles) = (ReconcileTasks::default(), GuestConsoles::default());
        let (liveness, identity) = (self.liveness.subscribe(), self.identity.subscribe());
        let doctor = Arc::new(NodeDoctor::new(self.me, config, &facts, consensus.clone(), liveness, identity));
        let app = self.app(&store, &tasks, &consoles, doctor.clone(), stop);
        let router = waifud_web::router(app.clone());
        self.peers.register(Protocol::Raft, Arc::new(RaftCalls(consensus.clone())));
        self.peers.register(Protocol::Snapshot, Arc::new(RaftSnapshots(consensus.clone())));
        self.peers.register(Protocol::Image, Arc::new(ImageBlocks(store.clone())));
        self.peers.register(Protocol::Api, Arc::new(PeerHttp(router.clone())));
        self.peers.open_join_desk(Arc::new(Desk::new(self.me, consensus.clone(), clock::now)));

        let socket = LocalSocket::bind(&config.api.socket, config.api.socket_group.as_deref())?;
        tracker.spawn(socket.serve(self.me, router, stop.clone()));
        ready();
        tracker.spawn(watchdog::keep(config.api.socket.clone(), alive, stop.clone()));
        tracing::info!(node = %self.me, name = %self.name, socket = %config.api.socket.display(), "waifud serves");

        let Some((cluster, record)) = self.wait_for_record(&mut known, stop).await? else { return Ok(()) };
        self.leave_first_table_behind(&layout.cluster().peers()).await;
        // A new address is in the configuration before it is in the record.
        let record = Node { advertise: config.node.advertise.unwrap_or(record.advertise), ..record };
        // Not before: what is bound is connected to, and nobody is to wait behind a door that cannot be opened yet.
        let door = Https::bind(config.api.listen).await?;
        let tls = https::acceptor(config, &cluster, &record)?;
        let public = waifud_web::router(app.clone()).layer(from_fn_with_state(app, bearer::identify));
        tracker.spawn(door.serve(tls, public, stop.clone()));
        let advertise = config.node.advertise;
        tracker.spawn(upkeep::tell_facts(self.me, consensus.clone(), facts.clone(), advertise, stop.clone()));
        tracker.spawn(upkeep::renew_certificate(
            consensus.clone(),
            self.identity_dir.clone(),
            self.identity.clone(),
            stop.clone(),
        ));

        let workload =
            Workload::start(config, layout, &cluster, &record, &facts, store, gossip, consensus, stop).await?;
        tasks.attach(workload.reconciler(), workload.overrides());
        let logs = SerialLogs::new(layout.serial());
        consoles.attach(Consoles::start(self.name.clone(), workload.hypervisor(), logs, stop.clone()));
        let needs = guest_services::Needs {
            config,
            layout,
            cluster: &cluster,
            record: &record,
            consensus,
            hypervisor: workload.hypervisor(),
            reconciler: workload.reconciler(),
            standing: known.clone(),
        };
        let cache = guest_services::start(needs, tracker, stop)?;
        doctor.attach(workload.hypervisor(), cache);
        let ended = wait_for_end(&mut known, stop).await;
        stopping();
        workload.stop().await;
        ended
    }

    fn app(
        &self,
        store: &Arc<Store>,
        tasks: &ReconcileTasks,
        consoles: &GuestConsoles,
        doctor: Arc<NodeDoctor>,
        stop: &CancellationToken,
    ) -> App {
        App {
            node: self.me,
            name: self.name.clone(),
            version: BUILD,
            consensus: self.consensus.clone(),
            observer: Arc::new(GossipObserver::start(&self.gossip, stop.clone())),
            forwarder: Arc::new(PeerForwarder::new(self.peers.clone())),
            images: Arc::new(WebImages::new(store.clone(), self.gossip.clone())),
            tasks: Arc::new(tasks.clone()),
            consoles: Arc::new(consoles.clone()),
            doctor,
            join_tokens: Arc::new(TokenMint),
            clock: Arc::new(WallClock),
            random: Arc::new(SystemRandom),
            metrics: Arc::new(Metrics::default()),
            rates: Arc::default(),
            digests: Arc::new(DigestCache::default()),
        }
    }

    /// Waits until the replica knows this node: a machine that has just joined has to be told its subnet. None: stopped.
    async fn wait_for_record(
        &self,
        standing: &mut watch::Receiver<Standing>,
        stop: &CancellationToken,
    ) -> Result<Option<(ClusterInfo, Node)>, RunError> {
        let member = standing.wait_for(|s| *s == Standing::Member);
        match stop.run_until_cancelled(member).await {
            Some(Ok(_)) => {}
            // It ends by the same signal, and may be the first to.
            Some(Err(_)) if !stop.is_cancelled() => return Err(RunError::FollowerDied),
            Some(Err(_)) | None => return Ok(None),
        }
        let me = self.me;
        let read = self.consensus.read(move |view| Ok((view.cluster()?, view.node(me)?))).await?;
        Ok(match read {
            (Some(cluster), Some(node)) => Some((cluster, node)),
            _ => None,
        })
    }

    /// Once this node is in its own replica, the replica knows better who the peers are. But not before that is safe: a power
    /// cut that took both would leave a member that takes itself for removed.
    async fn leave_first_table_behind(&self, first: &Path) {
        let removed = match self.consensus.sync().await {
            Ok(()) => std::fs::remove_file(first),
            Err(error) => Err(error),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the first table of peers stays; it is not used any more");
        }
    }

    async fn close(self) {
        // Leadership is handed over first, while everybody can still be reached.
        self.consensus.shutdown().await;
        self.gossip.shutdown();
        self.peers.shutdown().await;
    }
}

fn tell(gossip: &Gossip, key: &str, value: String) {
    if let Err(error) = gossip.publish(key, value) {
        tracing::warn!(key, %error, "other nodes are not told");
    }
}

fn store_settings(config: &Config, layout: &Layout) -> StoreSettings {
    StoreSettings {
        dir: layout.images(),
        limits: Limits { max_size: config.images.max_size, max_virtual_size: config.images.max_virtual_size },
        download: DownloadSettings {
            addresses: AddressPolicy {
                allow_private: config.images.allow_private_urls,
                allowed_hosts: config.images.allowed_hosts.clone(),
            },
            timeout: config.images.download_timeout,
            slowest: SLOWEST_DOWNLOAD,
        },
        patience: Default::default(),
    }
}

/// Returns when the daemon is to stop. That this node was removed is said, and waited out: its guests still run, and the
/// person who removed it may want to look at them here.
///
/// # Errors
/// If nobody tells any more who is a member.
async fn wait_for_end(standing: &mut watch::Receiver<Standing>, stop: &CancellationToken) -> Result<(), RunError> {
    loop {
        match stop.run_until_cancelled(standing.changed()).await {
            None => return Ok(()),
            // It ends by the same signal, and may be the first to.
            Some(Err(_)) if stop.is_cancelled() => return Ok(()),
            Some(Err(_)) => return Err(RunError::FollowerDied),
            Some(Ok(())) if *standing.borrow_and_update() == Standing::Removed => tracing::error!(
                "this node was removed from the cluster; stop waifud and remove its cluster directory to join again"
            ),
            Some(Ok(())) => {}
        }
    }
}

/// Tells systemd, where it listens, that clients are served.
fn ready() {
    notify(&[sd_notify::NotifyState::Ready]);
}

fn alive() {
    notify(&[sd_notify::NotifyState::Watchdog]);
}

fn stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

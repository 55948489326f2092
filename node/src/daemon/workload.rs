//! Everything that has to do with guests, started once it is known which subnet is this node's: hypervisor, disks, network,
//! and the reconciler that uses them.
//!
//! In: the node's record and facts. Out: a running [`Reconciler`]. A libvirtd that is not there yet is no reason to stop: it
//! is waited for, and until then VMs say so in their status.

use super::{
    clock::WallClock,
    image_ports::{self, AnnouncedStore},
    layout::Layout,
    override_keeper::Keeper,
    overrides::{Overrides, OverridesError},
    random,
    reconcile_ports::{GossipObservations, NodeProposer, ReplicaIntent},
    usage,
};
use crate::{
    config::Config,
    facts::Facts,
    hypervisor::{
        DiskCache, Hypervisor, HypervisorError,
        libvirt::{Libvirt, LibvirtConfig},
    },
    images::{ImageError, Store},
    net::{LibvirtNetwork, NetworkError, NetworkLayout, refuse_overlap},
    reconcile::{Edges, Reconciler, Settings, Shape},
    volumes::{DirVolumes, VolumeError},
};
use nix::fcntl::OFlag;
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Handle, Storage};
use waifud_gossip::membership::Gossip;
use waifud_model::{node::Node, state::ClusterInfo};

/// Before the guests' network is set up again after it could not be.
const NETWORK_AGAIN: Duration = Duration::from_secs(5);

/// Why guests cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A directory cannot be made.
    #[error("{path} cannot be made")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disks' directory cannot be used.
    #[error("the disks' directory cannot be used")]
    Volumes(#[from] VolumeError),
    /// What was asked for without the cluster cannot be read.
    #[error("what this node was asked for without the cluster is not known")]
    Overrides(#[from] OverridesError),
    /// The images' directory cannot be used.
    #[error("the images' directory cannot be used")]
    Images(#[from] ImageError),
    /// The hypervisor cannot be talked to.
    #[error("the hypervisor cannot be talked to")]
    Hypervisor(#[from] HypervisorError),
}

/// What runs guests.
#[derive(Debug)]
pub(super) struct Workload {
    hypervisor: Arc<Libvirt>,
    reconciler: Arc<Reconciler>,
    network: JoinHandle<()>,
    garbage: JoinHandle<()>,
    keeper: JoinHandle<()>,
    meter: JoinHandle<()>,
    overrides: Arc<Overrides>,
}

impl Workload {
    /// Starts it for the node of `record`.
    ///
    /// # Errors
    /// If a directory cannot be used, or the system gives no threads.
    #[expect(clippy::too_many_arguments, reason = "a composition root hands on what it holds")]
    pub(super) async fn start(
        config: &Config,
        layout: &Layout,
        cluster: &ClusterInfo,
        record: &Node,
        facts: &Facts,
        store: Arc<Store>,
        gossip: &Gossip,
        consensus: &Handle,
        stop: &CancellationToken,
    ) -> Result<Self, WorkloadError> {
        let consoles = layout.serial();
        std::fs::create_dir_all(&consoles)
            .map_err(|source| WorkloadError::Directory { path: consoles.clone(), source })?;
        let volumes = DirVolumes::open(layout.volumes())?;
        let hypervisor = Arc::new(Libvirt::start(LibvirtConfig {
            uri: config.hypervisor.uri.clone(),
            ..LibvirtConfig::system(cluster.id)
        })?);
        let network = Arc::new(LibvirtNetwork::new(&config.hypervisor.uri, network_layout(config, cluster, record)));
        let keeper = keep_network(network.clone(), hypervisor.clone(), cluster.clone(), config.network.bridge.clone());
        let shape = Shape {
            accel: facts.accel,
            arch: facts.capacity.arch,
            threads: facts.capacity.threads,
            cache: cache_for(&layout.volumes()),
            console_dir: consoles,
        };
        let mut settings = Settings::new(u64::from_be_bytes(random::bytes()));
        settings.patience.grace = config.hypervisor.shutdown_grace;
        let overrides = Overrides::open(layout.cluster().overrides(), Storage::Threads)?;
        let proposer = Arc::new(NodeProposer::new(record.id, consensus.clone()));
        let edges = Edges {
            hypervisor: hypervisor.clone(),
            volumes: Arc::new(volumes),
            images: Arc::new(AnnouncedStore::new(store.clone(), gossip.clone()).await?),
            network,
            intent: Arc::new(ReplicaIntent::new(
                record.id,
                consensus.clone(),
                config.network.mtu,
                Arc::clone(&overrides),
            )),
            proposer: proposer.clone(),
            observations: Arc::new(GossipObservations(gossip.clone())),
            clock: Arc::new(WallClock),
        };
        let garbage = image_ports::collect_garbage(store, gossip.clone(), consensus.clone(), stop.clone());
        let reconciler = Arc::new(Reconciler::start(edges, shape, settings));
        let wishes = Keeper::new(record.id, overrides.clone(), consensus.clone(), proposer, Arc::clone(&reconciler));
        let meter = usage::tell(hypervisor.clone(), gossip.clone(), stop.clone());
        Ok(Self {
            hypervisor,
            reconciler,
            network: tokio::spawn(keeper),
            garbage: tokio::spawn(garbage),
            keeper: tokio::spawn(wishes.run(stop.clone())),
            meter: tokio::spawn(meter),
            overrides,
        })
    }

    /// For whoever has to know which guests run here.
    #[must_use]
    pub(super) fn hypervisor(&self) -> Arc<dyn Hypervisor> {
        self.hypervisor.clone()
    }

    /// For whoever is asked to do something without the cluster.
    #[must_use]
    pub(super) fn overrides(&self) -> Arc<Overrides> {
        Arc::clone(&self.overrides)
    }

    /// For whoever asks what is known of VMs.
    #[must_use]
    pub(super) fn reconciler(&self) -> Arc<Reconciler> {
        self.reconciler.clone()
    }

    /// Ends all work; guests run on.
    pub(super) async fn stop(self) {
        self.network.abort();
        self.garbage.abort();
        self.keeper.abort();
        self.meter.abort();
        self.reconciler.stop().await;
    }
}

fn network_layout(config: &Config, cluster: &ClusterInfo, record: &Node) -> NetworkLayout {
    NetworkLayout {
        bridge: config.network.bridge.clone(),
        mtu: config.network.mtu.into(),
        subnet: record.subnet,
        cluster: cluster.cidr,
        no_masquerade: config.network.no_masquerade.clone(),
        dns: config.network.dns.clone(),
        names: config.network.names_listen,
    }
}

/// Sets the guests' network up, and again whenever the hypervisor has come back: what it forgot is made anew.
async fn keep_network(network: Arc<LibvirtNetwork>, hypervisor: Arc<Libvirt>, cluster: ClusterInfo, bridge: String) {
    let mut health = hypervisor.health();
    loop {
        if health.wait_for(|health| health.is_up()).await.is_err() {
            return;
        }
        loop {
            match set_up(&network, &cluster, &bridge).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the guests' network cannot be set up");
                    tokio::time::sleep(NETWORK_AGAIN).await;
                }
            }
        }
        if health.wait_for(|health| !health.is_up()).await.is_err() {
            return;
        }
    }
}

async fn set_up(network: &LibvirtNetwork, cluster: &ClusterInfo, bridge: &str) -> Result<(), NetworkError> {
    refuse_overlap(cluster.cidr, &[bridge, crate::net::MESH]).await?;
    let setup = network.ensure().await?;
    tracing::info!(?setup, "the guests' network is up");
    Ok(())
}

/// `O_DIRECT` where the file system can do it: guests' disks then do not fill the host's memory.
fn cache_for(dir: &Path) -> DiskCache {
    let probe = dir.join(".direct");
    let direct = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(&probe)
        .is_ok();
    // A probe that stays behind is an empty file; the next start uses it again.
    let _ = std::fs::remove_file(probe);
    if direct { DiskCache::None } else { DiskCache::Writeback }
}

//! The daemon on a host: consensus and reconcile, wired as the product wires them.

use super::{fabric::Fabric, gossip::Gossip, host::Host, planted::Planted, ports};
use anyhow::{Context, Result};
use std::{path::PathBuf, sync::Arc};
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Config, Handle, SnapshotRule, Storage};
use waifud_model::node::Arch;
use waifud_node::{
    daemon::{Keeper, NodeProposer, Overrides, ReplicaIntent},
    hypervisor::{Accel, DiskCache},
    reconcile::{Edges, Reconciler, Settings, Shape},
};

/// Small, so that a node that was away for some seconds needs a snapshot.
const SNAPSHOTS: SnapshotRule = SnapshotRule { every: 20, keep: 5 };

/// Everything on the simulation's one thread, and nothing synced: power is never lost for real.
const STORAGE: Storage = Storage::Inline { durable: false };

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) handle: Handle,
    /// What it was told to do without the cluster.
    pub(crate) overrides: Arc<Overrides>,
    reconciler: Arc<Reconciler>,
    stop: CancellationToken,
}

impl Node {
    /// Starts a daemon on what is on the host.
    pub(crate) async fn start(
        host: &Host,
        fabric: &Fabric,
        gossip: &Gossip,
        boot: u64,
        planted: Option<Planted>,
    ) -> Result<Self> {
        let clock = host.clock.clone();
        let config = Config {
            storage: STORAGE,
            snapshot: SNAPSHOTS,
            ..Config::new(&host.dir, host.id, Arc::new(move || clock.now()))
        };
        let liveness = gossip.join(host.id);
        let handle = Handle::start(config, fabric.line(host.id), liveness)
            .await
            .with_context(|| format!("node {} does not start on its files", host.name))?;
        fabric.attach(host.id, handle.clone());
        let overrides = Overrides::open(host.dir.join("overrides.json"), STORAGE)?;
        let intent = Arc::new(ReplicaIntent::new(host.id, handle.clone(), 1420, Arc::clone(&overrides)));
        let proposer = Arc::new(NodeProposer::new(host.id, handle.clone()));
        let edges = Edges {
            hypervisor: ports::hypervisor(Arc::new(host.hypervisor.clone()), planted),
            volumes: ports::volumes(host.volumes.clone(), planted),
            images: host.images.clone(),
            network: host.network.clone(),
            intent: ports::intent(intent, handle.clone(), planted),
            proposer: proposer.clone(),
            observations: gossip.mouth(host.id),
            clock: Arc::new(host.clock.clone()),
        };
        let shape = Shape {
            accel: Accel::Tcg,
            arch: Arch::X86_64,
            threads: 4,
            cache: DiskCache::None,
            console_dir: PathBuf::from("/sim/consoles"),
        };
        let reconciler = Arc::new(Reconciler::start(edges, shape, Settings::new(boot)));
        let stop = CancellationToken::new();
        let keeper = Keeper::new(host.id, overrides.clone(), handle.clone(), proposer, reconciler.clone());
        tokio::spawn(keeper.run(stop.clone()));
        Ok(Self { handle, overrides, reconciler, stop })
    }

    /// Falls over: nothing it says from now on is heard, and nothing is left running.
    pub(crate) async fn crash(self, host: &Host, fabric: &Fabric, gossip: &Gossip) {
        fabric.detach(host.id);
        gossip.leave(host.id);
        self.stop.cancel();
        self.reconciler.stop().await;
        self.handle.stop().await;
    }

    /// Shuts down as it should.
    pub(crate) async fn shut_down(self, host: &Host, fabric: &Fabric, gossip: &Gossip) {
        self.stop.cancel();
        self.reconciler.stop().await;
        self.handle.shutdown().await;
        fabric.detach(host.id);
        gossip.leave(host.id);
    }
}

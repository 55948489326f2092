//! This node's end of the mesh: brought up, told to the cluster, and kept as the replica says.
//!
//! In: the node's own key, made on this machine; the nodes and peers of the replica. Out: a WireGuard interface with routes
//! and rules around it; a [`MeshEnd`] in the node's record; and a [`PacketLink`] for the metadata service, a new one each time
//! the interface had to be started anew.
//!
//! ```text
//!   replica ──(at most once in PAUSE)──> Members ──┬──> Mesh::apply      peers, keys, endpoints
//!                                                  └──> host::ensure     rules, routes, sysctls; again every LOOK
//! ```

use super::upkeep;
use crate::net::{Members, Own};
use std::{error::Error, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use waifud_consensus::{Handle, ReadError};
use waifud_mesh::{Interface, Mesh, MeshConfig, MeshError, PacketLink, PrivateKey, host};
use waifud_model::{
    command::Command,
    mesh::{MeshEnd, MeshKey},
    node::Node,
};

/// Between two readings of the replica: a new node's guests are reached within this, and a busy cluster is not read for nothing.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is looked whether somebody took away a rule or a route.
const LOOK: Duration = Duration::from_secs(30);
/// Before routes are tried again that could not be made: the bridge is made at the same time as the mesh.
const ROUTE_AGAIN: Duration = Duration::from_secs(1);
/// Before the interface is started again after it could not be.
const AGAIN: Duration = Duration::from_secs(5);

/// What the mesh needs.
#[derive(Debug, Clone)]
pub(super) struct MeshSettings {
    /// What is this node's own.
    pub(super) own: Own,
    /// Its private key.
    pub(super) key: PrivateKey,
    /// Where it listens (UDP).
    pub(super) port: u16,
}

/// Keeps the mesh up until `stop`. The interface stays after that, so that a restart is a short gap.
pub(super) async fn keep(
    settings: MeshSettings,
    consensus: Handle,
    links: mpsc::Sender<PacketLink>,
    stop: CancellationToken,
) {
    let told = tokio::spawn(tell(settings.clone(), consensus.clone()));
    let keeper = Keeper { settings, consensus, links };
    while !stop.is_cancelled() {
        let Err(error) = stop.run_until_cancelled(keeper.live()).await.unwrap_or(Ok(())) else { break };
        tracing::error!(error = &error as &dyn Error, "the mesh is down; it is started again");
        // Cancelled or not, the loop's condition sees it.
        let _ = stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await;
    }
    told.abort();
}

struct Keeper {
    settings: MeshSettings,
    consensus: Handle,
    links: mpsc::Sender<PacketLink>,
}

/// Why the mesh is not up. It is tried again.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("who is in the mesh cannot be read")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error("nobody serves metadata any more")]
    NoService,
}

/// Stops the data plane when whoever keeps it is dropped, as by a daemon that stops.
struct Up(Arc<dyn Mesh>);

impl Drop for Up {
    fn drop(&mut self) {
        let mesh = Arc::clone(&self.0);
        tokio::spawn(async move { mesh.stop().await });
    }
}

impl Keeper {
    /// From a start to the end of the interface.
    async fn live(&self) -> Result<(), KeepError> {
        let own = &self.settings.own;
        let mut applied = self.consensus.applied();
        let mut members = self.read().await?;
        let interface = Interface { name: own.interface.clone(), mtu: own.mtu };
        let (mesh, link) = waifud_mesh::start(&interface, &self.config(&members)).await?;
        let mesh = Up(mesh);
        tracing::info!(kind = %mesh.0.kind(), interface = own.interface, "the mesh is up");
        self.links.send(link).await.map_err(|_| KeepError::NoService)?;
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                error = mesh.0.failed() => return Err(error.into()),
                () = tokio::time::sleep_until(look_at) => look_at = self.route(&members).await,
                changed = applied.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    tokio::time::sleep(PAUSE).await;
                    applied.borrow_and_update();
                    let now = self.read().await?;
                    if now != members {
                        members = now;
                        mesh.0.apply(&self.config(&members)).await?;
                        look_at = self.route(&members).await;
                    }
                }
            }
        }
    }

    fn config(&self, members: &Members) -> MeshConfig {
        MeshConfig {
            private_key: self.settings.key.clone(),
            listen_port: self.settings.port,
            peers: members.peers(&self.settings.own),
        }
    }

    async fn read(&self) -> Result<Members, ReadError> {
        self.consensus
            .read(|view| Ok(Members { nodes: view.nodes()?, peers: view.net_peers()?, addresses: view.addresses()? }))
            .await
    }

    /// Brings rules and routes to what they should be, and says when to look again. Before the bridge is there they cannot be.
    async fn route(&self, members: &Members) -> Instant {
        let bridge = self.settings.own.bridge.as_str();
        if nix::net::if_::if_nametoindex(bridge).is_err() {
            tracing::debug!(bridge, "no guests' network yet, and so no way from it");
            return Instant::now() + ROUTE_AGAIN;
        }
        match host::ensure(&members.routing(&self.settings.own)).await {
            Ok(_) => Instant::now() + LOOK,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "routes into the mesh are not all there; trying again");
                Instant::now() + ROUTE_AGAIN
            }
        }
    }
}

/// Sees to it that the node's record has its end of the mesh.
async fn tell(settings: MeshSettings, consensus: Handle) {
    let node = settings.own.node;
    let end = MeshEnd { key: MeshKey(*settings.key.public().as_bytes()), port: settings.port };
    let lacks = |known: &Node| (known.mesh != Some(end)).then_some(Command::SetMeshEnd { node, end });
    match upkeep::see_to_record(node, &consensus, "mesh", lacks).await {
        Ok(false) => {}
        Ok(true) => tracing::info!(key = %end.key, "the cluster knows this node's end of the mesh"),
        Err(error) => tracing::error!(
            error = &error as &dyn Error,
            "the cluster refuses this node's end of the mesh; other nodes cannot reach its guests"
        ),
    }
}

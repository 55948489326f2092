//! What guests are served besides CPU, memory and disk: the mesh, their metadata, names; and what others are told of them.
//! Each goes on by itself: when one cannot work, it says so and is tried again, and the others do.
//!
//! ```text
//!   guest ──> bridge ──> waifu0 ──> mesh ──(PacketLink)──> userspace TCP ──> metadata ──> ReplicaGuests
//!   guest ──> dnsmasq ──> names ──> Replica
//! ```

use super::{
    cache::{self, OpenCacheError},
    guests::ReplicaGuests,
    layout::Layout,
    membership::Standing,
    mesh::{self, MeshSettings},
    outside::Outside,
};
use crate::{
    config::Config,
    hypervisor::Hypervisor,
    names::{NameServer, Replica, Zone},
    net::{MESH, METADATA, Own, TAILSCALE_SOCKET, Tailscale},
    reconcile::Reconciler,
};
use std::{net::SocketAddr, net::SocketAddrV4, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use waifud_consensus::Handle;
use waifud_mesh::{KeyError, PacketLink, PrivateKey};
use waifud_metadata::{
    cache::Cache,
    serve::{self, Rate, Service, Tokens},
    stack::{Limits, Stack},
};
use waifud_model::{node::Node, state::ClusterInfo};

/// Before a port that was taken is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Why guests cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum GuestServicesError {
    /// The mesh's key cannot be had.
    #[error("this node's key for the mesh cannot be had")]
    Key(#[from] KeyError),
    /// The cache is configured and cannot be used.
    #[error("the shared cache cannot be used as it is configured")]
    Cache(#[from] OpenCacheError),
}

/// What the services need of the rest of the node.
pub(super) struct Needs<'a> {
    pub(super) config: &'a Config,
    pub(super) layout: &'a Layout,
    pub(super) cluster: &'a ClusterInfo,
    pub(super) record: &'a Node,
    pub(super) consensus: &'a Handle,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) reconciler: Arc<Reconciler>,
    pub(super) standing: watch::Receiver<Standing>,
}

/// Starts all of it; it ends with `stop`. Gives the shared cache, if one is configured.
///
/// # Errors
/// If the mesh's key cannot be had, or the cache's settings cannot be used: both are for a person to mend.
pub(super) fn start(
    needs: Needs<'_>,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<Arc<Cache>>, GuestServicesError> {
    let Needs { config, layout, cluster, record, consensus, hypervisor, reconciler, standing } = needs;
    let key = PrivateKey::load_or_make(&layout.cluster().mesh_key())?;
    let cache = cache::open(&config.cache, cluster)?;
    let mtu = config.network.mtu;
    if let Some(cache) = cache.clone() {
        let expire = config.cache.expire;
        tracker.spawn(cache::fill(cache, record.id, mtu, expire, consensus.clone(), stop.clone()));
    }

    let guests = ReplicaGuests::new(record.id, mtu, consensus.clone(), hypervisor, reconciler, cache.clone());
    // Tokens are this node's own affair, and so is its mesh key.
    let service = Service::new(Arc::new(guests), Tokens::new(&key.to_bytes()), Rate::default());
    // The mesh makes a new link only after the last one has ended.
    let (links, received) = mpsc::channel(1);
    tracker.spawn(serve_metadata(received, service, stop.clone()));

    let own = Own {
        node: record.id,
        interface: MESH.to_owned(),
        bridge: config.network.bridge.clone(),
        mtu,
        cluster: cluster.cidr,
        subnet: record.subnet,
    };
    let settings = MeshSettings { own: own.clone(), key, port: config.network.mesh_port };
    tracker.spawn(mesh::keep(settings, consensus.clone(), links, stop.clone()));
    tracker.spawn(serve_names(
        config.network.names_listen,
        Zone::new(cluster.cidr),
        Replica::new(consensus.clone()),
        stop.clone(),
    ));
    let outside = Outside {
        own,
        tailscale: config.network.tailscale.then(|| Tailscale::new(TAILSCALE_SOCKET)),
        consensus: consensus.clone(),
    };
    tracker.spawn(outside.tell(standing, stop.clone()));
    Ok(cache)
}

/// Serves each link for as long as it lasts.
async fn serve_metadata(mut links: mpsc::Receiver<PacketLink>, service: Service, stop: CancellationToken) {
    let router = serve::router(service);
    while let Some(Some(link)) = stop.run_until_cancelled(links.recv()).await {
        let listener = Stack::start(link.rx, link.tx, SocketAddrV4::new(METADATA, 80), Limits::default());
        serve::run(listener, router.clone(), stop.clone()).await;
    }
}

async fn serve_names(address: SocketAddr, zone: Zone, replica: Replica, stop: CancellationToken) {
    let replica = Arc::new(replica);
    loop {
        match NameServer::start(address, zone.clone(), replica.clone()).await {
            Ok(server) => {
                stop.cancelled().await;
                return server.stop().await;
            }
            Err(error) => {
                tracing::error!(%address, %error, "names of VMs are not served; change [network] names_listen if another program has the port");
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
            return;
        }
    }
}

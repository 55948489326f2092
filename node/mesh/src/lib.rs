//! The WireGuard interface of a node: one encrypted network between the nodes, and the only way to the metadata service.
//!
//! In: who the peers are ([`MeshConfig`]), as often as it changes. Out: what the tunnels do ([`PeerStatus`]), and the
//! packets that guests sent to the metadata address ([`PacketLink`]). Two implementations stand behind [`Mesh`]: the
//! kernel's WireGuard where there is one, else a data plane of our own over a TUN device and one UDP socket.
//!
//! ```text
//!  guest ─► bridge ─► rules, table 7744 ─► waifu0 ─┬─► peer "n2" ─► UDP ─► n2's waifu0
//!           (host)                                 └─► peer "metadata" ─► PacketLink (in this process)
//! ```
//!
//! This crate knows WireGuard, rules and routes. It knows no cluster, no VM and no firewall, opens no port but its own,
//! and never touches a rule, a route or an interface that is not its own.

pub mod config;
pub mod error;
pub mod host;
pub mod kernel;
pub mod key;
pub mod link;
mod packet;
pub mod userspace;

use async_trait::async_trait;

pub use config::{Interface, Kind, METADATA_ADDRESS, MeshConfig, PeerConfig, PeerStatus};
pub use error::MeshError;
pub use kernel::{KernelMesh, kernel_available};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use link::PacketLink;
pub use userspace::UserspaceMesh;

/// A WireGuard interface that is up, whoever does its work.
#[async_trait]
pub trait Mesh: Send + Sync + std::fmt::Debug {
    /// Who does the work.
    fn kind(&self) -> Kind;

    /// Brings key, port and peers to `config`. Peers that stay keep their sessions, also when their endpoint or their
    /// networks change; a peer that has roamed is only called back when its *configured* endpoint changes.
    ///
    /// # Errors
    /// The configuration contradicts itself, the port is taken, or the kernel refuses. The interface then is as before,
    /// or (kernel) partly changed: applying again is always right.
    async fn apply(&self, config: &MeshConfig) -> Result<(), MeshError>;

    /// Every peer of the last configuration, in its order; the metadata service's own peer is not among them.
    ///
    /// # Errors
    /// The kernel does not answer, or the interface is gone.
    async fn status(&self) -> Result<Vec<PeerStatus>, MeshError>;

    /// Waits until the interface has stopped working by itself (somebody deleted it, say) and says why. Stopping it and
    /// starting another is the remedy.
    async fn failed(&self) -> MeshError;

    /// Stops what runs in this process and returns when it has. The interface stays, so that the routes through it do:
    /// [`host::remove`] takes it away.
    async fn stop(&self);
}

/// Starts the kernel's WireGuard where there is one, and our own data plane elsewhere.
///
/// # Errors
/// Neither could be started.
pub async fn start(
    interface: &Interface,
    config: &MeshConfig,
) -> Result<(std::sync::Arc<dyn Mesh>, PacketLink), MeshError> {
    if kernel_available().await {
        let (mesh, link) = KernelMesh::start(interface, config).await?;
        Ok((std::sync::Arc::new(mesh), link))
    } else {
        let (mesh, link) = UserspaceMesh::start(interface, config).await?;
        Ok((std::sync::Arc::new(mesh), link))
    }
}

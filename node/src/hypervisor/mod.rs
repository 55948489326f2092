//! Running guests: the [`Hypervisor`] trait in our own words, libvirt behind it, and a fake for simulations.
//!
//! In: a [`DomainSpec`], pure data. Out: [`Domain`]s as they are, and [`DomainEvent`]s that say where to look again.
//! Events are hints and may be lost; states are truth. A domain without our mark, or with that of another cluster, is
//! never listed and never touched. No libvirt type leaves this room, and nothing here decides *whether* a guest may
//! run: that is reconcile's affair.
//!
//! ```text
//!   reconcile ──> Hypervisor ──┬── libvirt/   lane (thread, queue, deadline) ──> session ──> ffi ──> libvirtd
//!      ▲                       └── fake/      in memory, with faults, on tokio's clock
//!      └────── DomainEvent, Health ─────────────┘
//! ```

mod domain;
mod error;
pub mod fake;
pub mod libvirt;
mod live;
mod mark;
mod pty;
mod xml;

pub use domain::{
    Accel, Card, Cpus, Disk, DiskCache, Domain, DomainEvent, DomainSpec, DomainState, Drive, ExtraDisk, Happening,
    Health, Machine, Memory, Nic, OffReason, PauseReason, Smbios, Usage,
};
pub use error::{Cause, HypervisorError};
pub use libvirt::{Libvirt, LibvirtConfig};
pub use live::{Adjustment, Boot, Live, LiveCard, LiveDisk, StartMode};
pub use mark::Mark;
pub use xml::{DomainType, domain_xml};

use async_trait::async_trait;
use std::{fmt::Debug, net::Ipv4Addr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{broadcast, watch},
};
use waifud_model::ids::{Generation, VmId};

/// Bytes both ways, to and from a guest. Reading ends when the guest is off.
pub trait Line: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Line for T {}

/// What runs guests on this node.
///
/// Every call ends: an implementation that gets no answer in time returns [`HypervisorError::Hung`], and whether the call
/// took effect is then unknown. Calls may be repeated: what is done already is no error. A call's future may be dropped at
/// any time; the call then happens or not, but never by halves that a repetition would not mend.
#[async_trait]
pub trait Hypervisor: Send + Sync + Debug {
    /// All domains of this cluster on this node, in the order of their ids. One bulk request, however many there are.
    ///
    /// # Errors
    /// If it cannot be told; that never means that there are none.
    async fn list(&self) -> Result<Vec<Domain>, HypervisorError>;

    /// One domain, looked at afresh. None if there is no such domain, or only a foreign one of that name.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn find(&self, vm: VmId) -> Result<Option<Domain>, HypervisorError>;

    /// What the running domains use, in the order of their ids. One bulk request. Domains that are busy are left out.
    ///
    /// # Errors
    /// If it cannot be told.
    async fn usage(&self) -> Result<Vec<Usage>, HypervisorError>;

    /// The IPv4 addresses that the agent in a guest tells; none if no agent answers there.
    ///
    /// # Errors
    /// If the hypervisor does not answer.
    async fn agent_addresses(&self, vm: VmId) -> Result<Vec<Ipv4Addr>, HypervisorError>;

    /// Makes the domain, or brings its definition to `spec`. A running guest goes on as it was made; it takes up the new
    /// definition when it is started the next time.
    ///
    /// # Errors
    /// [`HypervisorError::Foreign`] if somebody else's domain has that name or UUID.
    async fn define(&self, spec: &DomainSpec) -> Result<(), HypervisorError>;

    /// Starts the domain, and notes in its mark that it was started for `generation`, when, and with what. If its guest is on,
    /// only the generation is noted, and it goes on running or being held still as it is.
    ///
    /// # Errors
    /// If it is not defined, or the guest could not be started.
    async fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<(), HypervisorError>;

    /// Notes in its mark that the guest's cloud-init is done in this life of the VM, which is told as a
    /// [`Happening::Definition`]. Noted already, it is no news.
    ///
    /// # Errors
    /// If it is not defined, or this cannot be noted.
    async fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<(), HypervisorError>;

    /// Holds the guest still. Its memory is kept, and nothing in it notices.
    ///
    /// # Errors
    /// If it is not defined, or is off. One that is held still already is no error.
    async fn suspend(&self, vm: VmId) -> Result<(), HypervisorError>;

    /// Lets a guest go on that is held still, whatever the reason was.
    ///
    /// # Errors
    /// If it is not defined, or is off. One that runs is no error.
    async fn resume(&self, vm: VmId) -> Result<(), HypervisorError>;

    /// Makes the running guest take something up. Its definition stays as it is: that is [`Self::define`]'s. Of memory the
    /// guest may still be giving some back when this returns.
    ///
    /// # Errors
    /// [`HypervisorError::NotLive`] if the guest cannot, others if the hypervisor would not, or the guest is off.
    async fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError>;

    /// Asks the guest to shut down, as by its power button. Returns when it was asked, not when it is off.
    ///
    /// # Errors
    /// If it is not defined. A guest that is off is no error.
    async fn shutdown(&self, vm: VmId) -> Result<(), HypervisorError>;

    /// Takes the power away. What the guest had not written is lost.
    ///
    /// # Errors
    /// If the guest may still run. A domain that is off or not there is no error.
    async fn force_stop(&self, vm: VmId) -> Result<(), HypervisorError>;

    /// Away with the definition, and what the hypervisor keeps beside it: saved memory, firmware variables, snapshot
    /// records. The disk stays.
    ///
    /// # Errors
    /// If it is running, or may still be there. A domain that is not there is no error.
    async fn undefine(&self, vm: VmId) -> Result<(), HypervisorError>;

    /// The other end of the guest's serial port; none if the guest is off. What the guest writes while nobody has it open is
    /// in its log only. One holder at a time: two would each get some of the bytes.
    ///
    /// # Errors
    /// If it cannot be told, or the port cannot be opened.
    async fn console(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError>;

    /// A new connection to the guest's screen, in RFB (RFC 6143), without authentication; none if the guest is off.
    ///
    /// # Errors
    /// If it cannot be told, or the guest was started without a screen.
    async fn screen(&self, vm: VmId) -> Result<Option<Box<dyn Line>>, HypervisorError>;

    /// What happens to domains from now on. A reader that lags loses the oldest, and should then look at everything.
    fn events(&self) -> broadcast::Receiver<DomainEvent>;

    /// Does the hypervisor answer?
    fn health(&self) -> watch::Receiver<Health>;
}

//! Brings what is on this node to what the cluster wants of it. Level-triggered: whatever was missed, the next look mends
//! it, and a restart of waifud adopts what it finds without touching it.
//!
//! In: the records of this node's VMs ([`Intent`]), and what is seen of domains, disks, images and addresses. Out: calls
//! to those, [observations](Observations) for the other nodes, and [reports](Proposer) to the cluster. Errors are no way
//! out of here: they are part of a VM's [`VmStatus`], and are tried again.
//!
//! What must not happen here: a domain that is not ours is touched; something is removed because a stale replica does not
//! know it; a state is taken for *gone* because the hypervisor was silent; state is kept that cannot be seen again.
//!
//! ```text
//!   Intent ──────> supervisor ──> task (one a VM): observe ──> plan (pure) ──> execute ──> observe …
//!   DomainEvents ─────┘  │                 │                                      │
//!   sweep (bulk) ────────┘                 ├──> Board: VmStatus, Observations     └──> hypervisor, volumes,
//!                                          └──> Reports ──> Proposer                   images, network
//! ```

mod backoff;
mod execute;
mod past;
mod plan;
mod ports;
mod reports;
#[cfg(test)]
pub(crate) mod samples;
mod scout;
mod settings;
mod shape;
mod status;
mod supervisor;
mod task;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use plan::{
    Adjust, Difference, Hold, Observed, Patience, Pending, Plan, Recent, Step, Tried, Way, differences, plan,
};
pub use ports::{Clock, Fate, Intent, IntentError, Observations, ProposeFailure, Proposer, SystemClock, Wanted};
pub use settings::Settings;
pub use shape::{Files, Shape};
pub use status::{Trouble, VmStatus};

use crate::{hypervisor::Hypervisor, images::ImageStore, net::GuestNetwork, volumes::Volumes};
use execute::{Hands, Reserved};
use reports::Reports;
use status::Board;
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};
use supervisor::Supervisor;
use task::Shared;
use tokio::{
    sync::{Mutex, Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use waifud_model::{ids::VmId, observed::Sighting};

/// Everything reconcile works with.
#[derive(Debug, Clone)]
pub struct Edges {
    /// Runs guests.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Keeps their disks.
    pub volumes: Arc<dyn Volumes>,
    /// Keeps the images that disks are made from.
    pub images: Arc<dyn ImageStore>,
    /// Gives guests their addresses.
    pub network: Arc<dyn GuestNetwork>,
    /// What is wanted.
    pub intent: Arc<dyn Intent>,
    /// Where reports go.
    pub proposer: Arc<dyn Proposer>,
    /// Where observations go.
    pub observations: Arc<dyn Observations>,
    /// For the moments that people read.
    pub clock: Arc<dyn Clock>,
}

/// Reconcile at work. Dropping it stops the work at once; guests run on.
#[derive(Debug)]
pub struct Reconciler {
    shared: Arc<Shared>,
    retry: watch::Sender<u64>,
    stop: CancellationToken,
    main: Mutex<Option<JoinHandle<()>>>,
}

impl Reconciler {
    /// Begins. Needs a tokio runtime.
    #[must_use]
    pub fn start(edges: Edges, shape: Shape, settings: Settings) -> Self {
        let Edges { hypervisor, volumes, images, network, intent, proposer, observations, clock } = edges;
        let shared = Arc::new(Shared {
            hands: Hands { hypervisor, volumes, images, network, shape, reserved: Reserved::default() },
            intent,
            reports: Reports::new(settings.boot),
            board: Board::new(observations, clock),
            turns: Semaphore::new(settings.at_once),
            settings,
        });
        let stop = CancellationToken::new();
        let retry = watch::Sender::new(0);
        let supervisor = Supervisor::new(Arc::clone(&shared));
        let main = tokio::spawn(supervisor.run(proposer, retry.subscribe(), stop.clone()));
        Self { shared, retry, stop, main: Mutex::new(Some(main)) }
    }

    /// The guest at this address asked for its metadata.
    pub fn asked(&self, ip: Ipv4Addr) {
        if let Some(vm) = self.shared.hands.reserved.whose(ip) {
            self.shared.board.meet(vm, Sighting::Metadata, None);
        }
    }

    /// What is known of a VM of this node.
    #[must_use]
    pub fn status(&self, vm: VmId) -> Option<VmStatus> {
        self.shared.board.get(vm)
    }

    /// What is known of all VMs of this node.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<VmId, VmStatus> {
        self.shared.board.all()
    }

    /// Whatever waits to be tried again is tried now.
    pub fn retry_now(&self) {
        self.retry.send_modify(|count| *count += 1);
    }

    /// Ends all work, and returns when it has ended. Guests run on; a step that was being taken is taken or not: the next
    /// start sees.
    pub async fn stop(&self) {
        self.stop.cancel();
        // Held while it is waited for, so that a second caller does not return before the end either.
        let mut main = self.main.lock().await;
        if let Some(main) = main.take()
            && let Err(error) = main.await
        {
            tracing::error!(%error, "reconcile ended badly");
        }
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

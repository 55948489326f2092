//! The consoles of this node's guests: serial ports shared by several people, screens, and logs.
//!
//! In: questions of the web about VMs that this node owns. Out: channels and streams. Must not decide who may look, must
//! not touch a guest beyond its lines, and must not hang where the hypervisor does.
//!
//! ```text
//!   web ──► Consoles ──┬── hub.rs, one a VM that somebody looks at ──► Hypervisor::console: a pseudo terminal
//!                      │     opening.rs  viewer.rs  screen.rs
//!                      ├── Hypervisor::screen: a connection for each viewer
//!                      └── logs.rs  follow.rs: files that libvirt writes; bounded, read and removed here
//! ```
//!
//! The serial port is read from the pseudo terminal that QEMU made, not through libvirt's console stream: libvirt is asked
//! once where it is, and from then on one descriptor in the reactor does it all. No thread waits, an open console outlives a
//! libvirtd that hangs or restarts, and the kernel says when QEMU ends. What is given up is libvirt's own lock: who uses
//! `virsh console` at the same time takes bytes away from here.

mod follow;
mod hub;
mod logs;
mod opening;
mod screen;
mod viewer;

pub use logs::SerialLogs;

use crate::{faults::lock, hypervisor::Hypervisor};
use hub::{Hub, Join, Needs, refused};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use waifud_api::console::LogsQuery;
use waifud_model::{ids::VmId, name::NodeName};
use waifud_web::console::{Attached, ConsoleError, Line, Log, Viewer};

/// Joins that wait for a hub: it takes them at once.
const JOINS: usize = 8;
/// A hub may end just when somebody comes; the next one is another.
const TRIES: usize = 3;
/// How often logs are looked at. A serial port carries some hundred kilobytes a second at the most.
const TRIM: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Consoles {
    node: NodeName,
    hypervisor: Arc<dyn Hypervisor>,
    logs: SerialLogs,
    stop: CancellationToken,
    hubs: Arc<Mutex<BTreeMap<VmId, mpsc::Sender<Join>>>>,
}

impl Consoles {
    /// Of this node. Ends with `stop`. Needs a tokio runtime.
    #[must_use]
    pub fn start(node: NodeName, hypervisor: Arc<dyn Hypervisor>, logs: SerialLogs, stop: CancellationToken) -> Self {
        tokio::spawn(keep_bounded(logs.clone(), stop.clone()));
        Self { node, hypervisor, logs, stop, hubs: Arc::default() }
    }

    /// Opens a serial console for one more viewer.
    ///
    /// # Errors
    /// If the guest is off, or it cannot be opened.
    pub async fn attach(&self, vm: VmId, who: Viewer) -> Result<Attached, ConsoleError> {
        for _ in 0..TRIES {
            let (reply, answer) = oneshot::channel();
            if self.hub(vm).send(Join { who: who.clone(), reply }).await.is_ok()
                && let Ok(answer) = answer.await
            {
                return answer;
            }
        }
        Err(ConsoleError::Silent)
    }

    /// A connection to a guest's screen.
    ///
    /// # Errors
    /// If the guest is off, or has no screen.
    pub async fn screen(&self, vm: VmId) -> Result<Box<dyn Line>, ConsoleError> {
        let line = self.hypervisor.screen(vm).await.map_err(refused)?;
        line.map(|line| Box::new(line) as Box<dyn Line>).ok_or(ConsoleError::Off)
    }

    /// What a guest has written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn log(&self, vm: VmId, part: LogsQuery) -> Result<Log, ConsoleError> {
        follow::log(self.logs.clone(), vm, part).await.map_err(|error| ConsoleError::Failed(Box::new(error)))
    }

    fn hub(&self, vm: VmId) -> mpsc::Sender<Join> {
        let mut hubs = lock(&self.hubs);
        if let Some(hub) = hubs.get(&vm).filter(|hub| !hub.is_closed()) {
            return hub.clone();
        }
        let (sender, joins) = mpsc::channel(JOINS);
        let needs = Needs {
            vm,
            node: self.node.clone(),
            hypervisor: Arc::clone(&self.hypervisor),
            logs: self.logs.clone(),
            stop: self.stop.clone(),
        };
        let all = Arc::clone(&self.hubs);
        tokio::spawn(async move {
            Hub::new(needs, joins).run().await;
            lock(&all).retain(|_, hub| !hub.is_closed());
        });
        hubs.insert(vm, sender.clone());
        sender
    }
}

async fn keep_bounded(logs: SerialLogs, stop: CancellationToken) {
    let mut tick = interval(TRIM);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let logs = logs.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || logs.trim()).await {
            tracing::error!(%error, "the consoles' logs are not kept in their bounds");
        }
    }
}

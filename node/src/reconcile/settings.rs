//! How reconcile goes about it: every time and bound in one place, each with its reason.

use super::{backoff::Backoff, plan::Patience};
use std::time::Duration;

/// Times and bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// With guests.
    pub patience: Patience,
    /// After a step that failed.
    pub retry: Backoff,
    /// Before a guest that died is started again.
    pub restart: Backoff,
    /// A guest that ran this long has shown that it can: it is started at once when it dies the next time.
    pub calm_after: Duration,
    /// How often all domains are listed, for what no event told.
    pub sweep: Duration,
    /// How often each VM is looked at although nothing happened: what no listing shows (a disk, a reservation) is seen then.
    pub look_again: Duration,
    /// Changes of the replicated state that follow each other within this time are taken together.
    pub settle: Duration,
    /// How long one look at a VM, or one step, may take before it is given up and tried again; fetching an image may take as
    /// long as it takes. All that answers by itself does so in less: libvirt in half a minute, `qemu-img` in seconds. This is
    /// for a file system that does not.
    pub step_within: Duration,
    /// VMs that are changed at the same time. More would only compete for the disk and for libvirt.
    pub at_once: usize,
    /// Different at every start of the daemon: with it the keys of reports are never used twice.
    pub boot: u64,
}

impl Settings {
    /// What a node uses, without spread.
    #[must_use]
    pub fn new(boot: u64) -> Self {
        Self {
            patience: Patience::default(),
            retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
            restart: Backoff::new(Duration::from_secs(1), Duration::from_mins(5)),
            calm_after: Duration::from_mins(10),
            sweep: Duration::from_secs(30),
            look_again: Duration::from_mins(5),
            settle: Duration::from_millis(20),
            step_within: Duration::from_mins(2),
            at_once: 4,
            boot,
        }
    }
}

//! Never do two nodes run the same VM.

use super::{Invariant, Moment};
use std::collections::BTreeMap;

/// Their hypervisors know what runs.
#[derive(Debug)]
pub(super) struct OneRunner;

impl Invariant for OneRunner {
    fn name(&self) -> &'static str {
        "one node runs a VM"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let mut runners = BTreeMap::new();
        for host in moment.hosts {
            for vm in host.hypervisor.active() {
                if let Some(other) = runners.insert(vm, &host.name) {
                    return Err(format!("VM {vm} runs on {other} and on {}", host.name));
                }
            }
        }
        Ok(())
    }
}

//! Somebody else's domain is never touched.

use super::{Invariant, Moment};
use waifud_node::hypervisor::{DomainState, OffReason};

/// Each host has one, and it runs, unless the host lost its power since.
#[derive(Debug)]
pub(super) struct Foreign;

impl Invariant for Foreign {
    fn name(&self) -> &'static str {
        "foreign domains are not touched"
    }

    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        for host in moment.hosts {
            let state = host.hypervisor.state(host.foreign);
            if !matches!(state, Some(DomainState::Running | DomainState::Off(OffReason::Unknown))) {
                return Err(format!("the foreign domain {} on {} is now {state:?}", host.foreign, host.name));
            }
            if let Some((op, _)) = host.hypervisor.take_changes().into_iter().find(|(_, vm)| *vm == host.foreign) {
                return Err(format!("{} tried {op:?} on the foreign domain {}", host.name, host.foreign));
            }
        }
        Ok(())
    }
}

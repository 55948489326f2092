//! libvirt's numbers for states, reasons and events, in our words. Pure.

use crate::hypervisor::{DomainState, Happening, OffReason, PauseReason};
use virt::sys;

/// A domain's state. What is not known is taken for running: a guest that might have its disk open is never started again.
pub(super) fn domain_state(state: u32, reason: u32) -> DomainState {
    match state {
        sys::VIR_DOMAIN_SHUTOFF => DomainState::Off(off_reason(reason)),
        sys::VIR_DOMAIN_CRASHED => DomainState::Off(OffReason::Crashed),
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::Paused(PauseReason::Busy),
        sys::VIR_DOMAIN_PAUSED => match reason {
            sys::VIR_DOMAIN_PAUSED_IOERROR => DomainState::Paused(PauseReason::DiskError),
            sys::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => DomainState::ShuttingDown,
            sys::VIR_DOMAIN_PAUSED_MIGRATION
            | sys::VIR_DOMAIN_PAUSED_SAVE
            | sys::VIR_DOMAIN_PAUSED_DUMP
            | sys::VIR_DOMAIN_PAUSED_SNAPSHOT
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY
            | sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED => DomainState::Paused(PauseReason::Busy),
            _ => DomainState::Paused(PauseReason::Asked),
        },
        _ => DomainState::Running,
    }
}

fn off_reason(reason: u32) -> OffReason {
    match reason {
        sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN => OffReason::ShutDown,
        sys::VIR_DOMAIN_SHUTOFF_DESTROYED => OffReason::Destroyed,
        sys::VIR_DOMAIN_SHUTOFF_CRASHED => OffReason::Crashed,
        sys::VIR_DOMAIN_SHUTOFF_FAILED => OffReason::Failed,
        sys::VIR_DOMAIN_SHUTOFF_MIGRATED => OffReason::Migrated,
        sys::VIR_DOMAIN_SHUTOFF_SAVED => OffReason::Saved,
        // Unknown, from a snapshot, or stopped together with libvirtd: nothing was decided about the guest.
        _ => OffReason::Unknown,
    }
}

/// A lifecycle event. One of a newer libvirt, which we do not know, is at least a reason to look.
pub(super) fn happening(event: u32) -> Happening {
    match event {
        sys::VIR_DOMAIN_EVENT_STARTED | sys::VIR_DOMAIN_EVENT_RESUMED => Happening::Started,
        sys::VIR_DOMAIN_EVENT_SUSPENDED | sys::VIR_DOMAIN_EVENT_PMSUSPENDED => Happening::Paused,
        sys::VIR_DOMAIN_EVENT_STOPPED | sys::VIR_DOMAIN_EVENT_SHUTDOWN | sys::VIR_DOMAIN_EVENT_CRASHED => {
            Happening::Stopped
        }
        _ => Happening::Definition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_off_counts_as_off() {
        for state in 0..32 {
            let off = state == sys::VIR_DOMAIN_SHUTOFF || state == sys::VIR_DOMAIN_CRASHED;
            assert_eq!(domain_state(state, 0).is_active(), !off, "state {state}");
        }
        assert_eq!(
            domain_state(sys::VIR_DOMAIN_SHUTOFF, sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN),
            DomainState::Off(OffReason::ShutDown)
        );
        assert_eq!(domain_state(sys::VIR_DOMAIN_SHUTOFF, 99), DomainState::Off(OffReason::Unknown));
    }
}

//! Tokens that are for some VMs only: what their bearers may ask for, and what may come of it.
//!
//! One gate around every command, so that no verb has to think of it. Before: a VM outside is not there, and what is no VM
//! is not theirs. After: what a command gives back is a VM of theirs, or all that it did is undone.

use super::{super::stop::Stop, Work, vms};
use waifud_model::{
    command::{Command, Reply},
    labels::Labels,
    reject::Reject,
    scope::{Scope, Target},
    token::Role,
};

/// May it be asked for at all?
pub(super) fn before(work: &Work<'_>, command: &Command) -> Result<(), Stop> {
    let Some(scope) = work.standing.scope() else { return Ok(()) };
    // Nothing is changed by less. Said first, so that a VM outside is told from one that is not there by no other word.
    work.standing.at_least(Role::Operator)?;
    match command.target() {
        Target::Vm(id) if !scope.has(&vms::find(work.view, id)?.spec.labels) => Err(Reject::NoSuchVm(id).into()),
        Target::Vm(_) => Ok(()),
        Target::NewVm(labels) => inside(scope, labels).map_err(Into::into),
        Target::Other => Err(Reject::VmsOnly.into()),
    }
}

/// May it stay as it is now? The caller undoes what is refused here.
pub(super) fn after(work: &Work<'_>, reply: &Reply) -> Result<(), Reject> {
    let Some(scope) = work.standing.scope() else { return Ok(()) };
    match reply {
        Reply::Vm(vm) => inside(scope, &vm.spec.labels),
        Reply::Done | Reply::Node(_) | Reply::Template(_) | Reply::CloudDefaults(_) | Reply::NetPeer(_) => {
            Err(Reject::VmsOnly)
        }
    }
}

fn inside(scope: &Scope, labels: &Labels) -> Result<(), Reject> {
    if scope.has(labels) { Ok(()) } else { Err(Reject::OutsideScope { scope: scope.clone() }) }
}

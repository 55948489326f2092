//! What owners saw happen to their VMs.

use super::{
    super::{events::Changes, rows, stop::Stop},
    Work, limits,
    power::wish,
    vms::subject,
};
use waifud_model::{
    command::{Reply, VmReport},
    event::EventKind,
    reject::Reject,
    vm::{Desired, Phase, RestartPolicy, Vm},
};

/// Longest error kept, in bytes: a sentence of libvirt's, not its log.
const DETAIL_MAX: usize = 1 << 10;

/// A report about a VM that is gone by now is left aside: the others of its batch are still worth having, and there is
/// nothing left for it to be about.
pub(super) fn take(work: &mut Work<'_>, reports: &[VmReport]) -> Result<Reply, Stop> {
    let node = work.standing.node()?;
    limits::reports(reports)?;
    for report in reports {
        let Some(mut vm) = work.view.vm(report.vm)? else { continue };
        if vm.node != node {
            return Err(Reject::NotYours(node).into());
        }
        let mut changes = Changes::none();
        if is_wish(report, &vm) {
            changes = wish(&mut vm, Desired::Stopped);
            rows::vm::update_wish(work.db, &vm)?;
        }
        if let Some(detail) = &report.detail {
            changes = changes.text("error", start_of(detail));
        }
        work.trail.add(subject(&vm), report.kind, changes)?;
    }
    Ok(Reply::Done)
}

/// A guest that shuts itself down wants to be off, unless its policy says otherwise or somebody decided in between.
fn is_wish(report: &VmReport, vm: &Vm) -> bool {
    report.by_guest
        && report.kind == EventKind::Stopped
        && report.generation == vm.generation
        && vm.phase == Phase::Live
        && vm.spec.restart != RestartPolicy::Always
}

/// As many whole characters as fit.
fn start_of(detail: &str) -> &str {
    &detail[..detail.floor_char_boundary(DETAIL_MAX)]
}

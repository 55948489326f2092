//! A VM that shall not be: everything of it goes. Its domain goes last: where the record is gone, its mark is all that still says
//! which address was the VM's, so whoever comes back for the rest finds its way by it.

use super::{Observed, Plan, Step};
use waifud_model::observed::VmState;

pub(super) fn remove(seen: &Observed, confirm: bool) -> Plan {
    let mut steps = Vec::new();
    if seen.domain.as_ref().is_some_and(|domain| domain.state.is_active()) {
        steps.push(Step::ForceStop);
    }
    if seen.has_volumes() {
        steps.push(Step::RemoveVolumes);
    }
    if seen.reserved {
        steps.push(Step::ReleaseAddress);
    }
    if seen.domain.is_some() {
        steps.push(Step::Undefine);
    }
    if confirm {
        steps.push(Step::ConfirmGone);
    }
    Plan::act(VmState::Deleting, steps)
}

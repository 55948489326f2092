//! Tokens that are for some VMs only, told plainly.

use super::{Reference, Who};
use waifud_model::{
    command::{Actor, Command, Reply},
    ids::VmId,
    labels::Labels,
    reject::Reject,
    scope::Scope,
    token::Role,
    vm::Vm,
};

/// The scope, where there is one.
fn of(who: &Who) -> Option<&Scope> {
    match who {
        Who::Person(_, scope) if !scope.labels().is_empty() => Some(scope),
        _ => None,
    }
}

fn has(scope: &Scope, labels: &Labels) -> bool {
    scope.labels().iter().all(|pair| labels.iter().any(|other| other == pair))
}

impl Reference {
    /// The VMs that whoever acts may neither know of nor touch.
    pub(crate) fn outside(&self, actor: &Actor) -> Vec<Vm> {
        let Actor::Token(id) = actor else { return Vec::new() };
        let Some(token) = self.state.api_tokens.get(id) else { return Vec::new() };
        self.state.vms.values().filter(|vm| !has(&token.scope, &vm.spec.labels)).cloned().collect()
    }

    pub(super) fn before(&self, who: &Who, command: &Command) -> Result<(), Reject> {
        let Some(scope) = of(who) else { return Ok(()) };
        if matches!(who, Who::Person(Role::Viewer, _)) {
            return Err(Reject::NotAllowed { needed: Role::Operator });
        }
        let known = |id: &VmId| match self.state.vms.get(id) {
            Some(vm) if has(scope, &vm.spec.labels) => Ok(()),
            _ => Err(Reject::NoSuchVm(*id)),
        };
        match command {
            Command::CreateVm(create) if has(scope, &create.spec.labels) => Ok(()),
            Command::CreateVm(_) => Err(Reject::OutsideScope { scope: scope.clone() }),
            Command::SetPower { vm, .. }
            | Command::RebootVm { vm, .. }
            | Command::ChangeVm { vm, .. }
            | Command::RenameVm { vm, .. }
            | Command::ReinitVm { vm, .. }
            | Command::DeleteVm { vm, .. }
            | Command::ConfirmVmGone { vm }
            | Command::OpenConsole { vm, .. } => known(vm),
            Command::SetCloudInit(set) => known(&set.vm),
            _ => Err(Reject::VmsOnly),
        }
    }
}

/// Only a VM with the labels may come of it.
pub(super) fn after(who: &Who, reply: &Reply) -> Result<(), Reject> {
    match (of(who), reply) {
        (Some(scope), Reply::Vm(vm)) if !has(scope, &vm.spec.labels) => {
            Err(Reject::OutsideScope { scope: scope.clone() })
        }
        _ => Ok(()),
    }
}

//! Power and deletion of a VM: one command each, meant for the generation the caller has seen, if it said which.

use super::propose::{self, Author, Done};
use crate::{app::App, conditional::IfMatch, problem::Failure, view};
use waifud_api::vm as wire;
use waifud_model::{
    command::{Command, Reply},
    name::VmName,
    vm::{Desired, Vm},
};

/// Starts or stops a VM.
pub(crate) async fn power(
    app: &App,
    author: &Author,
    name: VmName,
    desired: Desired,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    change(app, author, name, |vm| Command::SetPower { vm: vm.id, desired, expect: expect.0 }).await
}

/// Deletes a VM, disk included. Its owner does the work; name and address are free when it is done.
pub(crate) async fn delete(
    app: &App,
    author: &Author,
    name: VmName,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    change(app, author, name, |vm| Command::DeleteVm { vm: vm.id, expect: expect.0 }).await
}

async fn change(
    app: &App,
    author: &Author,
    name: VmName,
    command: impl FnOnce(&Vm) -> Command,
) -> Result<Done<wire::Vm>, Failure> {
    let found = app.consensus.read(move |view| view::find_vm(view, &name)).await?;
    let committed = match found {
        Ok((vm, _)) => author.propose(&app.consensus, command(&vm)).await?,
        Err(missing) => author.replay_or(&app.consensus, Failure::Missing(missing)).await?,
    };
    let done = propose::expect(committed, |reply| match reply {
        Reply::Vm(vm) => Some(*vm),
        _ => None,
    })?;
    let owner = done.value.node;
    let node = app.consensus.read(move |view| view.node(owner)).await?;
    let node = node.ok_or(Failure::Internal("a VM's owner is no node"))?.name;
    let observed = app.observed();
    Ok(done.map(|vm| view::vm(&vm, node, &observed)))
}

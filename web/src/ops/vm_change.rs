//! What is done to a VM that is there: one command each, meant for the generation the caller has seen, if it said which.
//!
//! Trying a change out runs the same rules as committing it, by the same pure functions; only what other requests do in
//! between can make the outcome differ.

use super::{
    propose::{self, Author, Done},
    vm_create::image_of,
};
use crate::{
    app::App,
    conditional::IfMatch,
    problem::{Failure, Missing, Names},
    view,
};
use waifud_api::{
    template::TemplateSelector,
    vm as wire,
    vm_change::{GRACE_MAX_S, VmUpdate, VmUpdatePreview},
};
use waifud_model::{
    change::{Patch, VmChange},
    command::{Command, Reply},
    labels::Labels,
    name::{NodeName, VmName},
    reject::Reject,
    scope::Scope,
    vm::{ImageRef, Phase, Vm},
};

/// Off and on again with a VM.
pub(crate) async fn reboot(
    app: &App,
    author: &Author,
    name: VmName,
    grace: Option<u32>,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    let grace = checked(grace)?;
    commit(app, author, name, |vm| Command::RebootVm { vm: vm.id, grace, expect: expect.0 }).await
}

pub(super) fn checked(grace: Option<u32>) -> Result<Option<u32>, Failure> {
    match grace {
        Some(seconds) if seconds > GRACE_MAX_S => {
            Err(Failure::Query(format!("grace: {seconds} seconds given; at most {GRACE_MAX_S}, a day")))
        }
        grace => Ok(grace),
    }
}

/// Gives a VM another name.
pub(crate) async fn rename(
    app: &App,
    author: &Author,
    name: VmName,
    new: VmName,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    commit(app, author, name, |vm| Command::RenameVm { vm: vm.id, name: new, expect: expect.0 }).await
}

/// Makes a VM anew.
pub(crate) async fn reinit(
    app: &App,
    author: &Author,
    name: VmName,
    template: Option<TemplateSelector>,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    let image = fresh_image(app, &author.scope, &name, template).await;
    let committed = match image {
        Ok((vm, _, image)) => {
            author.propose(&app.consensus, Command::ReinitVm { vm: vm.id, image, expect: expect.0 }).await?
        }
        Err(failure) => author.replay_or(&app.consensus, failure).await?,
    };
    shown(app, propose::expect(committed, vm_of)?).await
}

/// Only says what [`reinit`] would make of the VM.
pub(crate) async fn preview_reinit(
    app: &App,
    scope: &Scope,
    name: VmName,
    template: Option<TemplateSelector>,
    expect: IfMatch,
) -> Result<wire::Vm, Failure> {
    let (mut vm, node, image) = fresh_image(app, scope, &name, template).await?;
    goes(&vm, expect)?;
    vm.spec.image = image;
    Ok(view::vm(&vm, node, &app.observed()))
}

/// The VM, and what its disk would start from.
async fn fresh_image(
    app: &App,
    scope: &Scope,
    name: &VmName,
    template: Option<TemplateSelector>,
) -> Result<(Vm, NodeName, ImageRef), Failure> {
    let (vm, node) = find(app, scope, name.clone()).await?.map_err(Failure::Missing)?;
    let selector = template.unwrap_or_else(|| vm.spec.image.template.clone().into());
    let version = app.consensus.read(move |view| view::resolve_template(view, &selector)).await??;
    Ok((vm, node, image_of(&version)))
}

/// Deletes a VM, disk included. Its owner does the work; name and address are free when it is done.
pub(crate) async fn delete(
    app: &App,
    author: &Author,
    name: VmName,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    commit(app, author, name, |vm| Command::DeleteVm { vm: vm.id, expect: expect.0 }).await
}

/// Only says whether [`delete`] would.
pub(crate) async fn preview_delete(
    app: &App,
    scope: &Scope,
    name: VmName,
    expect: IfMatch,
) -> Result<wire::Vm, Failure> {
    let (vm, node) = find(app, scope, name).await?.map_err(Failure::Missing)?;
    goes(&vm, expect)?;
    Ok(view::vm(&vm, node, &app.observed()))
}

/// Refuses what must not lose its disk.
fn goes(vm: &Vm, expect: IfMatch) -> Result<(), Failure> {
    if vm.spec.protected {
        return Err(about(vm, Reject::Protected(vm.id)));
    }
    seen(vm, expect)
}

/// Refuses what was decided on an older generation.
pub(super) fn seen(vm: &Vm, expect: IfMatch) -> Result<(), Failure> {
    match expect.0 {
        Some(expected) if expected != vm.generation => {
            Err(about(vm, Reject::Stale { vm: vm.id, expected, actual: vm.generation }))
        }
        _ => Ok(()),
    }
}

pub(super) fn about(vm: &Vm, reject: Reject) -> Failure {
    let names = Names { vms: [(vm.id, vm.name.clone())].into(), ..Names::default() };
    Failure::Rejected { reject, names: Box::new(names) }
}

/// Changes what a VM is made of.
pub(crate) async fn update(
    app: &App,
    author: &Author,
    name: VmName,
    update: VmUpdate,
    expect: IfMatch,
) -> Result<Done<wire::Vm>, Failure> {
    let change = Box::new(resolved(app, update).await?);
    commit(app, author, name, |vm| Command::ChangeVm { vm: vm.id, change, expect: expect.0 }).await
}

/// Only says what [`update`] would come to, as far as can be known here.
pub(crate) async fn preview_update(
    app: &App,
    scope: &Scope,
    name: VmName,
    update: VmUpdate,
    expect: IfMatch,
) -> Result<VmUpdatePreview, Failure> {
    let change = resolved(app, update).await?;
    let (mut vm, node) = find(app, scope, name).await?.map_err(Failure::Missing)?;
    seen(&vm, expect)?;
    if vm.phase == Phase::Deleting {
        return Err(about(&vm, Reject::VmDeleting(vm.id)));
    }
    let before = vm.clone();
    let outcome = app.consensus.read(move |view| view.try_change(&before, &change)).await?;
    let changes = match outcome {
        Ok((spec, changes)) => {
            within(scope, &spec.labels)?;
            vm.spec = spec;
            changes.into_iter().map(Into::into).collect()
        }
        Err(reject) => return Err(propose::rejected(&app.consensus, scope, reject).await),
    };
    Ok(VmUpdatePreview { vm: view::vm(&vm, node, &app.observed()), changes })
}

/// The update with its templates resolved to versions.
async fn resolved(app: &App, update: VmUpdate) -> Result<VmChange, Failure> {
    let cd = match update.cd {
        None => Patch::Keep,
        Some(None) => Patch::Clear,
        Some(Some(selector)) => {
            let version = app.consensus.read(move |view| view::resolve_template(view, &selector)).await??;
            Patch::Set(image_of(&version))
        }
    };
    Ok(VmChange {
        cpus: update.cpus,
        memory: update.memory,
        memory_max: update.memory_max.into(),
        disk: update.disk,
        labels: update.labels,
        description: update.description,
        protected: update.protected,
        autostart: update.autostart,
        restart: update.restart,
        firmware: update.firmware,
        cpu_model: update.cpu_model,
        disks: update.disks,
        cd,
        bridges: update.bridges,
    })
}

/// The VM, if there is one that somebody with this scope may know of.
pub(super) async fn find(app: &App, scope: &Scope, name: VmName) -> Result<Result<(Vm, NodeName), Missing>, Failure> {
    let scope = scope.clone();
    Ok(app.consensus.read(move |view| view::find_vm(view, &scope, &name)).await?)
}

/// Refuses labels that no VM of the scope has, in apply's words: it would refuse them too.
pub(super) fn within(scope: &Scope, labels: &Labels) -> Result<(), Failure> {
    if scope.has(labels) { Ok(()) } else { Err(Failure::rejected(Reject::OutsideScope { scope: scope.clone() })) }
}

pub(super) async fn commit(
    app: &App,
    author: &Author,
    name: VmName,
    command: impl FnOnce(&Vm) -> Command,
) -> Result<Done<wire::Vm>, Failure> {
    let committed = match find(app, &author.scope, name).await? {
        Ok((vm, _)) => author.propose(&app.consensus, command(&vm)).await?,
        Err(missing) => author.replay_or(&app.consensus, Failure::Missing(missing)).await?,
    };
    shown(app, propose::expect(committed, vm_of)?).await
}

fn vm_of(reply: Reply) -> Option<Vm> {
    match reply {
        Reply::Vm(vm) => Some(*vm),
        _ => None,
    }
}

async fn shown(app: &App, done: Done<Vm>) -> Result<Done<wire::Vm>, Failure> {
    let owner = done.value.node;
    let node = app.consensus.read(move |view| view.node(owner)).await?;
    let node = node.ok_or(Failure::Internal("a VM's owner is no node"))?.name;
    let observed = app.observed();
    Ok(done.map(|vm| view::vm(&vm, node, &observed)))
}

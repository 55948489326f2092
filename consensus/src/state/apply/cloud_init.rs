//! What guests are told: one VM's own documents, and those that all get. Contents never enter an event, only digest and size.

use super::{
    super::{events::Changes, rows, stop::Stop},
    Work, limits, vms,
};
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit, UserData},
    command::{Reply, SetCloudDefaults, SetCloudInit},
    event::{EventKind, Subject},
    reject::Reject,
    token::Role,
    vm::Phase,
};

pub(super) fn set(work: &mut Work<'_>, set: &SetCloudInit) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Operator)?;
    limits::cloud_init(&set.cloud_init)?;
    let mut vm = vms::find(work.view, set.vm)?;
    if vm.phase == Phase::Deleting {
        return Err(Reject::VmDeleting(vm.id).into());
    }
    vms::expected(&vm, set.expect)?;
    let before = std::mem::replace(&mut vm.spec.cloud_init, set.cloud_init.clone());
    let life = vm.instance;
    if set.rerun {
        vm.instance = life.checked_add(1).ok_or_else(|| Reject::BadSpec {
            field: "rerun".to_owned(),
            why: "this guest has had too many lives".to_owned(),
        })?;
    }
    let changes = diff(&before, &vm.spec.cloud_init).diff("instance", &life, &vm.instance);
    // A repetition changes nothing, and nobody has to act on it.
    if before != vm.spec.cloud_init || life != vm.instance {
        vm.generation = vm.generation.next();
    }
    rows::vm::update(work.db, &vm, &vm.spec)?;
    work.trail.add(vms::subject(&vm), EventKind::Changed, changes)?;
    Ok(Reply::Vm(Box::new(vm)))
}

fn diff(old: &CloudInit, new: &CloudInit) -> Changes {
    Changes::none()
        .secret_diff("user_data", bytes(old.user_data.as_ref()), bytes(new.user_data.as_ref()))
        .secret_diff("network_config", bytes(old.network_config.as_ref()), bytes(new.network_config.as_ref()))
        .diff("ssh_keys", &old.ssh_keys.join("\n"), &new.ssh_keys.join("\n"))
        .diff("datasource", &old.datasource, &new.datasource)
        .diff("imds", &old.imds, &new.imds)
}

fn bytes(document: Option<&UserData>) -> Option<&[u8]> {
    document.map(UserData::as_bytes)
}

pub(super) fn set_defaults(work: &mut Work<'_>, set: &SetCloudDefaults) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    let before = work.view.cloud_defaults()?;
    if let Some(expected) = set.expect
        && expected != before.generation
    {
        return Err(Reject::StaleDefaults { expected, actual: before.generation }.into());
    }
    let after = CloudDefaults {
        user_data: set.user_data.clone(),
        vendor_data: set.vendor_data.clone(),
        generation: before.generation.next(),
    };
    rows::cloud_defaults::write(work.db, &after)?;
    let changes = Changes::none()
        .secret_diff("default_user_data", bytes(before.user_data.as_ref()), bytes(after.user_data.as_ref()))
        .secret_diff("vendor_data", bytes(before.vendor_data.as_ref()), bytes(after.vendor_data.as_ref()));
    work.trail.add(Subject::Cluster, EventKind::Changed, changes)?;
    Ok(Reply::CloudDefaults(Box::new(after)))
}

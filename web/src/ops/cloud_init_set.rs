//! What guests are told changes: one VM's documents, or those that every guest of the cluster gets.
//!
//! Both are replaced as a whole and for the generation that the caller has seen, so that nobody's edit is lost. The checks
//! come before the VM is looked for: whoever sends a document with a mistake is told so, whatever became of the VM.

use super::{
    documents,
    propose::{self, Author, Done},
    vm_change::find,
};
use crate::{
    app::App,
    conditional::IfMatch,
    problem::{Failure, Names},
};
use waifud_api::cloud_init as wire;
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit},
    command::{Command, Reply, SetCloudDefaults, SetCloudInit},
    name::VmName,
    reject::Reject,
    scope::Scope,
    vm::Vm,
};

/// Replaces what a VM's guest is told; with `rerun` a new life of it begins.
pub(crate) async fn set(
    app: &App,
    author: &Author,
    name: VmName,
    told: wire::CloudInit,
    rerun: bool,
    expect: IfMatch,
) -> Result<Done<wire::CloudInitSaved>, Failure> {
    let cloud_init = model(told);
    let warnings = documents::of_vm(&cloud_init)?;
    let committed = match find(app, &author.scope, name).await? {
        Ok((vm, _)) => {
            let set = SetCloudInit { vm: vm.id, cloud_init, rerun, expect: expect.0 };
            author.propose(&app.consensus, Command::SetCloudInit(Box::new(set))).await?
        }
        Err(missing) => author.replay_or(&app.consensus, Failure::Missing(missing)).await?,
    };
    let done = propose::expect(committed, |reply| match reply {
        Reply::Vm(vm) => Some(*vm),
        _ => None,
    })?;
    Ok(done.map(|vm| saved(&vm, warnings)))
}

/// Only says whether [`set`] would take it, as far as can be known here.
pub(crate) async fn preview(
    app: &App,
    scope: &Scope,
    name: VmName,
    told: wire::CloudInit,
    expect: IfMatch,
) -> Result<wire::CloudInitSaved, Failure> {
    let warnings = documents::of_vm(&model(told))?;
    let (vm, _) = find(app, scope, name).await?.map_err(Failure::Missing)?;
    match expect.0 {
        Some(expected) if expected != vm.generation => {
            let names = Names { vms: [(vm.id, vm.name)].into(), ..Names::default() };
            Err(Failure::Rejected {
                reject: Reject::Stale { vm: vm.id, expected, actual: vm.generation },
                names: Box::new(names),
            })
        }
        _ => Ok(saved(&vm, warnings)),
    }
}

/// Replaces what every guest is told.
pub(crate) async fn set_defaults(
    app: &App,
    author: &Author,
    told: wire::CloudDefaults,
    expect: IfMatch,
) -> Result<Done<wire::CloudInitSaved>, Failure> {
    let (user_data, vendor_data) = (told.user_data.map(|data| data.0), told.vendor_data.map(|data| data.0));
    let warnings = documents::of_cluster(user_data.as_ref(), vendor_data.as_ref())?;
    let set = SetCloudDefaults { user_data, vendor_data, expect: expect.0 };
    let committed = author.propose(&app.consensus, Command::SetCloudDefaults(Box::new(set))).await?;
    let done = propose::expect(committed, |reply| match reply {
        Reply::CloudDefaults(defaults) => Some(*defaults),
        _ => None,
    })?;
    let saved = |CloudDefaults { generation, .. }| wire::CloudInitSaved { generation, instance_id: None, warnings };
    Ok(done.map(saved))
}

fn model(told: wire::CloudInit) -> CloudInit {
    let wire::CloudInit { user_data, network_config, ssh_keys, datasource, imds } = told;
    CloudInit {
        user_data: user_data.map(|data| data.0),
        network_config: network_config.map(|data| data.0),
        ssh_keys,
        datasource,
        imds,
    }
}

fn saved(vm: &Vm, warnings: Vec<String>) -> wire::CloudInitSaved {
    wire::CloudInitSaved { generation: vm.generation, instance_id: Some(vm.instance_id()), warnings }
}

//! What changes a VM that is there: `resize`, `set`, `label`, `protect`, `unprotect`, `disk`, `cd`, `rename`, `reinit`.
//!
//! All but the last two are one request, a merge patch of what shall be different. What the running guest cannot take up is
//! told when the change is done: it waits for the next start.

pub(crate) use super::change_args::{
    CdCommand, DiskCommand, FirmwareArg, LabelArgs, LabelChange, OrNone, ProtectArgs, ReinitArgs, RenameArgs,
    ResizeArgs, Restart, SetArgs, patch,
};

use super::delete::ended;
use crate::{
    confirm,
    context::Context,
    exit::{self, Failure},
    views::{change, vm::pending},
    wait::{self, Goal},
};
use std::collections::BTreeMap;
use waifud_api::{client::IdempotencyKey, exit::Exit, vm::Vm, vm_change::VmUpdate};
use waifud_model::{name::VmName, size::ByteSize};

pub(crate) async fn resize(context: &Context, args: ResizeArgs) -> Result<(), Failure> {
    let update = VmUpdate {
        cpus: args.cpus,
        memory: args.memory,
        memory_max: args.memory_max.map(|OrNone(most)| most),
        disk: args.disk,
        ..VmUpdate::default()
    };
    make(context, &args.name, &update, "resizing", ("is resized", ""), args.dry_run).await
}

pub(crate) async fn set(context: &Context, args: SetArgs) -> Result<(), Failure> {
    let update = VmUpdate {
        description: args.description,
        autostart: args.autostart,
        restart: args.restart.map(Into::into),
        firmware: args.firmware.map(Into::into),
        cpu_model: args.cpu_model,
        bridges: (args.no_bridge || !args.bridge.is_empty()).then_some(args.bridge),
        ..VmUpdate::default()
    };
    make(context, &args.name, &update, "changing", ("is changed", ""), args.dry_run).await
}

pub(crate) async fn label(context: &Context, args: LabelArgs) -> Result<(), Failure> {
    let update = VmUpdate { labels: patch(&args.labels), ..VmUpdate::default() };
    let words: Vec<_> = args.labels.iter().map(ToString::to_string).collect();
    make(context, &args.name, &update, "labelling", ("is labelled", &words.join(" ")), false).await
}

pub(crate) async fn protect(context: &Context, args: &ProtectArgs, protected: bool) -> Result<(), Failure> {
    let update = VmUpdate { protected: Some(protected), ..VmUpdate::default() };
    let mut ends = Vec::new();
    for name in &args.names {
        match wait::accepted(context.client.update_vm(name, &update, None, &IdempotencyKey::random())).await {
            Ok(answer) => {
                let vm = context.fresh(answer);
                let words = if protected { "is protected" } else { "is not protected any more" };
                context.progress.done(&format!("{} {words}", vm.name), "");
                ends.push(Exit::Done);
            }
            Err(failure) if args.names.len() == 1 => return Err(failure),
            Err(failure) => ends.push(exit::report(&failure, context.terminal)),
        }
    }
    ended(&ends)
}

pub(crate) async fn disk(context: &Context, command: DiskCommand) -> Result<(), Failure> {
    let (name, disk, size, done, dry_run) = match command {
        DiskCommand::Add { name, disk, size } => {
            let there = context.fresh(context.client.vm(&name).await?);
            if there.hardware.disks.contains_key(&disk) {
                let hint = format!("waifuctl disk grow {name} {disk} {}", word(size));
                return Err(Failure::ended(Exit::Conflict, format!("{name} has a disk {disk} already"), hint));
            }
            let done = (format!("has the disk {disk}"), format!("in its guest /dev/disk/by-id/virtio-{disk}"));
            (name, disk, Some(size), done, false)
        }
        DiskCommand::Grow { name, disk, size } => {
            let there = context.fresh(context.client.vm(&name).await?);
            if !there.hardware.disks.contains_key(&disk) {
                let hint = match disk.as_str() {
                    "root" => format!("waifuctl resize {name} --disk {}, which is the root disk", word(size)),
                    _ => format!("waifuctl disk add {name} {disk} {}", word(size)),
                };
                return Err(Failure::ended(Exit::NotFound, format!("{name} has no disk {disk}"), hint));
            }
            let done = (format!("has a larger disk {disk}"), size.to_string());
            (name, disk, Some(size), done, false)
        }
        DiskCommand::Remove { name, disk, dry_run } => {
            let done = (format!("has no disk {disk} any more"), String::new());
            (name, disk, None, done, dry_run)
        }
    };
    if size.is_none() && !dry_run {
        confirm::agree(
            context,
            &format!("Remove disk {disk} of {name} with all that is on it? This cannot be undone."),
        )
        .await?;
    }
    let update = VmUpdate { disks: BTreeMap::from([(disk, size)]), ..VmUpdate::default() };
    make(context, &name, &update, "changing the disks of", (&done.0, &done.1), dry_run).await
}

/// A size as it can be typed again, without the space.
fn word(size: ByteSize) -> String {
    size.to_string().replace(' ', "")
}

pub(crate) async fn cd(context: &Context, command: CdCommand) -> Result<(), Failure> {
    let (name, cd) = match command {
        CdCommand::Insert { name, template } => (name, Some(template)),
        CdCommand::Eject { name } => (name, None),
    };
    let done = match &cd {
        Some(template) => ("has a CD in its drive", template.to_string()),
        None => ("has an empty drive", String::new()),
    };
    let update = VmUpdate { cd: Some(cd), ..VmUpdate::default() };
    make(context, &name, &update, "changing the CD of", (done.0, &done.1), false).await
}

/// Makes the change, or says what it would come to. `done` is what is true of the VM then, and more about it.
async fn make(
    context: &Context,
    name: &VmName,
    update: &VmUpdate,
    doing: &str,
    done: (&str, &str),
    dry_run: bool,
) -> Result<(), Failure> {
    if dry_run {
        let preview = context.fresh(context.client.preview_update(name, update).await?);
        if preview.changes.is_empty() {
            context.hint(&format!("{name} is so already; nothing would change"));
        }
        return context.out.list(&change::lines(&preview.changes));
    }
    let key = IdempotencyKey::random();
    let change = context.client.update_vm(name, update, None, &key);
    let vm = context.fresh(wait::accepted(change).await?);
    if !context.wait {
        context.hint(&format!("waifuctl show {name}"));
        return Ok(());
    }
    let clock = context.progress.phase(&format!("{doing} {name}"));
    let vm = wait::until(context, vm, Goal::Settled, |_| ()).await?;
    clock.done(&format!("{name} {}", done.0), done.1);
    waits(context, &vm);
    Ok(())
}

/// What waits for the next start, and how to come to it.
pub(crate) fn waits(context: &Context, vm: &Vm) {
    for change in &vm.status.changes {
        context.hint(&pending(change));
    }
    if !vm.status.waits.is_empty() {
        context.hint(&format!("to have it now:  waifuctl reboot {}", vm.name));
    }
}

pub(crate) async fn rename(context: &Context, args: &RenameArgs) -> Result<(), Failure> {
    let vm = context.fresh(wait::accepted(context.client.rename_vm(&args.old, &args.new)).await?);
    context.progress.done(&format!("{} is now {}", args.old, vm.name), &vm.ip.to_string());
    Ok(())
}

pub(crate) async fn reinit(context: &Context, args: &ReinitArgs) -> Result<(), Failure> {
    let (name, template) = (&args.name, args.template.as_ref());
    let preview = context.fresh(context.client.reinit_vm(name, template, true).await?);
    let from = format!("{}@{}", preview.template.name, preview.template.version.short());
    if args.dry_run {
        context.hint(&format!("would make {name} anew from {from}; all that is on its root disk would be lost"));
        return context.out.list(&[preview]);
    }
    let question = format!(
        "Make {name} on {} anew from {from}? All that is on its root disk ({}) is lost.",
        preview.node, preview.disk
    );
    confirm::agree(context, &question).await?;
    let vm = context.fresh(wait::accepted(context.client.reinit_vm(name, template, false)).await?);
    if !context.wait {
        context.hint(&Goal::Settled.follow(name));
        return Ok(());
    }
    let clock = context.progress.phase(&format!("making {name} anew"));
    let vm = wait::until(context, vm, Goal::Settled, |_| ()).await?;
    clock.done(&format!("{name} is made anew"), &vm.ip.to_string());
    Ok(())
}

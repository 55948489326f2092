//! What changes a VM that is there: `resize`, `set`, `label`, `protect`, `unprotect`, `disk`, `cd`, `rename`, `reinit`.
//!
//! All but the last two are one request, a merge patch of what shall be different. What the running guest cannot take up is
//! told when the change is done: it waits for the next start.

use super::delete::ended;
use crate::{
    complete, confirm,
    context::Context,
    exit::{self, Failure},
    views::{change, vm::pending},
    wait::{self, Goal},
};
use std::collections::BTreeMap;
use waifud_api::{client::IdempotencyKey, exit::Exit, template::TemplateSelector, vm::Vm, vm_change::VmUpdate};
use waifud_model::{
    hardware::{CpuModel, Firmware},
    labels::{Label, LabelPatch},
    name::{BridgeName, DiskName, VmName},
    size::ByteSize,
    vm::RestartPolicy,
};

/// The arguments of `resize`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl resize web-1 -m 8G -c 4
  waifuctl resize web-1 -d 40G
  waifuctl resize web-1 -m 8G --dry-run")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct ResizeArgs {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Memory: 512M, 4G
    #[arg(short, long, value_name = "SIZE", group = "what")]
    memory: Option<ByteSize>,
    /// The most memory it can be given while it runs; "none" for as much as it boots with
    #[arg(long, value_name = "SIZE", group = "what", value_parser = or_none::<ByteSize>)]
    memory_max: Option<OrNone<ByteSize>>,
    /// Virtual CPUs
    #[arg(short, long, value_name = "COUNT", group = "what", value_parser = clap::value_parser!(u32).range(1..))]
    cpus: Option<u32>,
    /// The root disk; disks never shrink
    #[arg(short, long, value_name = "SIZE", group = "what")]
    disk: Option<ByteSize>,
    /// Only say what would be different
    #[arg(long)]
    dry_run: bool,
}

/// The arguments of `set`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl set web-1 --description 'the shop'
  waifuctl set web-1 --autostart no --restart never
  waifuctl set web-1 --firmware uefi --cpu-model host
  waifuctl set gw --bridge br0 --bridge br1")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct SetArgs {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// What it is for; empty takes it away
    #[arg(long, value_name = "TEXT", group = "what")]
    description: Option<String>,
    /// Is it started when its host is?
    #[arg(long, value_name = "yes|no", group = "what", value_parser = yes_or_no)]
    autostart: Option<bool>,
    /// What happens when it stops by itself
    #[arg(long, value_enum, group = "what")]
    restart: Option<Restart>,
    /// What starts its boot loader
    #[arg(long, value_enum, group = "what")]
    firmware: Option<FirmwareArg>,
    /// The CPU its guest sees: host, or a model of virsh cpu-models
    #[arg(long, value_name = "MODEL", group = "what")]
    cpu_model: Option<CpuModel>,
    /// A bridge of its node that it has a network card on; give all it shall have
    #[arg(long, value_name = "BRIDGE", group = "what")]
    bridge: Vec<BridgeName>,
    /// No network card beside the cluster's own
    #[arg(long, group = "what", conflicts_with = "bridge")]
    no_bridge: bool,
    /// Only say what would be different
    #[arg(long)]
    dry_run: bool,
}

/// The words of `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Restart {
    /// Start it again after a crash
    #[default]
    OnFailure,
    /// Start it again whatever the cause
    Always,
    /// Leave it
    Never,
}

impl From<Restart> for RestartPolicy {
    fn from(word: Restart) -> Self {
        match word {
            Restart::OnFailure => Self::OnFailure,
            Restart::Always => Self::Always,
            Restart::Never => Self::Never,
        }
    }
}

/// The words of `--firmware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum FirmwareArg {
    /// A BIOS (on Arm: UEFI)
    #[default]
    Bios,
    /// UEFI, without Secure Boot
    Uefi,
}

impl From<FirmwareArg> for Firmware {
    fn from(word: FirmwareArg) -> Self {
        match word {
            FirmwareArg::Bios => Self::Bios,
            FirmwareArg::Uefi => Self::Uefi,
        }
    }
}

/// The arguments of `label`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl label web-1 env=prod tier=web
  waifuctl label web-1 tier-")]
pub(crate) struct LabelArgs {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// KEY=VALUE sets a label, KEY- takes it away
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    labels: Vec<LabelChange>,
}

/// One word of `label`.
#[derive(Debug, Clone)]
pub(crate) struct LabelChange(String, Option<String>);

impl std::str::FromStr for LabelChange {
    type Err = waifud_model::labels::LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('-').filter(|key| !key.contains('=')) {
            Some(key) => Ok(Self(key.to_owned(), None)),
            None => text.parse().map(|Label { key, value }| Self(key, Some(value))),
        }
    }
}

/// Several words of `label` as one change.
pub(crate) fn patch(words: &[LabelChange]) -> LabelPatch {
    LabelPatch(words.iter().map(|LabelChange(key, value)| (key.clone(), value.clone())).collect())
}

/// The arguments of `protect` and `unprotect`.
#[derive(Debug, clap::Args)]
pub(crate) struct ProtectArgs {
    /// The VMs
    #[arg(required = true, add = complete::vms())]
    names: Vec<VmName>,
}

/// `disk`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DiskCommand {
    /// Add an empty disk; the guest finds it at /dev/disk/by-id/virtio-DISK
    #[command(before_help = "Examples:
  waifuctl disk add db-1 data 100G")]
    Add {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// What to call the disk
        disk: DiskName,
        /// Its size
        size: ByteSize,
    },
    /// Make a disk larger
    #[command(before_help = "Examples:
  waifuctl disk grow db-1 data 200G")]
    Grow {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The disk
        disk: DiskName,
        /// Its new size
        size: ByteSize,
    },
    /// Take a disk away, with all that is on it
    #[command(
        visible_alias = "rm",
        before_help = "Examples:
  waifuctl disk remove db-1 data
  waifuctl disk remove db-1 data --dry-run"
    )]
    Remove {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The disk
        disk: DiskName,
        /// Only say what would be lost
        #[arg(long)]
        dry_run: bool,
    },
}

/// `cd`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum CdCommand {
    /// Put an ISO image into the drive
    #[command(before_help = "Examples:
  waifuctl cd insert win-1 virtio-win")]
    Insert {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
        /// The image: a template that is an ISO
        #[arg(add = complete::templates())]
        template: TemplateSelector,
    },
    /// Take it out
    #[command(before_help = "Examples:
  waifuctl cd eject win-1")]
    Eject {
        /// The VM
        #[arg(add = complete::vms())]
        name: VmName,
    },
}

/// The arguments of `rename`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl rename web-1 shop-1")]
pub(crate) struct RenameArgs {
    /// The VM
    #[arg(add = complete::vms())]
    old: VmName,
    /// Its new name; the guest learns it at its next start
    new: VmName,
}

/// The arguments of `reinit`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl reinit web-1
  waifuctl reinit web-1 -t debian-13 --dry-run")]
pub(crate) struct ReinitArgs {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// What the disk starts from [default: the newest version of its template]
    #[arg(short, long, value_name = "TEMPLATE[@VERSION]", add = complete::templates())]
    template: Option<TemplateSelector>,
    /// Only say what would be lost, and what the disk would start from
    #[arg(long)]
    dry_run: bool,
}

/// A value, or the word "none".
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrNone<T>(Option<T>);

fn or_none<T: std::str::FromStr>(text: &str) -> Result<OrNone<T>, String>
where
    T::Err: std::fmt::Display,
{
    if text == "none" {
        return Ok(OrNone(None));
    }
    text.parse().map(|value| OrNone(Some(value))).map_err(|error: T::Err| error.to_string())
}

pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" | "on" => Ok(true),
        "no" | "false" | "off" => Ok(false),
        _ => Err("yes or no".to_owned()),
    }
}

pub(crate) async fn resize(context: &Context, args: ResizeArgs) -> Result<(), Failure> {
    let update = VmUpdate {
        cpus: args.cpus,
        memory: args.memory,
        memory_max: args.memory_max.map(|OrNone(most)| most),
        disk: args.disk,
        ..VmUpdate::default()
    };
    make(context, &args.name, &update, "resizing", args.dry_run).await
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
    make(context, &args.name, &update, "changing", args.dry_run).await
}

pub(crate) async fn label(context: &Context, args: LabelArgs) -> Result<(), Failure> {
    let update = VmUpdate { labels: patch(&args.labels), ..VmUpdate::default() };
    make(context, &args.name, &update, "labelling", false).await
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
    let (name, disk, size, dry_run) = match command {
        DiskCommand::Add { name, disk, size } => {
            let there = context.fresh(context.client.vm(&name).await?);
            if there.hardware.disks.contains_key(&disk) {
                let hint = format!("waifuctl disk grow {name} {disk} {size}");
                return Err(Failure::ended(Exit::Conflict, format!("{name} has a disk {disk} already"), hint));
            }
            (name, disk, Some(size), false)
        }
        DiskCommand::Grow { name, disk, size } => {
            let there = context.fresh(context.client.vm(&name).await?);
            if !there.hardware.disks.contains_key(&disk) {
                let hint = format!("waifuctl disk add {name} {disk} {size}");
                return Err(Failure::ended(Exit::NotFound, format!("{name} has no disk {disk}"), hint));
            }
            (name, disk, Some(size), false)
        }
        DiskCommand::Remove { name, disk, dry_run } => (name, disk, None, dry_run),
    };
    if size.is_none() && !dry_run {
        confirm::agree(
            context,
            &format!("Remove disk {disk} of {name} with all that is on it? This cannot be undone."),
        )
        .await?;
    }
    let update = VmUpdate { disks: BTreeMap::from([(disk, size)]), ..VmUpdate::default() };
    make(context, &name, &update, "changing the disks of", dry_run).await
}

pub(crate) async fn cd(context: &Context, command: CdCommand) -> Result<(), Failure> {
    let (name, cd) = match command {
        CdCommand::Insert { name, template } => (name, Some(template)),
        CdCommand::Eject { name } => (name, None),
    };
    let update = VmUpdate { cd: Some(cd), ..VmUpdate::default() };
    make(context, &name, &update, "changing the CD of", false).await
}

/// Makes the change, or says what it would come to.
async fn make(context: &Context, name: &VmName, update: &VmUpdate, doing: &str, dry_run: bool) -> Result<(), Failure> {
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
    clock.done(&format!("{name} is changed"), "");
    waits(context, &vm);
    Ok(())
}

/// What waits for the next start, and how to come to it.
fn waits(context: &Context, vm: &Vm) {
    for change in &vm.status.changes {
        context.hint(&pending(change));
    }
    if !vm.status.waits.is_empty() {
        context.hint(&format!("waifuctl reboot {}", vm.name));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_taken_away() {
        let words: Vec<LabelChange> = ["env=prod", "tier-", "a=b-"].iter().map(|word| word.parse().unwrap()).collect();
        let patch = serde_json::to_string(&patch(&words)).unwrap();
        assert_eq!(patch, r#"{"a":"b-","env":"prod","tier":null}"#);
        assert!("nothing".parse::<LabelChange>().is_err());
    }
}

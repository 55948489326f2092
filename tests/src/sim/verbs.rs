//! What people do with a VM that is there: all verbs but its end.
//!
//! In: dice, and what the client knows of its VMs. Out: a [`Verb`], and the command the web would make of it.

use super::{client::Door, dice::Dice};
use anyhow::Result;
use std::collections::BTreeMap;
use waifud_model::{
    change::{Patch, VmChange},
    command::Command,
    hardware::{CpuModel, Firmware},
    ids::{Generation, VmId},
    labels::LabelPatch,
    name::{DiskName, TemplateName, VmName},
    size::ByteSize,
    vm::{Desired, ImageRef, Phase, RestartPolicy},
};
use waifud_node::daemon::Override;

/// What is done with a VM.
#[derive(Debug, Clone)]
pub(crate) enum Verb {
    /// Started, stopped, paused or resumed.
    Power {
        desired: Desired,
        grace: Option<u32>,
    },
    Reboot {
        grace: Option<u32>,
    },
    Rename(VmName),
    /// Made anew from the newest version of a template.
    Reinit(TemplateName),
    Change(Box<VmChange>),
}

/// How long guests are given to go off: some not at all, some less than they take.
const GRACES: [Option<u32>; 5] = [None, None, Some(0), Some(1), Some(20)];

const DESIRED: [Desired; 4] = [Desired::Running, Desired::Running, Desired::Stopped, Desired::Paused];

impl Verb {
    /// Thinks of one.
    pub(crate) fn think(dice: &mut Dice, name: VmName, template: TemplateName) -> Result<Self> {
        let grace = dice.pick(&GRACES).copied().flatten();
        Ok(match dice.within(0..100) {
            0..40 => Self::Power { desired: dice.pick(&DESIRED).copied().unwrap_or(Desired::Running), grace },
            40..55 => Self::Reboot { grace },
            55..62 => Self::Rename(name),
            62..70 => Self::Reinit(template),
            _ => Self::Change(Box::new(change(dice)?)),
        })
    }

    /// Does it without the cluster, which could not agree on it, where a node may: power, on the VM's owner.
    pub(crate) async fn alone(&self, vm: VmId, expect: Option<Generation>, door: &Door) -> Result<Option<Override>> {
        let Self::Power { desired, grace } = self else { return Ok(None) };
        let (desired, grace) = (*desired, grace.filter(|_| *desired == Desired::Stopped));
        let found = door.handle.read(move |view| view.vm(vm)).await?;
        let Some(vm) = found.filter(|vm| {
            let seen = expect.is_none_or(|generation| generation == vm.generation);
            seen && vm.node == door.node && vm.phase == Phase::Live
        }) else {
            return Ok(None);
        };
        if door.overrides.fits(&vm, desired).is_err() {
            return Ok(None);
        }
        let wish = Override { desired, grace, base: vm.generation, at: door.clock.now() };
        door.overrides.give(vm.id, wish).await?;
        Ok(Some(wish))
    }

    /// The command, as the web at that node would make it. None if the node refuses by itself.
    pub(crate) async fn command(self, vm: VmId, expect: Option<Generation>, door: &Door) -> Option<Command> {
        Some(match self {
            Self::Power { desired, grace } => Command::SetPower { vm, desired, grace, expect },
            Self::Reboot { grace } => Command::RebootVm { vm, grace, expect },
            Self::Rename(name) => Command::RenameVm { vm, name, expect },
            Self::Change(change) => Command::ChangeVm { vm, change, expect },
            Self::Reinit(template) => {
                let newest = door.handle.read(move |view| view.newest_version(&template)).await.ok()??;
                let image = ImageRef { template: newest.template, version: newest.version };
                Command::ReinitVm { vm, image, expect }
            }
        })
    }
}

fn change(dice: &mut Dice) -> Result<VmChange> {
    let mut change = VmChange::default();
    match dice.within(0..10) {
        0 => change.cpus = Some(u32::try_from(dice.within(1..6))?),
        1 => change.memory = Some(ByteSize::mib(128 * dice.within(2..8))),
        2 if dice.permille(300) => change.memory_max = Patch::Clear,
        2 => change.memory_max = Patch::Set(ByteSize::mib(128 * dice.within(4..10))),
        3 => change.disk = Some(ByteSize::gib(dice.within(3..8))),
        4 => {
            let value = dice.permille(700).then(|| dice.within(0..9).to_string());
            change.labels = LabelPatch(BTreeMap::from([(format!("key-{}", dice.within(0..3)), value)]));
        }
        5 => change.protected = Some(dice.permille(300)),
        6 => change.autostart = Some(dice.permille(500)),
        7 => {
            let restarts = [RestartPolicy::OnFailure, RestartPolicy::Always, RestartPolicy::Never];
            change.restart = dice.pick(&restarts).copied();
        }
        8 => {
            let models = [CpuModel::default(), "Skylake-Server".parse()?];
            change.cpu_model = dice.pick(&models).cloned();
            change.firmware = dice.pick(&[Firmware::Bios, Firmware::Uefi]).copied();
        }
        _ => {
            let name = DiskName::new(format!("data-{}", dice.within(0..3)))?;
            let size = dice.permille(700).then(|| ByteSize::gib(dice.within(1..4)));
            change.disks = BTreeMap::from([(name, size)]);
        }
    }
    Ok(change)
}

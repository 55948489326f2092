//! What a running guest has against what its record says: each difference with a way to mend it, or the reason why it waits
//! for the next start. Pure.

use super::{
    Adjust, Observed, Patience, Recent, Tried,
    prepare::{named, path_of},
};
use crate::{hypervisor::Live, reconcile::shape};
use std::{fmt, time::Duration};
use waifud_model::{
    observed::Waiting,
    vm::{ImageRef, Vm},
};

/// Most guests do what they are told in this time: no event says when a balloon is as large as it shall be.
const USUAL: Duration = Duration::from_secs(20);
/// How often it is looked whether they have.
const PEEK: Duration = Duration::from_secs(2);

/// Something that is otherwise than the record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Of what kind.
    pub waiting: Waiting,
    /// The field, as the API names it.
    pub field: String,
    /// What the guest has.
    pub now: String,
    /// What it shall have.
    pub wanted: String,
    /// How that comes about.
    pub way: Way,
}

/// How a guest comes to have something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// While it runs.
    Now(Adjust),
    /// When it is started the next time, for this reason.
    AtStart(String),
}

/// A difference that stays for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Of what kind.
    pub waiting: Waiting,
    /// The field, as the API names it.
    pub field: String,
    /// What the guest has.
    pub now: String,
    /// What it shall have.
    pub wanted: String,
    /// Why it has to wait.
    pub why: String,
}

/// What to do about the differences.
#[derive(Debug, Default)]
pub(super) struct Remedy {
    /// What is done now.
    pub(super) adjust: Vec<Adjust>,
    /// What stays.
    pub(super) pending: Vec<Pending>,
    /// When something that the guest was told has to be looked at again.
    pub(super) look_again: Option<Duration>,
}

/// Sorts the differences by what was tried already.
pub(super) fn remedy(vm: &Vm, seen: &Observed, live: &Live, recent: &Recent, patience: &Patience) -> Remedy {
    let mut remedy = Remedy::default();
    for Difference { waiting, field, now, wanted, way } in differences(vm, seen, live) {
        let why = match way {
            Way::AtStart(why) => why,
            Way::Now(adjust) => match recent.adjusted.get(&adjust) {
                Some(Tried::Refused(why)) => why.clone(),
                Some(Tried::Told(ago)) if *ago < patience.adjust_again => {
                    let left = if *ago < USUAL { PEEK } else { patience.adjust_again - *ago };
                    remedy.look_again = Some(remedy.look_again.map_or(left, |soonest| soonest.min(left)));
                    "the guest was told, and has not done it yet".to_owned()
                }
                _ => {
                    remedy.adjust.push(adjust);
                    continue;
                }
            },
        };
        remedy.pending.push(Pending { waiting, field, now, wanted, why });
    }
    remedy
}

/// Everything that `live` has otherwise than `vm` says.
#[must_use]
pub fn differences(vm: &Vm, seen: &Observed, live: &Live) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    cpus(vm, live, &mut found);
    memory(vm, live, &mut found);
    disks(vm, seen, live, &mut found);
    machine(vm, live, &mut found);
    cd(vm, seen, live, &mut found);
    cards(vm, live, &mut found);
    cloud_init(vm, live, &mut found);
    found.0
}

/// The differences so far.
struct Found(Vec<Difference>);

impl Found {
    fn add(
        &mut self,
        waiting: Waiting,
        field: impl Into<String>,
        now: impl fmt::Display,
        wanted: impl fmt::Display,
        way: Way,
    ) {
        let (field, now, wanted) = (field.into(), now.to_string(), wanted.to_string());
        self.0.push(Difference { waiting, field, now, wanted, way });
    }
}

fn at_start(why: impl Into<String>) -> Way {
    Way::AtStart(why.into())
}

fn cpus(vm: &Vm, live: &Live, found: &mut Found) {
    let (now, wanted) = (live.cpus.current, vm.spec.cpus);
    if now == wanted {
        return;
    }
    let way = if wanted <= live.cpus.most {
        Way::Now(Adjust::Cpus(wanted))
    } else {
        at_start(format!("the guest was started with room for {} CPUs", live.cpus.most))
    };
    found.add(Waiting::Cpus, "cpus", now, wanted, way);
}

fn memory(vm: &Vm, live: &Live, found: &mut Found) {
    let (now, wanted) = (live.memory, vm.spec.memory);
    if now.current != wanted {
        let way = if wanted <= now.most {
            Way::Now(Adjust::Memory(wanted))
        } else {
            at_start(format!("the guest was started with room for {}", now.most))
        };
        found.add(Waiting::Memory, "memory", now.current, wanted, way);
    }
    // Less room than it has is of no use to anybody as long as nothing was said about it.
    let room = vm.spec.memory_promised();
    let matters = room > now.most || vm.spec.hardware.memory_max.is_some();
    if room != now.most && wanted <= now.most && matters {
        found.add(
            Waiting::Memory,
            "memory_max",
            now.most,
            room,
            at_start("the guest's room for memory is set when it starts"),
        );
    }
}

fn disks(vm: &Vm, seen: &Observed, live: &Live, found: &mut Found) {
    let plugged = |slot: Option<u8>| live.disks.iter().find(move |disk| disk.slot == slot);
    if let Some(root) = plugged(None)
        && root.size < vm.spec.disk
    {
        let grow = Way::Now(Adjust::Grow(None, vm.spec.disk));
        found.add(Waiting::Disks, "disk", root.size, vm.spec.disk, grow);
    }
    for (slot, disk) in live.disks.iter().filter_map(|disk| Some((disk.slot?, disk))) {
        let is_at = |d| path_of(d, seen).or(named(d, seen)) == Some(&disk.path);
        let is_wanted = vm.spec.hardware.disks.iter().any(|d| d.slot == slot && is_at(d));
        if !is_wanted {
            let name = seen.disks.iter().find(|(_, path)| **path == disk.path).map(|(here, _)| here.name.to_string());
            let field = format!("disks.{}", name.unwrap_or_else(|| slot.to_string()));
            found.add(Waiting::Disks, field, disk.size, "none", Way::Now(Adjust::Detach(slot)));
        }
    }
    for disk in &vm.spec.hardware.disks {
        let field = format!("disks.{}", disk.name);
        // It is made first, or lost.
        let Some(path) = path_of(disk, seen) else { continue };
        match plugged(Some(disk.slot)) {
            None => {
                found.add(Waiting::Disks, field, "none", disk.size, Way::Now(Adjust::Attach(disk.slot)));
            }
            Some(there) if there.path != path => {
                let why = at_start("the guest still has another disk in its place");
                found.add(Waiting::Disks, field, "none", disk.size, why);
            }
            Some(there) if there.size < disk.size => {
                let grow = Way::Now(Adjust::Grow(Some(disk.slot), disk.size));
                found.add(Waiting::Disks, field, there.size, disk.size, grow);
            }
            Some(_) => {}
        }
    }
}

fn machine(vm: &Vm, live: &Live, found: &mut Found) {
    let wanted = &vm.spec.hardware;
    let why = || at_start("a guest's machine is chosen when it starts");
    if live.firmware != wanted.firmware {
        found.add(Waiting::Hardware, "firmware", live.firmware, wanted.firmware, why());
    }
    if live.cpu_model != wanted.cpu_model {
        found.add(Waiting::Hardware, "cpu_model", &live.cpu_model, &wanted.cpu_model, why());
    }
}

fn cd(vm: &Vm, seen: &Observed, live: &Live, found: &mut Found) {
    let wanted = vm.spec.hardware.cd.as_ref();
    // What is not here yet cannot be put in.
    if live.cd == seen.cd || (wanted.is_some() && seen.cd.is_none()) {
        return;
    }
    let now = if live.cd.is_some() { "another image" } else { "empty" };
    let name = |image: &ImageRef| format!("{}@{}", image.template, image.version.short());
    let wanted = wanted.map_or_else(|| "empty".to_owned(), name);
    found.add(Waiting::Cd, "cd", now, wanted, Way::Now(Adjust::Cd));
}

fn cards(vm: &Vm, live: &Live, found: &mut Found) {
    let wanted = shape::cards(vm);
    for card in live.cards.iter().filter(|card| !wanted.iter().any(|wanted| wanted.mac == card.mac)) {
        found.add(Waiting::Network, "bridges", &card.bridge, "none", Way::Now(Adjust::DetachCard(card.mac)));
    }
    for (number, card) in (0..).zip(&wanted) {
        match live.cards.iter().find(|there| there.mac == card.mac) {
            None => found.add(Waiting::Network, "bridges", "none", &card.bridge, Way::Now(Adjust::AttachCard(number))),
            Some(there) if there.bridge != card.bridge.as_str() => {
                let way = Way::Now(Adjust::MoveCard(number));
                found.add(Waiting::Network, "bridges", &there.bridge, &card.bridge, way);
            }
            Some(_) => {}
        }
    }
}

fn cloud_init(vm: &Vm, live: &Live, found: &mut Found) {
    let has_seed = vm.spec.cloud_init.network_config.is_some();
    if live.smbios == shape::smbios(vm) && live.seed == has_seed {
        return;
    }
    let why = at_start("the guest's firmware tells cloud-init whom to ask when the guest starts");
    let source = vm.spec.cloud_init.datasource;
    let with = |seed| if seed { "with a network-config" } else { "without a network-config" };
    if live.seed == has_seed {
        found.add(Waiting::CloudInit, "datasource", &live.smbios.product, source, why);
    } else {
        found.add(Waiting::CloudInit, "network_config", with(live.seed), with(has_seed), why);
    }
}

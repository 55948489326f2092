//! A domain in memory: what it was defined from, what its guest was started with, and what that has taken up since.

use crate::{
    hypervisor::{
        Adjustment, Boot, Card, Cause, Disk, Domain, DomainSpec, DomainState, ExtraDisk, HypervisorError, Live,
        LiveCard, LiveDisk, OffReason,
    },
    volumes::fake::FakeVolumes,
};
use std::net::Ipv4Addr;
use tokio::time::Instant;
use waifud_model::{
    ids::{Generation, VmId},
    size::ByteSize,
    time::Timestamp,
};

#[derive(Debug, Clone)]
pub(super) struct Guest {
    pub(super) ours: bool,
    /// What it was last defined from; none if somebody undefined it.
    pub(super) spec: Option<DomainSpec>,
    pub(super) edited: bool,
    pub(super) ip: Ipv4Addr,
    pub(super) state: DomainState,
    pub(super) started: Option<Generation>,
    since: Option<Timestamp>,
    booted: Boot,
    pub(super) cloud_init_done: Option<u32>,
    /// What its guest has, and the sizes of its disks; while it is on.
    running: Option<(DomainSpec, Vec<LiveDisk>)>,
    /// It does not hear its power button.
    pub(super) deaf: bool,
    /// It takes up nothing while it runs.
    pub(super) rigid: bool,
    /// Grows with every start, so that a shutdown under way does not hit the guest's next life.
    pub(super) life: u64,
    pub(super) started_at: Instant,
}

impl Guest {
    pub(super) fn new(spec: &DomainSpec) -> Self {
        let state = DomainState::Off(OffReason::Unknown);
        Self { spec: Some(spec.clone()), ip: spec.nic.ip, state, ..Self::found(true) }
    }

    /// One that runs, made by nobody here, of ours or somebody else's.
    pub(super) fn found(ours: bool) -> Self {
        Self {
            ours,
            spec: None,
            edited: false,
            ip: Ipv4Addr::UNSPECIFIED,
            state: DomainState::Running,
            started: None,
            since: None,
            booted: Boot::default(),
            cloud_init_done: None,
            running: None,
            deaf: false,
            rigid: false,
            life: 0,
            started_at: Instant::now(),
        }
    }

    /// The domain as a listing has it.
    pub(super) fn domain(&self, vm: VmId) -> Domain {
        let defined = self.spec.as_ref().map(|spec| spec.generation);
        let running = self.running.as_ref().map(|(spec, _)| spec.boot);
        Domain {
            vm,
            state: self.state,
            defined,
            started: self.started,
            since: self.since,
            ip: self.ip,
            booted: running.unwrap_or(self.booted),
            cloud_init_done: self.cloud_init_done,
            edited: false,
            disks: Vec::new(),
            live: None,
        }
    }

    /// The domain as a close look has it.
    pub(super) fn closely(&self, vm: VmId) -> Domain {
        let definition = self.spec.as_ref().or(self.running.as_ref().map(|(spec, _)| spec));
        let files = |spec: &DomainSpec| {
            let extra = spec.disks.iter().map(|extra| &extra.disk);
            std::iter::once(&spec.disk).chain(extra).map(|disk| disk.path.clone()).collect()
        };
        let disks = definition.map(files).unwrap_or_default();
        Domain { edited: self.edited, disks, live: self.live(), ..self.domain(vm) }
    }

    fn live(&self) -> Option<Live> {
        let (spec, disks) = self.running.as_ref()?;
        Some(Live {
            cpus: spec.cpus,
            memory: spec.memory,
            disks: disks.clone(),
            cd: spec.cd.clone(),
            cards: spec.cards.iter().map(live_card).collect(),
            firmware: spec.firmware,
            cpu_model: spec.cpu_model.clone(),
            smbios: spec.smbios.clone(),
            seed: spec.seed.is_some(),
        })
    }

    /// The memory that its guest may use; nothing while it is off.
    pub(super) fn memory(&self) -> ByteSize {
        self.running.as_ref().map_or(ByteSize::ZERO, |(spec, _)| spec.memory.current)
    }

    /// Its guest goes on, from its definition.
    pub(super) fn boot(&mut self, volumes: Option<&FakeVolumes>) {
        let Some(spec) = self.spec.clone() else { return };
        self.life += 1;
        self.started_at = Instant::now();
        let root = live_disk(None, &spec.disk, volumes);
        let disks = spec.disks.iter().map(|extra| live_disk(Some(extra.slot), &extra.disk, volumes));
        let disks = std::iter::once(root).chain(disks).collect();
        self.running = Some((spec, disks));
        self.state = DomainState::Running;
    }

    /// It was started by whoever uses the hypervisor, and not behind its back.
    pub(super) fn note_start(&mut self, at: Option<Timestamp>) {
        self.since = at;
        if let Some((spec, _)) = &self.running {
            self.booted = spec.boot;
        }
    }

    pub(super) fn go_off(&mut self, reason: OffReason) {
        self.state = DomainState::Off(reason);
        self.running = None;
    }

    /// Its guest takes something up.
    pub(super) fn adjust(
        &mut self,
        vm: VmId,
        adjustment: &Adjustment,
        volumes: Option<&FakeVolumes>,
    ) -> Result<(), HypervisorError> {
        let Some((spec, disks)) = &mut self.running else {
            return Err(refused(vm, "the guest is off"));
        };
        let not_live = |why| HypervisorError::NotLive { vm, what: adjustment.what(), why: Cause::new(why) };
        if self.rigid {
            return Err(not_live("injected: the guest takes up nothing"));
        }
        match adjustment {
            Adjustment::Cpus(cpus) if *cpus > spec.cpus.most => return Err(not_live("there is room for fewer")),
            Adjustment::Cpus(cpus) => spec.cpus.current = *cpus,
            Adjustment::Memory(memory) if *memory > spec.memory.most => return Err(not_live("it booted with less")),
            Adjustment::Memory(memory) => spec.memory.current = *memory,
            Adjustment::Grow { slot, size } => {
                let disk = disks.iter_mut().find(|disk| disk.slot == *slot);
                let disk = disk.ok_or_else(|| refused(vm, "there is no such disk"))?;
                if *size < disk.size {
                    return Err(refused(vm, "disks never shrink"));
                }
                disk.size = *size;
                if let Some(volumes) = volumes {
                    volumes.grow(&disk.path, *size);
                }
            }
            Adjustment::Attach(extra) => match disks.iter().find(|disk| disk.slot == Some(extra.slot)) {
                Some(there) if there.path == extra.disk.path => {}
                Some(_) => return Err(refused(vm, "another disk is in that place")),
                None => {
                    disks.push(live_disk(Some(extra.slot), &extra.disk, volumes));
                    disks.sort_by_key(|disk| disk.slot);
                    let ExtraDisk { slot, .. } = *extra;
                    spec.disks.retain(|disk| disk.slot != slot);
                    spec.disks.push(extra.clone());
                }
            },
            Adjustment::Detach { slot } => {
                disks.retain(|disk| disk.slot != Some(*slot));
                spec.disks.retain(|disk| disk.slot != *slot);
            }
            Adjustment::Cd(cd) => spec.cd.clone_from(cd),
            Adjustment::AttachCard(card) => {
                spec.cards.retain(|there| there.mac != card.mac);
                spec.cards.push(card.clone());
            }
            Adjustment::MoveCard(card) => match spec.cards.iter_mut().find(|there| there.mac == card.mac) {
                Some(there) => there.clone_from(card),
                None => return Err(refused(vm, "there is no such card")),
            },
            Adjustment::DetachCard(mac) => spec.cards.retain(|card| card.mac != *mac),
        }
        Ok(())
    }
}

fn live_disk(slot: Option<u8>, disk: &Disk, volumes: Option<&FakeVolumes>) -> LiveDisk {
    let size = volumes.and_then(|volumes| volumes.size_at(&disk.path)).unwrap_or(ByteSize::ZERO);
    LiveDisk { slot, size, path: disk.path.clone() }
}

fn live_card(card: &Card) -> LiveCard {
    LiveCard { mac: card.mac, bridge: card.bridge.to_string() }
}

fn refused(vm: VmId, why: &str) -> HypervisorError {
    HypervisorError::Refused { what: "adjust", vm, source: Cause::new(why) }
}

//! Making a running guest take something up, over one open connection. Nothing here waits for the guest: what it has to do
//! by itself is given back as [`Awaited`], and whoever asked looks again with [`Session::progress`].

use super::{
    explain::not_live,
    ffi::Handle,
    live::Description,
    session::{Result, Session, has_agent, refused},
};
use crate::hypervisor::{
    Adjustment, Card, Cause, ExtraDisk, HypervisorError,
    xml::{card_xml, cd_xml, data_disk_xml},
};
use std::path::Path;
use virt::{error::Error, sys};
use waifud_model::{ids::VmId, size::ByteSize, vm::Mac};

const WHAT: &str = "adjust";

/// How long an agent that is told of new CPUs may take, in seconds.
const AGENT_S: i32 = 2;

/// What a guest has yet to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Its balloon takes or gives memory until so much is left to it.
    Memory(ByteSize),
    /// It lets go of the disk in that place.
    Disk(u8),
    /// It lets go of a network card.
    Card(Mac),
}

/// How far a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It is done, or off.
    Done,
    /// It has so much memory.
    Memory(ByteSize),
    /// It has not let go.
    Holds,
}

/// A guest that is on, and what is to change about it.
struct Subject<'a> {
    vm: VmId,
    what: &'static str,
    handle: Handle,
    xml: String,
    guest: Description,
    session: &'a Session,
}

impl Session {
    /// Does it, or asks the guest to. If the guest has something to do, that comes back.
    pub(super) fn adjust(&self, vm: VmId, adjustment: &Adjustment) -> Result<Option<Awaited>> {
        let subject = self.subject(vm, adjustment.what())?;
        match adjustment {
            Adjustment::Cpus(cpus) => subject.cpus(*cpus).map(|()| None),
            Adjustment::Memory(memory) => subject.memory(*memory),
            Adjustment::Grow { slot, size } => subject.grow(*slot, *size).map(|()| None),
            Adjustment::Attach(extra) => subject.attach(extra).map(|()| None),
            Adjustment::Detach { slot } => subject.detach(*slot),
            Adjustment::Cd(cd) => subject.cd(cd.as_deref()).map(|()| None),
            Adjustment::AttachCard(card) => subject.attach_card(card).map(|()| None),
            Adjustment::MoveCard(card) => subject.move_card(card).map(|()| None),
            Adjustment::DetachCard(mac) => subject.detach_card(*mac),
        }
    }

    /// How far the guest is with what it was asked.
    pub(super) fn progress(&self, vm: VmId, awaited: Awaited) -> Result<Progress> {
        let Some(handle) = self.active(WHAT, vm)? else { return Ok(Progress::Done) };
        let guest = describe(vm, &handle)?.1;
        Ok(match awaited {
            Awaited::Memory(wanted) => match guest.memory().current {
                now if now == wanted => Progress::Done,
                now => Progress::Memory(now),
            },
            Awaited::Disk(slot) if guest.disk(Some(slot)).is_none() => Progress::Done,
            Awaited::Card(mac) if guest.card(mac).is_none() => Progress::Done,
            Awaited::Disk(_) | Awaited::Card(_) => Progress::Holds,
        })
    }

    fn subject(&self, vm: VmId, what: &'static str) -> Result<Subject<'_>> {
        let (handle, _) = self.ours(vm)?;
        let (xml, guest) = describe(vm, &handle)?;
        if !guest.is_active() {
            return Err(HypervisorError::Refused { what: WHAT, vm, source: Cause::new("the guest is off") });
        }
        Ok(Subject { vm, what, handle, xml, guest, session: self })
    }
}

fn describe(vm: VmId, handle: &Handle) -> Result<(String, Description)> {
    let xml = handle.xml_desc(0).map_err(|e| refused(WHAT, vm, &e))?;
    let guest = Description::parse(&xml).map_err(|source| HypervisorError::Refused { what: WHAT, vm, source })?;
    Ok((xml, guest))
}

impl Subject<'_> {
    fn cpus(&self, cpus: u32) -> Result<()> {
        let have = self.guest.cpus();
        if cpus > have.most {
            return Err(self.cannot(format!("it was started with room for {} CPUs", have.most)));
        }
        if cpus < have.current && self.guest.is_emulated() {
            // The guest would let go, but QEMU 10 does not tell libvirt that it did, which then counts on a CPU that is gone.
            return Err(self.cannot("QEMU cannot take CPUs away from a guest that it emulates"));
        }
        if cpus != have.current {
            let done = self.handle.set_vcpus_flags(cpus, sys::VIR_DOMAIN_VCPU_LIVE);
            done.map_err(|e| self.explain(&e))?;
        }
        self.tell_of_cpus(cpus);
        Ok(())
    }

    /// Some guests leave a new CPU unused until they are told to use it. Their agent can be told; one without an agent has to
    /// know by itself.
    fn tell_of_cpus(&self, cpus: u32) {
        if !has_agent(&self.xml) {
            return;
        }
        let told = self
            .handle
            .limit_agent(AGENT_S)
            .and_then(|()| self.handle.set_vcpus_flags(cpus, sys::VIR_DOMAIN_VCPU_LIVE | sys::VIR_DOMAIN_VCPU_GUEST));
        if let Err(error) = told {
            tracing::debug!(vm = %self.vm, error = error.message(), "the agent was not told of the guest's CPUs");
        }
    }

    fn memory(&self, memory: ByteSize) -> Result<Option<Awaited>> {
        let have = self.guest.memory();
        if memory > have.most {
            return Err(self.cannot(format!("it was started with {}", have.most)));
        }
        if memory == have.current {
            return Ok(None);
        }
        let asked = self.handle.set_memory_flags(memory.as_kib(), sys::VIR_DOMAIN_MEM_LIVE);
        asked.map_err(|e| self.explain(&e))?;
        Ok(Some(Awaited::Memory(memory)))
    }

    fn grow(&self, slot: Option<u8>, size: ByteSize) -> Result<()> {
        let Some(disk) = self.guest.disk(slot) else { return Err(self.refuse("it has no such disk")) };
        let target = &disk.target.dev;
        let have = self.handle.block_info(target, 0).map_err(|e| self.explain(&e))?.capacity;
        // Disks are whole sectors.
        let size = size.as_bytes().next_multiple_of(512);
        if size < have {
            // The hypervisor would do it, and what the guest wrote at the end would be lost.
            return Err(self.refuse("disks never shrink"));
        }
        if size == have {
            return Ok(());
        }
        let grown = self.handle.block_resize(target, size, sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES);
        grown.map_err(|e| self.explain(&e))
    }

    fn attach(&self, extra: &ExtraDisk) -> Result<()> {
        match self.guest.disk(Some(extra.slot)) {
            Some(there) if there.path() == Some(&extra.disk.path) => Ok(()),
            Some(_) => Err(self.refuse("another disk is in that place")),
            None => self.plug_in(&data_disk_xml(self.vm, extra)?),
        }
    }

    fn detach(&self, slot: u8) -> Result<Option<Awaited>> {
        let Some(disk) = self.guest.disk(Some(slot)) else { return Ok(None) };
        self.unplug(disk.alias())?;
        Ok(Some(Awaited::Disk(slot)))
    }

    fn cd(&self, cd: Option<&Path>) -> Result<()> {
        let Some(drive) = self.guest.drive() else { return Err(self.cannot("it was started without a CD drive")) };
        if drive.path() == cd {
            return Ok(());
        }
        let xml = cd_xml(self.vm, cd, &drive.target.dev, &drive.target.bus)?;
        self.update(&xml)
    }

    fn attach_card(&self, card: &Card) -> Result<()> {
        if self.guest.card(card.mac).is_some() {
            return Ok(());
        }
        self.plug_in(&card_xml(self.vm, card)?)
    }

    fn move_card(&self, card: &Card) -> Result<()> {
        match self.guest.card(card.mac) {
            None => Err(self.refuse("it has no such network card")),
            Some(there) if there.bridge() == card.bridge.as_str() => Ok(()),
            Some(_) => self.update(&card_xml(self.vm, card)?),
        }
    }

    fn detach_card(&self, mac: Mac) -> Result<Option<Awaited>> {
        let Some(card) = self.guest.card(mac) else { return Ok(None) };
        self.unplug(card.alias())?;
        Ok(Some(Awaited::Card(mac)))
    }

    /// What a device of the guest's is to be; libvirt finds it by what cannot change.
    fn update(&self, xml: &str) -> Result<()> {
        self.handle.update_device_flags(xml, sys::VIR_DOMAIN_AFFECT_LIVE).map_err(|e| self.explain(&e)).map(drop)
    }

    fn plug_in(&self, xml: &str) -> Result<()> {
        self.handle.attach_device_flags(xml, sys::VIR_DOMAIN_AFFECT_LIVE).map_err(|e| self.explain(&e)).map(drop)
    }

    /// Returns when the guest was asked, not when it has let go.
    fn unplug(&self, alias: Option<&str>) -> Result<()> {
        let Some(alias) = alias else { return Err(self.refuse("libvirt has no name for the device")) };
        self.handle.unplug(alias).or_else(|e| {
            // It was asked before and has not answered: it may yet.
            if e.message().contains("already in the process of unplug") { Ok(()) } else { Err(self.explain(&e)) }
        })
    }

    fn cannot(&self, why: impl Into<String>) -> HypervisorError {
        HypervisorError::NotLive { vm: self.vm, what: self.what, why: Cause::new(why) }
    }

    fn refuse(&self, why: &str) -> HypervisorError {
        HypervisorError::Refused { what: WHAT, vm: self.vm, source: Cause::new(why) }
    }

    /// Whether it is the guest that cannot, or libvirt that would not.
    fn explain(&self, error: &Error) -> HypervisorError {
        let off = self.session.active(WHAT, self.vm).is_ok_and(|active| active.is_none());
        match not_live(error).filter(|_| !off) {
            Some(why) => HypervisorError::NotLive { vm: self.vm, what: self.what, why },
            None => refused(WHAT, self.vm, error),
        }
    }
}

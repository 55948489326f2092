//! Turning guests on and off, and holding them still, over one open connection; what is noted of them meanwhile.

use super::{
    explain::{cause, is},
    ffi::Handle,
    session::{Marked, Result, Session, refused},
    state::domain_state,
};
use crate::hypervisor::{Cause, DomainState, HypervisorError, Mark, StartMode};
use std::time::SystemTime;
use virt::{
    error::{Error, ErrorNumber},
    sys,
};
use waifud_model::{
    ids::{Generation, VmId},
    time::Timestamp,
};

impl Session {
    pub(super) fn start(&self, vm: VmId, generation: Generation, mode: StartMode) -> Result<()> {
        let (handle, Marked { mark: before, persistent }) = self.ours(vm)?;
        let refused = |e: Error| refused("start", vm, &e);
        let mut mark = Mark { started: Some(generation), ..before.clone() };
        if !handle.is_active().map_err(refused)? {
            mark.since = Some(now());
            mark.booted = before.boot;
            let started = match mode {
                StartMode::Run => handle.create(),
                // The mock driver cannot.
                StartMode::Paused if self.mock => handle.create().and_then(|()| handle.suspend().map(drop)),
                StartMode::Paused => handle.create_with_flags(sys::VIR_DOMAIN_START_PAUSED),
            };
            if let Err(error) = started
                // Somebody may have been faster; then it runs, and that is what was wanted.
                && !handle.is_active().map_err(refused)?
            {
                return Err(refused(error));
            }
        }
        if mark == before || !persistent {
            return Ok(());
        }
        self.write_mark(vm, &handle, &mark).map_err(|e| HypervisorError::Refused {
            what: "note the start of",
            vm,
            source: cause(&e),
        })
    }

    /// True if that is news.
    pub(super) fn note_cloud_init(&self, vm: VmId, life: u32) -> Result<bool> {
        let (handle, Marked { mark: before, persistent }) = self.ours(vm)?;
        let mark = Mark { cloud_init_done: Some(life), ..before.clone() };
        if mark == before {
            return Ok(false);
        }
        let what = "note the cloud-init of";
        if !persistent {
            return Err(HypervisorError::Refused { what, vm, source: Cause::new("it has no definition") });
        }
        self.write_mark(vm, &handle, &mark).map_err(|e| refused(what, vm, &e))?;
        Ok(true)
    }

    pub(super) fn suspend(&self, vm: VmId) -> Result<()> {
        let (handle, _) = self.ours(vm)?;
        let refused = |e: Error| refused("suspend", vm, &e);
        if matches!(seen(&handle).map_err(refused)?, DomainState::Paused(_)) {
            return Ok(());
        }
        handle.suspend().map_err(refused)
    }

    pub(super) fn resume(&self, vm: VmId) -> Result<()> {
        let (handle, _) = self.ours(vm)?;
        let refused = |e: Error| refused("resume", vm, &e);
        if seen(&handle).map_err(refused)? == DomainState::Running {
            return Ok(());
        }
        // Somebody may have been faster.
        match handle.resume() {
            Err(_) if seen(&handle).is_ok_and(|state| state == DomainState::Running) => Ok(()),
            other => other.map_err(refused),
        }
    }

    pub(super) fn shutdown(&self, vm: VmId) -> Result<()> {
        let (handle, _) = self.ours(vm)?;
        // The power button only: with the agent's flag libvirt waits for an agent that may hang.
        match handle.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) {
            // The mock driver, and some machines, know no flags.
            Err(e) if is(&e, ErrorNumber::InvalidArg) => unless_off(&handle, handle.shutdown()),
            other => unless_off(&handle, other),
        }
        .map_err(|e| refused("shut down", vm, &e))
    }

    pub(super) fn force_stop(&self, vm: VmId) -> Result<()> {
        match self.ours(vm) {
            Ok((handle, _)) => unless_off(&handle, handle.destroy()).map_err(|e| refused("stop", vm, &e)),
            Err(HypervisorError::NoDomain(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn undefine(&self, vm: VmId) -> Result<()> {
        let (handle, marked) = match self.ours(vm) {
            Ok(found) => found,
            Err(HypervisorError::NoDomain(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let refused = |e: Error| refused("undefine", vm, &e);
        if handle.is_active().map_err(refused)? {
            // libvirt would take away the definition and let the guest run on without one.
            let source = Cause::new("the guest is running");
            return Err(HypervisorError::Refused { what: "undefine", vm, source });
        }
        if !marked.persistent {
            return Ok(());
        }
        let mut flags = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA;
        if !self.mock {
            flags |= sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
        }
        let gone = handle.undefine_flags(flags);
        self.forget(vm);
        match gone {
            Err(e) if !is(&e, ErrorNumber::NoDomain) => Err(refused(e)),
            _ => Ok(()),
        }
    }
}

fn seen(handle: &Handle) -> std::result::Result<DomainState, Error> {
    handle.state().map(|(state, reason)| domain_state(state, reason))
}

/// By the host's clock. One before 1970 reads as 1970: nothing is decided by it.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A guest that is off, or not there, is what was wanted when it is to stop. Drivers refuse that with different codes, so
/// the guest is looked at.
fn unless_off(handle: &Handle, result: std::result::Result<(), Error>) -> std::result::Result<(), Error> {
    let Err(error) = result else { return Ok(()) };
    match handle.is_active() {
        Ok(false) => Ok(()),
        Err(e) if is(&e, ErrorNumber::NoDomain) => Ok(()),
        _ => Err(error),
    }
}

//! The guests' ends of their serial ports and screens.

use super::{FakeHypervisor, World};
use crate::{
    faults::lock,
    hypervisor::{HypervisorError, Line},
};
use std::collections::BTreeMap;
use tokio::io::DuplexStream;
use waifud_model::ids::VmId;

/// What fits into a line before somebody reads: as much as a pseudo terminal takes.
const LINE_BYTES: usize = 4096;

type Opened = Result<Option<Box<dyn Line>>, HypervisorError>;

/// By VM, of each kind the one that was opened last.
#[derive(Debug, Default)]
pub(super) struct Lines {
    consoles: BTreeMap<VmId, DuplexStream>,
    screens: BTreeMap<VmId, DuplexStream>,
}

impl Lines {
    /// The guest is off.
    pub(super) fn end(&mut self, vm: VmId) {
        self.consoles.remove(&vm);
        self.screens.remove(&vm);
    }
}

impl FakeHypervisor {
    /// The guest's end of its serial port, if that was opened since this was asked for. It ends with the guest, unless it was
    /// taken: then whoever took it drops it.
    #[must_use]
    pub fn take_console(&self, vm: VmId) -> Option<DuplexStream> {
        lock(&self.world).lines.consoles.remove(&vm)
    }

    /// The guest's end of its screen, as [`Self::take_console`].
    #[must_use]
    pub fn take_screen(&self, vm: VmId) -> Option<DuplexStream> {
        lock(&self.world).lines.screens.remove(&vm)
    }

    pub(super) fn open_console(&self, vm: VmId) -> Opened {
        self.open_line(vm, |lines| &mut lines.consoles)
    }

    pub(super) fn open_screen(&self, vm: VmId) -> Opened {
        self.open_line(vm, |lines| &mut lines.screens)
    }

    fn open_line(&self, vm: VmId, kind: fn(&mut Lines) -> &mut BTreeMap<VmId, DuplexStream>) -> Opened {
        let World { guests, lines, .. } = &mut *lock(&self.world);
        match guests.get(&vm) {
            Some(guest) if !guest.ours => Err(HypervisorError::Foreign(vm)),
            Some(guest) if guest.state.is_active() => {
                let (ours, guests_end) = tokio::io::duplex(LINE_BYTES);
                kind(lines).insert(vm, guests_end);
                Ok(Some(Box::new(ours)))
            }
            _ => Ok(None),
        }
    }
}

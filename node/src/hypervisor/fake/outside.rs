//! What happens to guests and to the hypervisor that waifud did not ask for: a test's or a simulation's script.

use super::{FakeHypervisor, Guest, HypervisorOp};
use crate::{
    faults::lock,
    hypervisor::{Adjustment, Cause, DomainState, Happening, Health, HypervisorError, OffReason, PauseReason},
    reconcile::Clock,
    volumes::fake::FakeVolumes,
};
use std::{sync::Arc, time::Duration};
use waifud_model::ids::VmId;

impl FakeHypervisor {
    /// Guests see the disks that these volumes keep, with their sizes; without this, all disks are empty.
    pub fn plug(&self, volumes: Arc<FakeVolumes>) {
        lock(&self.world).volumes = Some(volumes);
    }

    /// Guests are started at what this clock shows; without one, nobody knows when.
    pub fn keep_time(&self, clock: Arc<dyn Clock>) {
        lock(&self.world).clock = Some(clock);
    }

    /// The guest dies.
    pub fn crash(&self, vm: VmId) {
        self.stop(vm, OffReason::Crashed, None);
    }

    /// The guest shuts itself down.
    pub fn power_off_inside(&self, vm: VmId) {
        self.stop(vm, OffReason::ShutDown, None);
    }

    /// Somebody takes the guest's power away with another tool.
    pub fn destroy_outside(&self, vm: VmId) {
        self.stop(vm, OffReason::Destroyed, None);
    }

    /// Somebody starts the guest with another tool. Nothing happens if it is on.
    pub fn start_outside(&self, vm: VmId) {
        let began = {
            let world = &mut *lock(&self.world);
            let guest = world.guests.get_mut(&vm).filter(|guest| !guest.state.is_active());
            guest.map(|guest| guest.boot(world.volumes.as_deref())).is_some()
        };
        if began {
            self.emit(Some(vm), Happening::Started);
        }
    }

    /// Somebody takes the definition away with another tool. A guest that is on runs on without one.
    pub fn undefine_outside(&self, vm: VmId) {
        {
            let guests = &mut lock(&self.world).guests;
            if let Some(guest) = guests.get_mut(&vm) {
                guest.spec = None;
                if !guest.state.is_active() {
                    guests.remove(&vm);
                }
            }
        }
        self.emit(Some(vm), Happening::Definition);
    }

    /// Somebody edits the definition with another tool.
    pub fn edit_outside(&self, vm: VmId) {
        if let Some(guest) = lock(&self.world).guests.get_mut(&vm) {
            guest.edited = true;
        }
        self.emit(Some(vm), Happening::Definition);
    }

    /// Somebody changes the running guest with another tool.
    ///
    /// # Errors
    /// As [`Hypervisor::adjust`](crate::hypervisor::Hypervisor::adjust).
    pub fn adjust_outside(&self, vm: VmId, adjustment: &Adjustment) -> Result<(), HypervisorError> {
        let world = &mut *lock(&self.world);
        let guest = world.guests.get_mut(&vm).ok_or(HypervisorError::NoDomain(vm))?;
        guest.adjust(vm, adjustment, world.volumes.as_deref())
    }

    /// The guest is held still.
    pub fn pause(&self, vm: VmId, reason: PauseReason) {
        self.set(vm, DomainState::Paused(reason), Happening::Paused);
    }

    /// The guest does not hear its power button from now on.
    pub fn make_deaf(&self, vm: VmId) {
        if let Some(guest) = lock(&self.world).guests.get_mut(&vm) {
            guest.deaf = true;
        }
    }

    /// Whether the guest takes up nothing while it runs: everything waits for its next start.
    pub fn make_rigid(&self, vm: VmId, rigid: bool) {
        if let Some(guest) = lock(&self.world).guests.get_mut(&vm) {
            guest.rigid = rigid;
        }
    }

    /// How long a guest takes to shut down when asked.
    pub fn shutdown_takes(&self, time: Duration) {
        lock(&self.world).shutdown_takes = time;
    }

    /// Whether events get lost from now on.
    pub fn lose_events(&self, lose: bool) {
        lock(&self.world).loses_events = lose;
    }

    /// Whether an operation that changes something only claims to from now on.
    pub fn lie(&self, op: HypervisorOp, lie: bool) {
        let lies = &mut lock(&self.world).lies;
        if lie {
            lies.insert(op)
        } else {
            lies.remove(&op)
        };
    }

    /// The hypervisor's daemon goes away, or comes back. Guests run on; events are lost meanwhile.
    pub fn set_down(&self, down: bool) {
        lock(&self.world).down = down;
        if down {
            self.health.send_replace(Health::Down(Cause::new("injected: the daemon is away")));
        } else {
            self.health.send_replace(Health::Up);
            self.emit(None, Happening::Reconnected);
        }
    }

    /// The host loses power and comes back: every guest is off, and nobody knows why.
    pub fn reboot_host(&self) {
        {
            let mut world = lock(&self.world);
            for guest in world.guests.values_mut() {
                guest.go_off(OffReason::Unknown);
                guest.life += 1;
            }
            // A guest that ran without a definition leaves nothing behind.
            world.guests.retain(|_, guest| !guest.ours || guest.spec.is_some());
        }
        self.emit(None, Happening::Reconnected);
    }

    /// A domain that has a VM's name and UUID but belongs to somebody else. It runs.
    pub fn add_foreign(&self, vm: VmId) {
        lock(&self.world).guests.insert(vm, Guest::found(false));
    }

    /// A domain of ours that runs, made by nobody here.
    pub fn add_running(&self, vm: VmId) {
        lock(&self.world).guests.insert(vm, Guest::found(true));
    }
}

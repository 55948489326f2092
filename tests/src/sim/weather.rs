//! What goes wrong next. In: dice. Out: nodes that fall over and come back, wires cut and bad, hypervisors that fail, hang
//! and go away, guests that die, clocks that are off.

use super::{dice::Dice, fabric::Quality, host::Host, planted::Planted, world::World};
use anyhow::Result;
use std::time::Duration;
use waifud_model::ids::NodeId;
use waifud_node::{
    hypervisor::{PauseReason, fake::HypervisorOp},
    images::fake::ImageOp,
    net::fake::NetworkOp,
    volumes::fake::VolumeOp,
};

/// Beyond five minutes a leader has to step down; most clocks are better than that.
const FAR_OFF: i64 = 10 * 60 * 1000;

const CALLS: [HypervisorOp; 10] = [
    HypervisorOp::List,
    HypervisorOp::Find,
    HypervisorOp::Define,
    HypervisorOp::Start,
    HypervisorOp::Shutdown,
    HypervisorOp::ForceStop,
    HypervisorOp::Suspend,
    HypervisorOp::Resume,
    HypervisorOp::Adjust,
    HypervisorOp::Undefine,
];

const DISKS: [VolumeOp; 9] = [
    VolumeOp::Disks,
    VolumeOp::Find,
    VolumeOp::FindData,
    VolumeOp::Ensure,
    VolumeOp::EnsureData,
    VolumeOp::RemoveOldLives,
    VolumeOp::RemoveData,
    VolumeOp::Remove,
    VolumeOp::List,
];

impl World {
    /// Something happens.
    pub(crate) async fn strike(&mut self) -> Result<()> {
        let mut dice = self.dice.fork();
        let hosts = self.hosts.clone();
        let Some(host) = dice.pick(&hosts) else { return Ok(()) };
        let others: Vec<&Host> = hosts.iter().filter(|other| other.id != host.id).collect();
        let Some(other) = dice.pick(&others) else { return Ok(()) };
        let down: Vec<&Host> = hosts.iter().filter(|host| !self.nodes.contains_key(&host.id)).collect();
        match dice.within(0..100) {
            // Mostly a node that is down comes back before the next one falls over: without a majority little happens.
            0..26 => {
                let back = dice.pick(&down).copied().filter(|_| dice.permille(750));
                self.turn(back.unwrap_or(host), dice.within(0..10)).await?;
            }
            26..32 => self.isolate(host.id),
            32..40 => {
                self.trace.line(format_args!("{} does not reach {}", host.name, other.name));
                self.fabric.cut(host.id, other.id);
            }
            40..58 => {
                self.trace.line(format_args!("the wires are whole"));
                self.fabric.join();
            }
            58..66 => {
                let bad = Quality {
                    loss: [0, 50, 200][usize::try_from(dice.within(0..3))?],
                    twice: dice.within(0..100),
                    late: dice.within(0..50),
                    micros: [1_000, 5_000, 40_000][usize::try_from(dice.within(0..3))?],
                };
                self.trace.line(format_args!("the network becomes {bad:?}"));
                self.fabric.set_quality(bad);
            }
            66..70 => {
                let off = if dice.permille(200) { FAR_OFF } else { i64::try_from(dice.within(0..120_000))? - 60_000 };
                self.trace.line(format_args!("the clock of {} is {off} ms off", host.name));
                host.clock.set_off(off);
            }
            70..74 => {
                if let Some(node) = self.nodes.get(&host.id) {
                    self.trace.line(format_args!("{} builds a snapshot", host.name));
                    // One that has stopped builds none.
                    let _ = node.handle.snapshot_now().await;
                }
            }
            74..84 => self.guest(host, dice.number(), dice.within(0..10)),
            _ => self.trouble(host, &mut dice)?,
        }
        Ok(())
    }

    async fn turn(&mut self, host: &Host, how: u64) -> Result<()> {
        let Some(node) = self.nodes.remove(&host.id) else {
            if self.planted == Some(Planted::LostDisk) {
                std::fs::remove_dir_all(&host.dir)?;
            }
            self.fabric.corrupt(self.planted, host.id);
            return self.start(host).await;
        };
        self.tally.crashes += 1;
        match how {
            0..2 => {
                self.trace.line(format_args!("{} shuts down", host.name));
                node.shut_down(host, &self.fabric, &self.gossip).await;
            }
            2..4 => {
                self.trace.line(format_args!("{} loses power", host.name));
                node.crash(host, &self.fabric, &self.gossip).await;
                host.hypervisor.reboot_host();
            }
            _ => {
                self.trace.line(format_args!("{} falls over", host.name));
                node.crash(host, &self.fabric, &self.gossip).await;
            }
        }
        Ok(())
    }

    fn isolate(&self, node: NodeId) {
        self.trace.line(format_args!("node {node} is cut off"));
        for host in &self.hosts {
            self.fabric.cut(node, host.id);
            self.fabric.cut(host.id, node);
        }
    }

    /// Something happens to a guest.
    fn guest(&self, host: &Host, which: u64, what: u64) {
        let active = host.hypervisor.active();
        let Some(vm) = usize::try_from(which).ok().and_then(|which| active.get(which % active.len().max(1))) else {
            return;
        };
        self.trace.line(format_args!("guest {vm} on {}: {what}", host.name));
        match what {
            0 | 1 => host.hypervisor.crash(*vm),
            2 | 3 => host.hypervisor.power_off_inside(*vm),
            4 => host.hypervisor.destroy_outside(*vm),
            5 => host.hypervisor.pause(*vm, PauseReason::Asked),
            6 => host.hypervisor.pause(*vm, PauseReason::DiskError),
            7 => host.hypervisor.edit_outside(*vm),
            8 => host.hypervisor.make_rigid(*vm, true),
            _ => host.hypervisor.make_deaf(*vm),
        }
    }

    /// Something goes wrong on a host that runs.
    fn trouble(&self, host: &Host, dice: &mut Dice) -> Result<()> {
        let (what, times) = (dice.within(0..14), u32::try_from(dice.within(1..5))?);
        let (Some(call), Some(disk)) = (dice.pick(&CALLS).copied(), dice.pick(&DISKS).copied()) else { return Ok(()) };
        self.trace.line(format_args!("trouble {what} on {}, {call:?} or {disk:?}, {times} times", host.name));
        match what {
            0 | 1 => host.hypervisor.faults.fail(call, times),
            2 => host.hypervisor.faults.hang(call),
            3 => host.hypervisor.faults.delay(call, Duration::from_millis(u64::from(times) * 300)),
            4 => host.hypervisor.set_down(true),
            5 => host.hypervisor.lose_events(true),
            6..10 => host.volumes.faults.fail(disk, times),
            10 => host.images.faults.fail(ImageOp::Fetch, times),
            11 => host.network.faults.fail(NetworkOp::Reserve, times),
            12 => host.network.faults.fail(NetworkOp::Release, times),
            _ => mend(host),
        }
        Ok(())
    }
}

/// Everything on a host works again. Guests that hear no button stay so: their owner has to cope.
pub(crate) fn mend(host: &Host) {
    host.hypervisor.faults.heal();
    host.hypervisor.lose_events(false);
    host.hypervisor.set_down(false);
    host.volumes.faults.heal();
    host.images.faults.heal();
    host.network.faults.heal();
}

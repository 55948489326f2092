//! Each verb on a guest that runs, on one that is off, and with waifud restarted in the middle of it; and what other tools do
//! to our domains.

use super::{MINUTE, World};
use crate::{
    hypervisor::{Adjustment, DomainState, LiveCard, OffReason, PauseReason, fake::HypervisorOp},
    reconcile::{Hold, samples},
    volumes::{DataVolume, VolumeError, Volumes},
};
use std::time::Duration;
use tokio::time::Instant;
use waifud_model::{
    change::VmChange,
    event::EventKind,
    hardware::{DataDisk, Firmware},
    ids::{Generation, VmId},
    observed::VmState,
    size::ByteSize,
    vm::{Desired, ImageRef, RestartPolicy, Vm},
};

const CHANGES: [HypervisorOp; 5] =
    [HypervisorOp::Start, HypervisorOp::Shutdown, HypervisorOp::ForceStop, HypervisorOp::Suspend, HypervisorOp::Resume];

/// A guest that runs.
async fn running() -> (World, VmId) {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.told(vm, EventKind::Started, false).await;
    let _ = world.changes(vm);
    (world, vm)
}

/// What was done to a guest's power.
fn power(world: &World, vm: VmId) -> Vec<HypervisorOp> {
    world.changes(vm).into_iter().filter(|op| CHANGES.contains(op)).collect()
}

fn data(name: &str, slot: u8, gib: u64) -> DataDisk {
    DataDisk { name: name.parse().unwrap(), slot, size: ByteSize::gib(gib), born: Generation::FIRST }
}

async fn disks(world: &World, vm: VmId) -> Vec<String> {
    world.disks(vm).await.data.into_keys().map(|disk| disk.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_running_guest_takes_up_what_it_can() {
    let (world, vm) = running().await;
    world.change(vm, |vm| {
        (vm.spec.cpus, vm.spec.memory, vm.spec.disk) = (2, ByteSize::mib(512), ByteSize::gib(20));
        vm.spec.hardware.disks = vec![data("a", 0, 1)];
        vm.spec.hardware.cd = Some(ImageRef { template: "installer".parse().unwrap(), version: samples::cd().version });
        vm.spec.hardware.bridges = vec!["br0".parse().unwrap()];
    });
    world.seen(vm, VmState::Running, 2).await;
    let live = world.live(vm).await;
    assert_eq!((live.cpus.current, live.memory.current), (2, ByteSize::mib(512)));
    let sizes: Vec<_> = live.disks.iter().map(|disk| (disk.slot, disk.size)).collect();
    assert_eq!(sizes, [(None, ByteSize::gib(20)), (Some(0), ByteSize::gib(1))]);
    assert!(live.cd.is_some() && live.cards.len() == 1);
    assert_eq!((world.pending(vm), power(&world, vm)), (vec![], vec![HypervisorOp::Start]), "it is only noted");
    world.change(vm, |vm| vm.spec.hardware.bridges = vec!["br1".parse().unwrap()]);
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!(world.live(vm).await.cards, [LiveCard { bridge: "br1".to_owned(), ..live.cards[0].clone() }]);
    // And gives it back.
    world.change(vm, |vm| {
        vm.spec.hardware.disks.clear();
        vm.spec.hardware.cd = None;
        vm.spec.hardware.bridges.clear();
    });
    world.seen(vm, VmState::Running, 4).await;
    let live = world.live(vm).await;
    assert_eq!((live.disks.len(), live.cd, live.cards.len()), (1, None, 0));
    assert!(disks(&world, vm).await.is_empty(), "what was plugged out is removed");
}

#[tokio::test(start_paused = true)]
async fn what_a_guest_cannot_take_up_waits_for_its_next_start_and_says_why() {
    let (mut world, vm) = running().await;
    world.change(vm, |vm| {
        (vm.spec.cpus, vm.spec.memory) = (8, ByteSize::gib(2));
        vm.spec.hardware.firmware = Firmware::Uefi;
    });
    world.seen(vm, VmState::Running, 2).await;
    let waits = [
        "cpus: 1 → 8: the guest was started with room for 4 CPUs",
        "memory: 1 GiB → 2 GiB: the guest was started with room for 1 GiB",
        "firmware: bios → uefi: a guest's machine is chosen when it starts",
    ];
    assert_eq!(world.pending(vm), waits);
    assert_eq!(world.observation(vm).unwrap().waits.to_string(), "cmh");
    // It is seen again by who was not there.
    world.stop().await;
    world.begin();
    world.seen(vm, VmState::Running, 2).await;
    assert_eq!(world.pending(vm), waits);
    world.change(vm, |vm| vm.reboots = 1);
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!((world.pending(vm), world.live(vm).await.cpus.current), (vec![], 8));
    assert_eq!(world.observation(vm).unwrap().waits.to_string(), "-");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_refuses_is_not_asked_again() {
    let (world, vm) = running().await;
    world.hypervisor.make_rigid(vm, true);
    world.change(vm, |vm| vm.spec.cpus = 2);
    world.seen(vm, VmState::Running, 2).await;
    assert_eq!(world.pending(vm), ["cpus: 1 → 2: injected: the guest takes up nothing"]);
    tokio::time::sleep(20 * MINUTE).await;
    let asked = world.changes(vm).into_iter().filter(|op| *op == HypervisorOp::Adjust).count();
    assert_eq!(asked, 1);
    assert_eq!(world.reconciler().status(vm).unwrap().trouble, None, "it is no failure");
    // Another wish is another try.
    world.hypervisor.make_rigid(vm, false);
    world.change(vm, |vm| vm.spec.cpus = 3);
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!(world.live(vm).await.cpus.current, 3);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_off_has_it_all_when_it_starts() {
    let (world, vm) = running().await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 2).await;
    world.change(vm, |vm| {
        (vm.spec.cpus, vm.spec.disk) = (8, ByteSize::gib(30));
        vm.spec.hardware.disks = vec![data("a", 0, 1)];
    });
    world.seen(vm, VmState::Stopped, 3).await;
    assert_eq!(disks(&world, vm).await, ["a"]);
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Running, 4).await;
    let live = world.live(vm).await;
    assert_eq!((live.cpus.current, live.disks.len(), live.disks[0].size), (8, 2, ByteSize::gib(30)));
    assert_eq!(world.pending(vm), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_done_once_however_often_waifud_restarts() {
    let (mut world, vm) = running().await;
    world.change(vm, |vm| vm.reboots = 1);
    world.seen(vm, VmState::Stopping, 2).await;
    for _ in 0..3 {
        world.stop().await;
        world.begin();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    world.seen(vm, VmState::Running, 2).await;
    for _ in 0..3 {
        world.stop().await;
        world.begin();
        world.seen(vm, VmState::Running, 2).await;
        tokio::time::sleep(MINUTE).await;
    }
    let starts = power(&world, vm).into_iter().filter(|op| *op == HypervisorOp::Start).count();
    assert_eq!(starts, 1);
    assert_eq!(world.count(vm, EventKind::Crashed).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reboot_takes_power_away_when_its_time_is_up() {
    let (world, vm) = running().await;
    world.hypervisor.make_deaf(vm);
    world.change(vm, |vm| (vm.reboots, vm.grace) = (1, Some(5)));
    let asked = Instant::now();
    world.seen(vm, VmState::Running, 2).await;
    assert_eq!(asked.elapsed().as_secs(), 5);
    assert_eq!(power(&world, vm), [HypervisorOp::Shutdown, HypervisorOp::ForceStop, HypervisorOp::Start]);
    // At once, and no crash of its own.
    world.change(vm, |vm| (vm.reboots, vm.grace) = (2, Some(0)));
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!(power(&world, vm), [HypervisorOp::ForceStop, HypervisorOp::Start]);
    assert_eq!(world.count(vm, EventKind::Crashed).await, 0);
    assert_eq!(world.count(vm, EventKind::Stopped).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_stop_has_the_time_it_was_given() {
    let (world, vm) = running().await;
    world.hypervisor.make_deaf(vm);
    world.change(vm, |vm| (vm.desired, vm.grace) = (Desired::Stopped, Some(300)));
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Running));
    // Whoever asks again may be in a greater hurry.
    world.change(vm, |vm| vm.grace = Some(0));
    world.seen(vm, VmState::Stopped, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_held_still_and_goes_on_whatever_becomes_of_waifud() {
    let (mut world, vm) = running().await;
    world.set_power(vm, Desired::Paused);
    world.seen(vm, VmState::Paused, 2).await;
    world.stop().await;
    world.begin();
    world.seen(vm, VmState::Paused, 2).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(power(&world, vm), [HypervisorOp::Suspend, HypervisorOp::Start], "noted, and let alone");
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Running, 3).await;
    // The host was off: it is there again, and held still.
    world.set_power(vm, Desired::Paused);
    world.seen(vm, VmState::Paused, 4).await;
    world.hypervisor.reboot_host();
    world
        .until("it is there again", || world.hypervisor.state(vm) == Some(DomainState::Paused(PauseReason::Asked)))
        .await;
    // A guest that is held still hears its power button when it goes on.
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 5).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_disk_is_full_is_let_go_on_now_and_then() {
    let (world, vm) = running().await;
    // At once, for it may be over; then now and then.
    world.hypervisor.pause(vm, PauseReason::DiskError);
    world.until("it is let go on", || power(&world, vm) == [HypervisorOp::Resume]).await;
    for _ in 0..3 {
        world.hypervisor.pause(vm, PauseReason::DiskError);
        world.seen(vm, VmState::Paused, 1).await;
        let held = Instant::now();
        assert!(matches!(world.reconciler().status(vm).unwrap().hold, Some(Hold::DiskError(_))));
        world.seen(vm, VmState::Running, 1).await;
        assert!((29..=30).contains(&held.elapsed().as_secs()), "{:?}", held.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_made_anew_has_a_fresh_root_disk_and_its_data() {
    let (mut world, vm) = running().await;
    world.change(vm, |vm| vm.spec.hardware.disks = vec![data("a", 0, 1)]);
    world.seen(vm, VmState::Running, 2).await;
    // A crash at any step: the volumes cannot make the new disk, then waifud goes.
    world.volumes.faults.fail(crate::volumes::fake::VolumeOp::Ensure, 1);
    world.change(vm, |vm| (vm.disk_life, vm.instance) = (2, 2));
    world.until("it fails", || world.reconciler().status(vm).is_some_and(|s| s.trouble.is_some())).await;
    world.stop().await;
    world.begin();
    world.seen(vm, VmState::Running, 3).await;
    world.until_async("the old disk goes", async || world.disks(vm).await.roots.into_keys().eq([2])).await;
    assert_eq!(disks(&world, vm).await, ["a"]);
    assert_eq!(world.live(vm).await.disks.len(), 2);
    // One that is off, too, and it stays off.
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 4).await;
    world.change(vm, |vm| vm.disk_life = 3);
    world.seen(vm, VmState::Stopped, 5).await;
    world.until_async("the old disk goes", async || world.disks(vm).await.roots.into_keys().eq([3])).await;
    assert!(!world.hypervisor.state(vm).unwrap().is_active());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_goes_from_one_disk_to_another_gives_nothing_away() -> Result<(), VolumeError> {
    let (world, vm) = running().await;
    world.change(vm, |vm| vm.spec.hardware.disks = vec![data("a", 0, 2)]);
    world.seen(vm, VmState::Running, 2).await;
    world.change(vm, |vm| vm.spec.hardware.disks = vec![data("b", 0, 1)]);
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!(disks(&world, vm).await, ["b"]);
    let live = world.live(vm).await;
    let b = world.volumes.find_data(vm, &(&data("b", 0, 1)).into()).await?.unwrap();
    assert_eq!((&live.disks[1].path, live.disks[1].size), (&b.path, ByteSize::gib(1)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_was_removed_and_added_while_its_owner_was_away_is_empty() -> Result<(), VolumeError> {
    for runs in [true, false] {
        let (mut world, vm) = running().await;
        world.change(vm, |vm| vm.spec.hardware.disks = vec![data("a", 0, 2)]);
        world.seen(vm, VmState::Running, 2).await;
        if !runs {
            world.set_power(vm, Desired::Stopped);
            world.seen(vm, VmState::Stopped, 3).await;
        }
        world.stop().await;
        let before = world.record(vm).unwrap();
        let patch = |size| VmChange { disks: [("a".parse().unwrap(), size)].into(), ..VmChange::default() };
        for size in [None, Some(ByteSize::gib(1))] {
            world.change(vm, |vm| vm.spec = patch(size).applied(vm).unwrap());
        }
        let after = world.record(vm).unwrap();
        let [old, new] = [before, after.clone()].map(|vm| DataVolume::from(&vm.spec.hardware.disks[0]));
        assert_eq!((old.slot, &old.name), (new.slot, &new.name));
        world.begin();
        let state = if runs { VmState::Running } else { VmState::Stopped };
        world.seen(vm, state, after.generation.0).await;
        assert!(world.disks(vm).await.data.keys().eq([&new]), "the old one is gone");
        world.set_power(vm, Desired::Running);
        world.seen(vm, VmState::Running, after.generation.0 + 1).await;
        let live = world.live(vm).await;
        let path = world.volumes.find_data(vm, &new).await?.unwrap().path;
        assert_eq!((&live.disks[1].path, live.disks[1].size), (&path, ByteSize::gib(1)));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_vanishes_is_missed_and_not_made_again() -> Result<(), VolumeError> {
    let (world, vm) = running().await;
    world.change(vm, |vm| vm.spec.hardware.disks = vec![data("a", 0, 2)]);
    world.seen(vm, VmState::Running, 2).await;
    let disk = DataVolume::from(&data("a", 0, 2));
    let path = world.volumes.find_data(vm, &disk).await?.unwrap().path;
    let missed = || match world.reconciler().status(vm).and_then(|status| status.hold) {
        Some(Hold::DiskMissing(name, at)) => name == disk.name && at == path,
        _ => false,
    };
    world.volumes.remove_data(vm, &disk).await?;
    world.until("it is missed", missed).await;
    // The guest still has it open, and keeps it whatever is asked: an end of it would be an end of that.
    world.change(vm, |vm| vm.reboots = 1);
    tokio::time::sleep(10 * MINUTE).await;
    assert!(missed() && world.live(vm).await.disks[1].path == path);
    assert_eq!(power(&world, vm), [HypervisorOp::Start], "noted for the disk's coming");
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Failed, 4).await;
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Failed, 5).await;
    assert!(missed() && world.disks(vm).await.data.is_empty());
    // It is put back.
    world.volumes.ensure_data(vm, &disk, ByteSize::gib(2)).await?;
    world.seen(vm, VmState::Running, 5).await;
    // Or given up.
    world.volumes.remove_data(vm, &disk).await?;
    world.until("it is missed", missed).await;
    world.change(vm, |vm| vm.spec.hardware.disks = vec![DataDisk { born: Generation(6), ..data("a", 0, 2) }]);
    world.seen(vm, VmState::Running, 6).await;
    assert_ne!(world.live(vm).await.disks[1].path, path);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_vm_without_autostart_stays_off_when_its_host_was_off() {
    for restart in [RestartPolicy::OnFailure, RestartPolicy::Always, RestartPolicy::Never] {
        let mut world = World::start();
        let vm = world.add_with(1, |vm| (vm.spec.autostart, vm.spec.restart) = (false, restart));
        world.seen(vm, VmState::Running, 1).await;
        world.stop().await;
        world.hypervisor.reboot_host();
        world.begin();
        world.seen(vm, VmState::Stopped, 2).await;
        assert_eq!(world.record(vm).unwrap().desired, Desired::Stopped);
        world.set_power(vm, Desired::Running);
        world.seen(vm, VmState::Running, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_other_tools_do_to_our_domains_is_mended() {
    type Deed = (&'static str, fn(&World, VmId));
    let deeds: [Deed; 6] = [
        ("suspends it", |world, vm| world.hypervisor.pause(vm, PauseReason::Asked)),
        ("destroys it", |world, vm| world.hypervisor.destroy_outside(vm)),
        ("edits it", |world, vm| world.hypervisor.edit_outside(vm)),
        ("undefines it", |world, vm| world.hypervisor.undefine_outside(vm)),
        ("takes a CPU away", |world, vm| world.hypervisor.adjust_outside(vm, &Adjustment::Cpus(1)).unwrap()),
        ("takes memory away", |world, vm| {
            world.hypervisor.adjust_outside(vm, &Adjustment::Memory(ByteSize::mib(64))).unwrap();
        }),
    ];
    for (what, deed) in deeds {
        let world = World::start();
        let vm = world.add_with(1, |vm| vm.spec.cpus = 2);
        world.seen(vm, VmState::Running, 1).await;
        deed(&world, vm);
        let is_well = async || {
            let domain = crate::hypervisor::Hypervisor::find(&*world.hypervisor, vm).await.unwrap();
            domain.is_some_and(|domain| {
                let live = domain.live.as_ref();
                domain.state == DomainState::Running
                    && domain.defined.is_some()
                    && !domain.edited
                    && live.is_some_and(|l| l.cpus.current == 2 && l.memory.current == ByteSize::gib(1))
            })
        };
        world.until_async(what, is_well).await;
        world.seen(vm, VmState::Running, 1).await;
        assert_eq!(world.pending(vm), Vec::<String>::new(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_another_tool_starts_is_stopped_again() {
    let (world, vm) = running().await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 2).await;
    world.hypervisor.start_outside(vm);
    world.seen(vm, VmState::Stopping, 2).await;
    world.seen(vm, VmState::Stopped, 2).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_another_tool_saves_is_let_be() {
    let (world, vm) = running().await;
    world.hypervisor.pause(vm, PauseReason::Busy);
    world.seen(vm, VmState::Paused, 1).await;
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!(power(&world, vm), []);
    assert_eq!(world.reconciler().status(vm).unwrap().hold, Some(Hold::Busy));
}

#[tokio::test(start_paused = true)]
async fn a_new_name_changes_nothing_for_the_guest() {
    let (world, vm) = running().await;
    world.change(vm, |vm: &mut Vm| vm.name = "web-9".parse().unwrap());
    world.seen(vm, VmState::Running, 2).await;
    assert_eq!(world.hypervisor.spec(vm).unwrap().title.as_str(), "web-9");
    assert_eq!(world.changes(vm), [HypervisorOp::Define, HypervisorOp::Start]);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_is_told() {
    let world = World::start();
    world.volumes.faults.hang(crate::volumes::fake::VolumeOp::Ensure);
    let vm = world.add(1);
    world.seen(vm, VmState::Failed, 1).await;
    let trouble = world.reconciler().status(vm).unwrap().trouble.unwrap();
    assert_eq!(trouble.error, "it was not done within 120 s, and is given up for now; does the node's disk answer?");
    world.volumes.faults.release(crate::volumes::fake::VolumeOp::Ensure);
    world.seen(vm, VmState::Running, 1).await;
}

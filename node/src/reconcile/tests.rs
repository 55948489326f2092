//! The whole of reconcile against the fakes, on paused time: minutes pass in no time, and the same script always gives the
//! same run.

mod cluster;
mod faults;
mod real;
mod taps;
mod verbs;
mod world;

use super::{Fate, Hold, Patience, Step};
use crate::{
    hypervisor::{DomainState, Hypervisor as _, OffReason, fake::HypervisorOp},
    images::{ImageStore, fake::ImageOp},
    volumes::Volumes,
};
use std::time::Duration;
use tokio::time::Instant;
use waifud_model::{
    event::EventKind,
    ids::Generation,
    observed::VmState,
    vm::{Desired, Phase, RestartPolicy},
};
use world::World;

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn a_new_vm_is_made_and_runs() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    assert_eq!(world.states(vm), [VmState::Pending, VmState::Fetching, VmState::Preparing, VmState::Running]);
    assert_eq!(world.changes(vm), [HypervisorOp::Define, HypervisorOp::Start]);
    let spec = world.hypervisor.spec(vm).unwrap();
    assert_eq!((spec.title.as_str(), spec.nic.mtu), ("web-1", 1420));
    assert_eq!(world.reserved().await, 1);
    assert!(world.images.present(super::samples::image().version).await);
    world.told(vm, EventKind::Started, false).await;
    let status = world.reconciler().status(vm).unwrap();
    assert_eq!((status.doing, status.hold, status.trouble), (None, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_crashes_is_started_again_ever_later() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    for wait in [1, 2, 4, 8] {
        world.hypervisor.crash(vm);
        let died = Instant::now();
        world.seen(vm, VmState::Crashed, 1).await;
        assert!(matches!(world.reconciler().status(vm).unwrap().hold, Some(Hold::Restart(_))));
        world.seen(vm, VmState::Running, 1).await;
        assert_eq!(died.elapsed().as_secs(), wait);
    }
    assert_eq!(world.reconciler().status(vm).unwrap().restarts, 4);
    // It ran well for long enough: the next crash is a first one.
    tokio::time::sleep(11 * MINUTE).await;
    world.hypervisor.crash(vm);
    let died = Instant::now();
    world.seen(vm, VmState::Crashed, 1).await;
    world.seen(vm, VmState::Running, 1).await;
    assert_eq!(died.elapsed().as_secs(), 1);
    assert_eq!(world.count(vm, EventKind::Crashed).await, 5);
}

/// cloud-init tells it once in a life of the VM, and neither a start nor one of waifud begins a new life.
#[tokio::test(start_paused = true)]
async fn that_cloud_init_is_done_is_known_for_as_long_as_the_life_lasts() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    let done = |world: &World| world.observation(vm).is_some_and(|seen| seen.cloud_init_done);
    assert!(!done(&world));
    world.hypervisor.note_cloud_init(vm, 1).await.unwrap();
    world.until("it is shown", || done(&world)).await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 2).await;
    assert!(done(&world));
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Running, 3).await;
    world.stop().await;
    world.begin();
    world.seen(vm, VmState::Running, 3).await;
    assert!(done(&world));
    world.change(vm, |vm| vm.instance += 1);
    world.seen(vm, VmState::Running, 4).await;
    assert!(!done(&world), "it has yet to run again");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_never_restarts_stays_down() {
    let world = World::start();
    let vm = world.add_with(1, |vm| vm.spec.restart = RestartPolicy::Never);
    world.seen(vm, VmState::Running, 1).await;
    world.hypervisor.crash(vm);
    world.seen(vm, VmState::Crashed, 1).await;
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::Crashed)));
    assert_eq!(world.count(vm, EventKind::Crashed).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_shut_down_from_inside_is_taken_at_its_word() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.hypervisor.power_off_inside(vm);
    world.told(vm, EventKind::Stopped, true).await;
    world.seen(vm, VmState::Stopped, 2).await;
    assert_eq!(world.record(vm).unwrap().desired, Desired::Stopped);
    // And it starts when it is asked to.
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Running, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_shut_down_from_inside_while_waifud_was_away_is_taken_at_its_word() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.stop().await;
    world.hypervisor.power_off_inside(vm);
    world.begin();
    world.seen(vm, VmState::Stopped, 2).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::ShutDown)));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_crashed_while_waifud_was_away_is_told_once_and_started() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.stop().await;
    world.hypervisor.crash(vm);
    world.begin();
    world.seen(vm, VmState::Running, 1).await;
    assert_eq!(world.count(vm, EventKind::Crashed).await, 1);
}

#[tokio::test(start_paused = true)]
async fn without_quorum_a_shutdown_from_inside_is_told_later() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.set_quorum(false);
    world.hypervisor.power_off_inside(vm);
    tokio::time::sleep(5 * MINUTE).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::ShutDown)));
    world.set_quorum(true);
    world.seen(vm, VmState::Stopped, 2).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_was_rebooted_starts_its_guests() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.stop().await;
    world.hypervisor.reboot_host();
    world.begin();
    world.seen(vm, VmState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_stops_when_asked() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopping, 2).await;
    world.seen(vm, VmState::Stopped, 2).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Off(OffReason::ShutDown)));
    world.told(vm, EventKind::Stopped, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_does_not_hear_loses_its_power_after_the_grace() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.hypervisor.make_deaf(vm);
    let _ = world.changes(vm);
    world.set_power(vm, Desired::Stopped);
    let asked = Instant::now();
    world.seen(vm, VmState::Stopped, 2).await;
    assert_eq!(asked.elapsed().as_secs(), Patience::default().grace.as_secs());
    let mut expected = vec![HypervisorOp::Shutdown; 6];
    expected.extend([HypervisorOp::ForceStop, HypervisorOp::Define]);
    assert_eq!(world.changes(vm), expected);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_wanted_again_while_it_goes_down_comes_back() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopping, 2).await;
    world.set_power(vm, Desired::Running);
    tokio::time::sleep(MINUTE).await;
    world.seen(vm, VmState::Running, 3).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Running));
    assert_eq!(world.record(vm).unwrap().desired, Desired::Running, "its going down was not taken for its own wish");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_vm_is_removed_to_the_last_trace_and_confirmed() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.change(vm, |vm| vm.phase = Phase::Deleting);
    world.gone(vm).await;
    assert_eq!(world.hypervisor.state(vm), None);
    assert!(world.volumes.list().await.unwrap().is_empty());
    assert_eq!(world.reserved().await, 0);
    world.until("its status goes", || world.reconciler().status(vm).is_none()).await;
    world.until("its observation goes", || world.observation(vm).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_vm_deleted_while_its_image_is_on_its_way_does_not_wait_for_it() {
    let world = World::start();
    world.images.faults.hang(ImageOp::Fetch);
    let vm = world.add(1);
    world.seen(vm, VmState::Fetching, 1).await;
    assert_eq!(world.reconciler().status(vm).unwrap().doing, Some(Step::EnsureImage));
    world.change(vm, |vm| vm.phase = Phase::Deleting);
    world.gone(vm).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_does_not_know_is_removed_only_when_that_is_sure() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.stop().await;
    // The replica does not know the VM; whether the cluster does cannot be told without quorum.
    world.forget(vm);
    world.set_quorum(false);
    world.begin();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Running));
    // The cluster knows it, elsewhere: not ours to remove.
    world.set_quorum(true);
    world.set_fate(vm, Fate::Elsewhere);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Running));
    world.set_fate(vm, Fate::Gone);
    world.until("it is removed", || world.hypervisor.state(vm).is_none()).await;
    assert!(world.volumes.list().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_holds_nothing_yet_removes_nothing() {
    let mut world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.stop().await;
    world.set_ready(false);
    world.set_fate(vm, Fate::Gone);
    let _ = world.changes(vm);
    world.begin();
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.changes(vm), []);
    world.set_ready(true);
    world.seen(vm, VmState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shown_and_tried_again_until_it_is_over() {
    let world = World::start();
    world.hypervisor.faults.fail(HypervisorOp::Start, 3);
    let began = Instant::now();
    let vm = world.add(1);
    world.seen(vm, VmState::Failed, 1).await;
    let trouble = world.reconciler().status(vm).unwrap().trouble.unwrap();
    assert_eq!((trouble.step, trouble.attempts), (Some(Step::Start), 1));
    assert_eq!(trouble.error, format!("the hypervisor could not start VM {vm}: injected fault in Start"));
    assert_eq!(trouble.next_try.since(trouble.since), Duration::from_secs(1));
    world.seen(vm, VmState::Running, 1).await;
    assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4);
    assert_eq!(world.reconciler().status(vm).unwrap().trouble, None);
    assert_eq!(world.count(vm, EventKind::Failed).await, 1, "one trouble is told once");
}

#[tokio::test(start_paused = true)]
async fn a_step_without_effect_is_an_error_and_no_busy_loop() {
    let world = World::start();
    world.hypervisor.lie(HypervisorOp::Start, true);
    let vm = world.add(1);
    world.seen(vm, VmState::Failed, 1).await;
    let trouble = world.reconciler().status(vm).unwrap().trouble.unwrap();
    assert_eq!(trouble.error, "nothing changed although it was done");
    tokio::time::sleep(MINUTE).await;
    let starts = world.changes(vm).into_iter().filter(|op| *op == HypervisorOp::Start).count();
    assert!((5..20).contains(&starts), "{starts} starts in a minute");
    assert_eq!(world.count(vm, EventKind::Started).await, 0);
    world.hypervisor.lie(HypervisorOp::Start, false);
    world.seen(vm, VmState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_is_silent_makes_states_unknown_never_gone() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.hypervisor.set_down(true);
    world.seen(vm, VmState::Unknown, 1).await;
    let _ = world.changes(vm);
    tokio::time::sleep(20 * MINUTE).await;
    assert_eq!(world.observation(vm).unwrap().state, VmState::Unknown);
    let back = Instant::now();
    world.hypervisor.set_down(false);
    world.seen(vm, VmState::Running, 1).await;
    assert!(back.elapsed() < Duration::from_secs(1), "its coming back is reason enough to look");
    assert_eq!(world.changes(vm), []);
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_hangs_holds_up_nobody_for_ever() {
    let world = World::start();
    world.hypervisor.faults.hang(HypervisorOp::Start);
    let vm = world.add(1);
    world.seen(vm, VmState::Unknown, 1).await;
    let trouble = world.reconciler().status(vm).unwrap().trouble.unwrap();
    assert_eq!(trouble.error, "the hypervisor did not answer within 25 s when asked to start");
    world.hypervisor.faults.release(HypervisorOp::Start);
    world.seen(vm, VmState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_hangs_holds_up_nobody() {
    let world = World::start();
    world.hypervisor.faults.hang(HypervisorOp::List);
    tokio::time::sleep(MINUTE).await;
    let began = Instant::now();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_restart_adopts_what_runs_without_touching_it() {
    let mut world = World::start();
    let vms = [world.add(1), world.add(2)];
    for vm in vms {
        world.seen(vm, VmState::Running, 1).await;
        world.told(vm, EventKind::Started, false).await;
    }
    world.stop().await;
    let _ = world.hypervisor.take_changes();
    world.begin();
    for vm in vms {
        world.seen(vm, VmState::Running, 1).await;
    }
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.hypervisor.take_changes(), []);
    assert_eq!(world.count(vms[0], EventKind::Started).await, 1, "what is adopted is not told as started");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_domain_is_not_touched() {
    let world = World::start();
    let foreign = super::samples::vm(7).id;
    world.hypervisor.add_foreign(foreign);
    world.set_fate(foreign, Fate::Gone);
    tokio::time::sleep(10 * MINUTE).await;
    assert_eq!(world.hypervisor.take_changes(), []);
    // Even if one of ours has the same id: it cannot be made, and says so.
    let vm = world.add(7);
    assert_eq!(vm, foreign);
    world.seen(vm, VmState::Failed, 1).await;
    let trouble = world.reconciler().status(vm).unwrap().trouble.unwrap();
    assert!(trouble.error.contains("does not belong to this cluster"), "{}", trouble.error);
    assert_eq!(world.hypervisor.state(vm), Some(DomainState::Running));
}

#[tokio::test(start_paused = true)]
async fn lost_events_are_made_good_by_the_next_listing() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.hypervisor.lose_events(true);
    world.hypervisor.crash(vm);
    let died = Instant::now();
    world.seen(vm, VmState::Crashed, 1).await;
    assert!(died.elapsed() <= Duration::from_secs(30));
    world.seen(vm, VmState::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_vanished_is_not_replaced_by_an_empty_one() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 2).await;
    world.volumes.remove(vm).await.unwrap();
    world.set_power(vm, Desired::Running);
    world.seen(vm, VmState::Failed, 3).await;
    let Some(Hold::RootMissing(Some(path))) = world.reconciler().status(vm).unwrap().hold else { panic!("it is told") };
    assert!(path.ends_with(format!("{vm}.qcow2")), "{path:?}");
    assert_eq!(world.volumes.find(vm, 1).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_stale_record_changes_nothing() {
    let world = World::start();
    let vm = world.add_with(1, |vm| vm.generation = Generation(5));
    world.seen(vm, VmState::Running, 5).await;
    let _ = world.changes(vm);
    world.change(vm, |vm| {
        vm.generation = Generation(3);
        vm.desired = Desired::Stopped;
    });
    world
        .until("it is held", || {
            matches!(world.reconciler().status(vm).unwrap().hold, Some(Hold::Behind { domain: Generation(5) }))
        })
        .await;
    assert_eq!(world.changes(vm), []);
}

#[tokio::test(start_paused = true)]
async fn many_vms_are_made_and_the_same_script_gives_the_same_run() {
    let run = async || {
        let world = World::start();
        world.hypervisor.faults.delay(HypervisorOp::Start, Duration::from_millis(305));
        let vms: Vec<_> = (1..=50).map(|seed| world.add(seed)).collect();
        world.hypervisor.faults.fail(HypervisorOp::Define, 7);
        for vm in vms {
            world.seen(vm, VmState::Running, 1).await;
        }
        (world.hypervisor.take_changes(), world.history())
    };
    assert_eq!(run().await, run().await);
}

/// As after a start without quorum, when a node waits for what it may have missed.
#[tokio::test(start_paused = true)]
async fn a_reading_that_had_to_wait_does_not_make_the_next_wish_wait() {
    let world = World::start();
    let vm = world.add(1);
    world.seen(vm, VmState::Running, 1).await;
    world.set_reading(Duration::from_secs(10));
    world.set_power(vm, Desired::Stopped);
    world.seen(vm, VmState::Stopped, 2).await;
    world.set_reading(Duration::ZERO);
    world.set_power(vm, Desired::Running);
    let asked = Instant::now();
    world.seen(vm, VmState::Running, 3).await;
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

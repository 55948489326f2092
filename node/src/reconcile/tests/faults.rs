//! Every verb with every fault at every step. Each scenario is run once to see which boundaries it passes: before and after
//! each call on the hypervisor, the volumes, the images, the network. Then it is run once for each boundary and each fault: the
//! daemon is killed there; or the call fails, does not answer, or finds no space, from then on, until it is mended.
//!
//! While the fault lasts the VM is as wanted all the same, or says what is wrong and when it is tried again. When it is over
//! all is as wanted, within [`MENDED_WITHIN`]. And whatever happens, nothing is destroyed that was not asked for.

use super::{
    World,
    taps::{Boundary, Fault, Place, Tap},
};
use crate::{
    hypervisor::{DomainState, PauseReason},
    reconcile::{Fate, Step, samples},
    volumes::Disks,
};
use expect_test::expect;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use waifud_model::{
    hardware::DataDisk,
    ids::{Generation, VmId},
    observed::VmState,
    size::ByteSize,
    vm::{Desired, ImageRef, Phase},
};

/// How long a fault lasts: long enough for every deadline to pass.
const LASTS: Duration = Duration::from_secs(150);
/// The longest pause between two tries is a minute, a call that hangs another 25 s, a guest may take a minute to go off.
const MENDED_WITHIN: Duration = Duration::from_mins(4);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(250);

/// A verb, and how it looks when it is done.
struct Scenario {
    name: &'static str,
    /// Is the VM there and running before it?
    made: bool,
    act: fn(&World, VmId),
    /// The state and the generation that it ends in; none: the VM is gone.
    ends: Option<(VmState, u64)>,
    /// What is left on the node: the lives of the root disk, and the names of further disks.
    left: (&'static [u32], &'static [&'static str]),
    /// How many CPUs the guest has then, if it is on.
    cpus: u32,
}

const MADE: Scenario = Scenario { name: "", made: true, act: |_, _| (), ends: None, left: (&[1], &["keep"]), cpus: 1 };

fn disk(name: &str, slot: u8) -> DataDisk {
    DataDisk { name: name.parse().unwrap(), slot, size: ByteSize::gib(1), born: Generation::FIRST }
}

fn scenarios() -> Vec<Scenario> {
    use VmState::{Paused, Running, Stopped};
    vec![
        Scenario { name: "create", made: false, ends: Some((Running, 1)), ..MADE },
        Scenario {
            name: "stop",
            act: |world, vm| world.set_power(vm, Desired::Stopped),
            ends: Some((Stopped, 2)),
            ..MADE
        },
        Scenario {
            name: "stop at once",
            act: |world, vm| world.change(vm, |vm| (vm.desired, vm.grace) = (Desired::Stopped, Some(0))),
            ends: Some((Stopped, 2)),
            ..MADE
        },
        Scenario {
            name: "reboot",
            act: |world, vm| world.change(vm, |vm| vm.reboots += 1),
            ends: Some((Running, 2)),
            ..MADE
        },
        Scenario {
            name: "resize",
            act: |world, vm| {
                world.change(vm, |vm| {
                    (vm.spec.cpus, vm.spec.memory, vm.spec.disk) = (2, ByteSize::mib(512), ByteSize::gib(20));
                });
            },
            ends: Some((Running, 2)),
            cpus: 2,
            ..MADE
        },
        Scenario {
            name: "add a disk, a CD, a card",
            act: |world, vm| {
                world.change(vm, |vm| {
                    let hardware = &mut vm.spec.hardware;
                    hardware.disks.push(disk("more", 1));
                    let version = samples::cd().version;
                    hardware.cd = Some(ImageRef { template: "installer".parse().unwrap(), version });
                    hardware.bridges = vec!["br0".parse().unwrap()];
                });
            },
            ends: Some((Running, 2)),
            left: (&[1], &["keep", "more"]),
            ..MADE
        },
        Scenario {
            name: "remove a disk",
            act: |world, vm| world.change(vm, |vm| vm.spec.hardware.disks.clear()),
            ends: Some((Running, 2)),
            left: (&[1], &[]),
            ..MADE
        },
        Scenario {
            name: "pause",
            act: |world, vm| world.set_power(vm, Desired::Paused),
            ends: Some((Paused, 2)),
            ..MADE
        },
        Scenario {
            name: "resume",
            act: |world, vm| {
                world.hypervisor.pause(vm, PauseReason::Asked);
                world.change(vm, |_| ());
            },
            ends: Some((Running, 2)),
            ..MADE
        },
        Scenario {
            name: "make anew",
            act: |world, vm| world.change(vm, |vm| (vm.disk_life, vm.instance) = (2, 2)),
            ends: Some((Running, 2)),
            left: (&[2], &["keep"]),
            ..MADE
        },
        Scenario {
            name: "rename",
            act: |world, vm| world.change(vm, |vm| vm.name = "web-9".parse().unwrap()),
            ends: Some((Running, 2)),
            ..MADE
        },
        Scenario {
            name: "delete",
            act: |world, vm| world.change(vm, |vm| vm.phase = Phase::Deleting),
            left: (&[], &[]),
            ..MADE
        },
        Scenario {
            name: "deleted elsewhere",
            act: |world, vm| {
                world.set_fate(vm, Fate::Gone);
                world.forget(vm);
            },
            left: (&[], &[]),
            ..MADE
        },
        Scenario {
            name: "shuts itself down",
            act: |world, vm| world.hypervisor.power_off_inside(vm),
            ends: Some((Stopped, 2)),
            ..MADE
        },
        Scenario { name: "dies", act: |world, vm| world.hypervisor.crash(vm), ends: Some((Running, 1)), ..MADE },
    ]
}

/// One run of a scenario.
struct Run<'a> {
    scenario: &'a Scenario,
    tap: Arc<Tap>,
    world: World,
    vm: VmId,
    foreign: VmId,
}

impl<'a> Run<'a> {
    /// Up to where the scenario begins.
    async fn start(scenario: &'a Scenario) -> Self {
        let tap = Tap::new();
        let world = World::start_tapped(&tap);
        let (vm, foreign) = (samples::vm(1).id, samples::vm(9).id);
        world.hypervisor.add_foreign(foreign);
        world.set_fate(foreign, Fate::Gone);
        let run = Self { scenario, tap, world, vm, foreign };
        if scenario.made {
            run.add();
            run.world.seen(vm, VmState::Running, 1).await;
            // Let everything come to rest, and all be told.
            tokio::time::sleep(Duration::from_secs(90)).await;
        }
        run
    }

    fn add(&self) {
        self.world.add_with(1, |vm| vm.spec.hardware.disks = vec![disk("keep", 0)]);
    }

    fn act(&self) {
        if self.scenario.made {
            (self.scenario.act)(&self.world, self.vm);
        } else {
            self.add();
        }
    }

    /// All is as wanted, and nothing more is done.
    async fn is_done(&self) -> bool {
        let (world, vm) = (&self.world, self.vm);
        let Disks { roots, data } = world.disks(vm).await;
        let names: Vec<_> = data.into_keys().map(|disk| disk.name.to_string()).collect();
        if !roots.keys().eq(self.scenario.left.0) || names != self.scenario.left.1 {
            return false;
        }
        let Some((state, generation)) = self.scenario.ends else {
            return world.record(vm).is_none() && world.hypervisor.state(vm).is_none() && world.reserved().await == 0;
        };
        let shown = world.observation(vm).map(|seen| (seen.state, seen.generation.0));
        let is_on = matches!(state, VmState::Running | VmState::Paused);
        let status = world.reconciler().status(vm);
        let is_well = status.is_some_and(|s| s.trouble.is_none() && s.doing.is_none() && s.pending.is_empty());
        if shown != Some((state, generation)) || world.hypervisor.active().contains(&vm) != is_on || !is_well {
            return false;
        }
        !is_on || world.live(vm).await.cpus.current == self.scenario.cpus
    }

    async fn done_within(&self, time: Duration) -> bool {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            if self.is_done().await {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// Tells what is wrong while the fault lasts.
    fn says_what_is_wrong(&self) -> bool {
        let Some(status) = self.world.reconciler().status(self.vm) else {
            // What is left of a VM that the cluster does not know has nobody to tell.
            return self.world.record(self.vm).is_none();
        };
        let waits = status.doing == Some(Step::EnsureImage) || status.doing == Some(Step::EnsureCd);
        waits || status.trouble.is_some_and(|trouble| !trouble.error.is_empty() && trouble.next_try >= trouble.since)
    }

    /// Nothing was destroyed that was not to be, whatever came in between.
    async fn check(&self, told: &str) {
        assert_eq!(self.world.hypervisor.state(self.foreign), Some(DomainState::Running), "{told}");
        let touched = self.world.hypervisor.take_changes().into_iter().filter(|(_, vm)| *vm == self.foreign).count();
        assert_eq!(touched, 0, "{told}: a domain of somebody else was touched");
        let destroys = |boundary: &Boundary| {
            matches!(boundary.call, "remove a disk" | "remove all disks" | "remove old root disks" | "undefine")
        };
        let allowed = self.scenario.ends.is_none() || matches!(self.scenario.name, "remove a disk" | "make anew");
        let destroyed: Vec<_> = self.tap.passed().into_iter().filter(destroys).collect();
        assert!(allowed || destroyed.is_empty(), "{told}: {destroyed:?}");
        assert!(self.world.hypervisor.active().len() <= 1, "{told}");
    }
}

/// The places in a scenario that meets no fault.
async fn places(scenario: &Scenario) -> Vec<Place> {
    let run = Run::start(scenario).await;
    run.tap.arm(None);
    run.act();
    assert!(
        run.done_within(Duration::from_mins(2)).await,
        "{}: {:#?}",
        scenario.name,
        run.world.reconciler().statuses()
    );
    let places = run.tap.places();
    run.check(scenario.name).await;
    places
}

async fn strike(scenario: &Scenario, at: Place, fault: Fault) {
    let mut run = Run::start(scenario).await;
    run.tap.arm(Some((at, fault)));
    run.act();
    let mut died = run.tap.halted.subscribe();
    let told = format!("{}, {at:?}, {fault:?}", scenario.name);
    if fault == Fault::Death {
        tokio::time::timeout(MENDED_WITHIN, died.wait_for(|died| *died)).await.expect("it is struck").unwrap();
        run.world.stop().await;
        run.tap.heal();
        run.world.begin();
        assert!(run.done_within(MENDED_WITHIN).await, "{told}: {:#?}", run.world.reconciler().statuses());
        run.check(&told).await;
        return;
    }
    tokio::time::sleep(LASTS).await;
    assert!(run.tap.struck().is_some(), "{told}: it is struck");
    assert!(
        run.says_what_is_wrong() || run.is_done().await,
        "{told}: nobody is told: {:#?}",
        run.world.reconciler().statuses()
    );
    run.tap.heal();
    assert!(run.done_within(MENDED_WITHIN).await, "{told}: {:#?}", run.world.reconciler().statuses());
    run.check(&told).await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_step_of_every_verb() {
    let mut struck = BTreeSet::new();
    for scenario in scenarios() {
        for at in places(&scenario).await {
            for fault in Fault::ALL {
                strike(&scenario, at, fault).await;
            }
            struck.insert(at.0.call);
        }
    }
    // Found by running; here so that it is seen when a call is not reached any more.
    expect![[r#"
        {
            "adjust",
            "ask the agent of",
            "define",
            "fetch an image",
            "find",
            "find a disk",
            "find a root disk",
            "force off",
            "list",
            "list all disks",
            "list disks",
            "list reservations",
            "make a disk",
            "make a root disk",
            "release an address",
            "remove a disk",
            "remove all disks",
            "remove old root disks",
            "reserve an address",
            "resume",
            "see who was met",
            "shut down",
            "start",
            "suspend",
            "undefine",
        }
    "#]]
    .assert_debug_eq(&struck);
}

/// The harness sees a daemon that destroys what it was not asked to.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "remove all disks")]
async fn a_mistake_would_be_seen() {
    let stop = scenarios().into_iter().find(|scenario| scenario.name == "stop").unwrap();
    let run = Run::start(&stop).await;
    run.tap.arm(None);
    run.world.set_fate(run.vm, Fate::Gone);
    run.world.forget(run.vm);
    run.world.until("it is removed", || run.world.hypervisor.state(run.vm).is_none()).await;
    run.check("a VM that was forgotten").await;
}

//! Tests of the plan: what is wanted and what is there, to the steps between.

use super::*;
use crate::{
    hypervisor::{Boot, Cpus, Live, LiveDisk, Memory, PauseReason},
    reconcile::{samples, shape},
};
use expect_test::{Expect, expect};
use std::{fmt::Write as _, net::Ipv4Addr};
use waifud_model::{
    cloud_init::Datasource,
    hardware::{DataDisk, Firmware},
    size::ByteSize,
    vm::RestartPolicy,
};

fn calm() -> Recent {
    Recent::default()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn vm(generation: u64, desired: Desired) -> Vm {
    Vm { generation: Generation(generation), desired, ..samples::vm(1) }
}

fn deleting(generation: u64) -> Vm {
    Vm { phase: Phase::Deleting, ..vm(generation, Desired::Running) }
}

fn policy(restart: RestartPolicy) -> Vm {
    let mut vm = vm(2, Desired::Running);
    vm.spec.restart = restart;
    vm
}

/// Everything is here, and the domain is so.
fn all(state: DomainState, defined: u64, started: Option<u64>) -> Observed {
    let domain = Domain {
        vm: samples::vm(1).id,
        state,
        defined: Some(Generation(defined)),
        started: started.map(Generation),
        since: None,
        ip: Ipv4Addr::LOCALHOST,
        booted: Boot::default(),
        cloud_init_done: None,
        edited: false,
        disks: Vec::new(),
        live: None,
    };
    let roots = [1].into();
    Observed { domain: Some(domain), roots, image: true, reserved: true, ..Observed::default() }
}

fn show(plan: &Plan) -> String {
    let mut text = plan.state.to_string();
    for step in &plan.steps {
        write!(text, " {step:?}").unwrap();
    }
    if let Some(hold) = &plan.hold {
        write!(text, " ({hold:?})").unwrap();
    }
    for Pending { field, now, wanted, why, .. } in &plan.pending {
        write!(text, "\n    {field}: {now} → {wanted}: {why}").unwrap();
    }
    text
}

/// A line for each situation: its name, and the plan.
fn check(situations: &[(&str, Option<&Vm>, Observed, Recent)], expected: Expect) {
    let mut text = String::new();
    for (name, wanted, seen, recent) in situations {
        let plan = plan(*wanted, seen, recent, &Patience::default());
        writeln!(text, "{name}: {}", show(&plan)).unwrap();
    }
    expected.assert_eq(&text);
}

use DomainState::{Off, Paused, Running, ShuttingDown};
use OffReason::{Crashed, Destroyed, Failed, Migrated, Saved, ShutDown, Unknown};

#[test]
fn a_guest_that_shall_run() {
    let run = vm(2, Desired::Running);
    let run = Some(&run);
    check(
        &[
            ("nothing is here", run, Observed::default(), calm()),
            ("the image is here", run, Observed { image: true, ..Observed::default() }, calm()),
            (
                "a disk is left from before",
                run,
                Observed { image: true, roots: [1].into(), ..Observed::default() },
                calm(),
            ),
            ("defined", run, all(Off(Unknown), 2, None), calm()),
            ("runs", run, all(Running, 2, Some(2)), calm()),
            (
                "runs, its address is not reserved",
                run,
                Observed { reserved: false, ..all(Running, 2, Some(2)) },
                calm(),
            ),
            ("runs, the image is gone", run, Observed { image: false, ..all(Running, 2, Some(2)) }, calm()),
            ("runs on an older definition", run, all(Running, 1, Some(1)), calm()),
            ("runs, not noted", run, all(Running, 2, Some(1)), calm()),
            ("runs, somebody undefined it", run, undefined(Running), calm()),
            ("runs, the record is stale", run, all(Running, 3, Some(3)), calm()),
            ("paused", run, all(Paused(PauseReason::DiskError), 2, Some(2)), calm()),
            ("going down", run, all(ShuttingDown, 2, Some(2)), calm()),
            ("was off, is wanted again", run, all(Off(ShutDown), 1, Some(1)), calm()),
            ("the host was rebooted", run, all(Off(Unknown), 2, Some(2)), calm()),
            ("its memory was saved", run, all(Off(Saved), 2, Some(2)), calm()),
            ("moved by hand", run, all(Off(Migrated), 2, Some(2)), calm()),
            ("its disk is not here", run, Observed { roots: BTreeSet::new(), ..all(Off(Unknown), 2, Some(1)) }, calm()),
        ],
        expect![[r#"
            nothing is here: fetching EnsureImage EnsureRoot ReserveAddress DefineDomain Start
            the image is here: preparing EnsureRoot ReserveAddress DefineDomain Start
            a disk is left from before: preparing EnsureRoot ReserveAddress DefineDomain Start
            defined: preparing EnsureRoot DefineDomain Start
            runs: running
            runs, its address is not reserved: running ReserveAddress
            runs, the image is gone: running
            runs on an older definition: running DefineDomain Start
            runs, not noted: running Start
            runs, somebody undefined it: running DefineDomain
            runs, the record is stale: running (Behind { domain: Generation(3) })
            paused: paused Resume
            going down: stopping
            was off, is wanted again: preparing EnsureRoot DefineDomain Start
            the host was rebooted: preparing EnsureRoot DefineDomain Start
            its memory was saved: preparing EnsureRoot DefineDomain Start
            moved by hand: failed (MovedAway)
            its disk is not here: failed (RootMissing(None))
        "#]],
    );
}

fn undefined(state: DomainState) -> Observed {
    let mut seen = all(state, 2, Some(2));
    if let Some(domain) = &mut seen.domain {
        domain.defined = None;
    }
    seen
}

#[test]
fn a_guest_that_stopped_by_itself() {
    let (on_failure, always, never) =
        (policy(RestartPolicy::OnFailure), policy(RestartPolicy::Always), policy(RestartPolicy::Never));
    let (on_failure, always, never) = (Some(&on_failure), Some(&always), Some(&never));
    let soon = Recent { restart_in: secs(4), ..calm() };
    let told = Recent { told_stopped: Some(Generation(2)), ..calm() };
    let off = |reason| all(Off(reason), 2, Some(2));
    check(
        &[
            ("shut down from inside", on_failure, off(ShutDown), calm()),
            ("shut down from inside, told", on_failure, off(ShutDown), told.clone()),
            ("shut down from inside, never", never, off(ShutDown), calm()),
            ("shut down from inside, always", always, off(ShutDown), calm()),
            ("shut down from inside, always, backing off", always, off(ShutDown), soon.clone()),
            ("crashed", on_failure, off(Crashed), calm()),
            ("crashed, backing off", on_failure, off(Crashed), soon.clone()),
            ("crashed, never", never, off(Crashed), calm()),
            ("killed from outside", on_failure, off(Destroyed), calm()),
            ("could not start", on_failure, off(Failed), soon.clone()),
        ],
        expect![[r#"
            shut down from inside: stopped ReportShutDown
            shut down from inside, told: stopped (Reported)
            shut down from inside, never: stopped ReportShutDown
            shut down from inside, always: preparing EnsureRoot DefineDomain Start
            shut down from inside, always, backing off: crashed (Restart(4s))
            crashed: preparing EnsureRoot DefineDomain Start
            crashed, backing off: crashed (Restart(4s))
            crashed, never: crashed
            killed from outside: preparing EnsureRoot DefineDomain Start
            could not start: crashed (Restart(4s))
        "#]],
    );
}

#[test]
fn a_guest_that_shall_be_off() {
    let stop = vm(2, Desired::Stopped);
    let stop = Some(&stop);
    let asked = |first, last| Recent { asked: Some((secs(first), secs(last))), ..calm() };
    let running = all(Running, 1, Some(1));
    check(
        &[
            ("was never made", stop, Observed::default(), calm()),
            ("runs", stop, running.clone(), calm()),
            ("asked just now", stop, running.clone(), asked(1, 1)),
            ("asked, did not hear", stop, running.clone(), asked(10, 10)),
            ("asked often, the grace is nearly over", stop, running.clone(), asked(57, 7)),
            ("does not want to hear", stop, running, asked(60, 5)),
            ("paused, the grace is over", stop, all(Paused(PauseReason::Asked), 1, Some(1)), asked(60, 0)),
            ("going down", stop, all(ShuttingDown, 1, Some(1)), asked(20, 20)),
            ("off", stop, all(Off(ShutDown), 1, Some(1)), calm()),
            ("off, up to date", stop, all(Off(ShutDown), 2, Some(1)), calm()),
            (
                "its disk is not here",
                stop,
                Observed { roots: BTreeSet::new(), ..all(Off(ShutDown), 2, Some(1)) },
                calm(),
            ),
        ],
        expect![[r#"
            was never made: fetching EnsureImage EnsureRoot ReserveAddress DefineDomain
            runs: stopping Shutdown
            asked just now: stopping (Asked(9s))
            asked, did not hear: stopping Shutdown
            asked often, the grace is nearly over: stopping (Asked(3s))
            does not want to hear: stopping ForceStop
            paused, the grace is over: stopping ForceStop
            going down: stopping (Asked(40s))
            off: stopped EnsureRoot DefineDomain
            off, up to date: stopped
            its disk is not here: failed (RootMissing(None))
        "#]],
    );
}

#[test]
fn a_guest_that_shall_run_again_while_it_goes_down() {
    let run = vm(3, Desired::Running);
    let run = Some(&run);
    let asked = |first| Recent { asked: Some((secs(first), secs(first))), ..Recent::default() };
    check(
        &[
            ("asked for the last wish, still up", run, all(Running, 2, Some(1)), asked(5)),
            ("it went down", run, all(Off(ShutDown), 2, Some(1)), asked(6)),
            ("it never heard", run, all(Running, 2, Some(1)), asked(60)),
        ],
        expect![[r#"
            asked for the last wish, still up: stopping (Asked(55s))
            it went down: preparing EnsureRoot DefineDomain Start
            it never heard: running DefineDomain Start
        "#]],
    );
}

#[test]
fn a_guest_that_shall_be_gone() {
    let gone = deleting(3);
    let gone = Some(&gone);
    let told = Recent { told_gone: true, ..calm() };
    check(
        &[
            ("runs", gone, all(Running, 2, Some(2)), calm()),
            ("off", gone, all(Off(ShutDown), 2, Some(2)), calm()),
            ("only its disk is left", gone, Observed { roots: [1].into(), ..Observed::default() }, calm()),
            ("nothing is left", gone, Observed::default(), calm()),
            ("nothing is left, the image stays", gone, Observed { image: true, ..Observed::default() }, told.clone()),
            (
                "told, but something came back",
                gone,
                Observed { roots: [1].into(), ..Observed::default() },
                told.clone(),
            ),
            ("unknown to the cluster, runs", None, all(Running, 2, Some(2)), calm()),
            ("unknown to the cluster, nothing is left", None, Observed::default(), calm()),
        ],
        expect![[r#"
            runs: deleting ForceStop RemoveVolumes ReleaseAddress Undefine ConfirmGone
            off: deleting RemoveVolumes ReleaseAddress Undefine ConfirmGone
            only its disk is left: deleting RemoveVolumes ConfirmGone
            nothing is left: deleting ConfirmGone
            nothing is left, the image stays: deleting (Reported)
            told, but something came back: deleting RemoveVolumes ConfirmGone
            unknown to the cluster, runs: deleting ForceStop RemoveVolumes ReleaseAddress Undefine
            unknown to the cluster, nothing is left: deleting
        "#]],
    );
}

/// The guest of `vm` runs on what was asked for in generation 1, and has had these reboots and lives.
fn live(vm: &Vm) -> Observed {
    let disk = |slot, size, name: &str| LiveDisk { slot, size, path: PathBuf::from(name) };
    let mut disks = vec![disk(None, vm.spec.disk, "/root")];
    let mut here = BTreeMap::new();
    for data in &vm.spec.hardware.disks {
        let path = format!("/{}", data.name);
        disks.push(disk(Some(data.slot), data.size, &path));
        here.insert(DataVolume::from(data), PathBuf::from(path));
    }
    let live = Live {
        cpus: Cpus { current: vm.spec.cpus, most: 4 },
        memory: Memory { current: vm.spec.memory, most: vm.spec.memory_promised() },
        disks,
        cd: None,
        cards: Vec::new(),
        firmware: vm.spec.hardware.firmware,
        cpu_model: vm.spec.hardware.cpu_model.clone(),
        smbios: shape::smbios(vm),
        seed: false,
    };
    let mut seen = Observed { disks: here, ..all(Running, 1, Some(1)) };
    if let Some(domain) = &mut seen.domain {
        domain.booted = Boot { reboots: vm.reboots, disk_life: vm.disk_life };
        domain.live = Some(live);
    }
    seen
}

fn state(mut seen: Observed, state: DomainState) -> Observed {
    if let Some(domain) = &mut seen.domain {
        domain.state = state;
        domain.live = domain.live.take().filter(|_| state.is_active());
    }
    seen
}

/// Generation 2 of a VM, changed.
fn changed(change: impl FnOnce(&mut Vm)) -> Vm {
    let mut vm = vm(2, Desired::Running);
    change(&mut vm);
    vm
}

fn tried(tried: &[(Adjust, Tried)]) -> Recent {
    Recent { adjusted: tried.iter().cloned().collect(), ..calm() }
}

#[test]
fn what_a_running_guest_takes_up() {
    let before = vm(1, Desired::Running);
    let more = changed(|vm| (vm.spec.cpus, vm.spec.disk) = (2, ByteSize::gib(20)));
    let less = changed(|vm| vm.spec.memory = ByteSize::mib(512));
    let too_much = changed(|vm| (vm.spec.cpus, vm.spec.memory) = (8, ByteSize::gib(2)));
    let room = changed(|vm| vm.spec.hardware.memory_max = Some(ByteSize::gib(4)));
    let machine = changed(|vm| {
        vm.spec.hardware.firmware = Firmware::Uefi;
        vm.spec.cloud_init.datasource = Datasource::Ec2;
    });
    let cd = changed(|vm| vm.spec.hardware.cd = Some(vm.spec.image.clone()));
    let lan = changed(|vm| vm.spec.hardware.bridges = vec!["br0".parse().unwrap()]);
    let memory = Adjust::Memory(ByteSize::mib(512));
    let told = |secs_ago| tried(&[(memory, Tried::Told(secs(secs_ago)))]);
    let refused = tried(&[(Adjust::Cpus(2), Tried::Refused("it has no driver".to_owned()))]);
    let with_cd = Observed { cd: Some("/cd".into()), ..live(&before) };
    check(
        &[
            ("more CPUs, a larger disk", Some(&more), live(&before), calm()),
            ("one of them it cannot", Some(&more), live(&before), refused),
            ("less memory", Some(&less), live(&before), calm()),
            ("less memory, just told", Some(&less), noted(live(&before)), told(1)),
            ("less memory, told a while ago", Some(&less), noted(live(&before)), told(40)),
            ("less memory, told again", Some(&less), noted(live(&before)), told(60)),
            ("more than it has room for", Some(&too_much), live(&before), calm()),
            ("room for later", Some(&room), live(&before), calm()),
            ("firmware and datasource", Some(&machine), live(&before), calm()),
            ("a CD that is not here", Some(&cd), live(&before), calm()),
            ("a CD", Some(&cd), with_cd.clone(), calm()),
            ("a card", Some(&lan), live(&before), calm()),
            ("less memory, going down", Some(&less), state(live(&before), ShuttingDown), calm()),
            ("somebody edited its definition", Some(&before), edited(live(&before)), calm()),
        ],
        expect![[r#"
            more CPUs, a larger disk: running DefineDomain Adjust(Cpus(2)) Adjust(Grow(None, 20 GiB)) Start
            one of them it cannot: running DefineDomain Adjust(Grow(None, 20 GiB)) Start
                cpus: 1 → 2: it has no driver
            less memory: running DefineDomain Adjust(Memory(512 MiB)) Start
            less memory, just told: running (Told(2s))
                memory: 1 GiB → 512 MiB: the guest was told, and has not done it yet
            less memory, told a while ago: running (Told(20s))
                memory: 1 GiB → 512 MiB: the guest was told, and has not done it yet
            less memory, told again: running Adjust(Memory(512 MiB))
            more than it has room for: running DefineDomain Start
                cpus: 1 → 8: the guest was started with room for 4 CPUs
                memory: 1 GiB → 2 GiB: the guest was started with room for 1 GiB
            room for later: running DefineDomain Start
                memory_max: 1 GiB → 4 GiB: the guest's room for memory is set when it starts
            firmware and datasource: running DefineDomain Start
                firmware: bios → uefi: a guest's machine is chosen when it starts
                datasource: waifud VM → ec2: the guest's firmware tells cloud-init whom to ask when the guest starts
            a CD that is not here: running EnsureCd DefineDomain Start
            a CD: running DefineDomain Adjust(Cd) Start
            a card: running DefineDomain Adjust(AttachCard(0)) Start
            less memory, going down: stopping DefineDomain Start
            somebody edited its definition: running DefineDomain
        "#]],
    );
}

/// The guest was noted to serve generation 2.
fn noted(mut seen: Observed) -> Observed {
    if let Some(domain) = &mut seen.domain {
        (domain.defined, domain.started) = (Some(Generation(2)), Some(Generation(2)));
    }
    seen
}

fn edited(mut seen: Observed) -> Observed {
    if let Some(domain) = &mut seen.domain {
        domain.edited = true;
    }
    seen
}

fn data(slot: u8, name: &str) -> DataDisk {
    DataDisk { name: name.parse().unwrap(), slot, size: ByteSize::gib(1), born: Generation::FIRST }
}

#[test]
fn disks_beside_the_root_disk() {
    let without = vm(1, Desired::Running);
    let with = |disks: &[DataDisk]| changed(|vm| vm.spec.hardware.disks = disks.to_vec());
    let (a, other) = (with(&[data(0, "a")]), with(&[data(0, "b")]));
    let again = [DataDisk { born: Generation(2), ..data(0, "a") }];
    let stopped_again = Vm { desired: Desired::Stopped, ..with(&again) };
    let again = with(&again);
    let none = with(&[]);
    let larger = changed(|vm| vm.spec.hardware.disks = vec![DataDisk { size: ByteSize::gib(2), ..data(0, "a") }]);
    let more = changed(|vm| (vm.spec.cpus, vm.spec.hardware.disks) = (2, vec![data(0, "a")]));
    let reboot = changed(|vm| (vm.reboots, vm.spec.hardware.disks) = (1, vec![data(0, "a")]));
    let lost = |vm: &Vm| {
        let Observed { domain, disks: data, .. } = live(vm);
        Observed { domain, named: Disks { data, ..Disks::default() }, ..live(&without) }
    };
    let made = Observed { disks: live(&a).disks, ..live(&without) };
    let plugged_out = |vm: &Vm| Observed { disks: live(vm).disks, ..live(&without) };
    let clings = tried(&[(Adjust::Detach(0), Tried::Told(secs(30)))]);
    let stopped = |disks: &[DataDisk]| Vm { desired: Desired::Stopped, ..with(disks) };
    let (stopped_with, stopped_without) = (stopped(&[data(0, "a")]), stopped(&[]));
    check(
        &[
            ("one more, not made", Some(&a), live(&without), calm()),
            ("one more, made", Some(&a), made.clone(), calm()),
            ("grown", Some(&larger), live(&a), calm()),
            ("one less", Some(&none), live(&a), calm()),
            ("one less, plugged out", Some(&none), plugged_out(&a), calm()),
            ("one less, the guest clings to it", Some(&none), noted(live(&a)), clings.clone()),
            ("another in its place", Some(&other), live(&a), calm()),
            ("another of its name in its place", Some(&again), live(&a), calm()),
            ("another of its name in its place, off", Some(&stopped_again), state(live(&a), Off(ShutDown)), calm()),
            ("one less, nothing known of the guest", Some(&none), blind(live(&a)), calm()),
            ("one more, off", Some(&stopped_with), state(live(&without), Off(ShutDown)), calm()),
            ("one less, off", Some(&stopped_without), state(live(&a), Off(ShutDown)), calm()),
            ("to be started with one more", Some(&a), state(live(&without), Off(ShutDown)), calm()),
            ("lost, runs", Some(&a), noted(lost(&a)), calm()),
            ("lost, runs, told something else", Some(&more), lost(&a), calm()),
            ("lost, to be rebooted", Some(&reboot), noted(lost(&a)), calm()),
            ("lost, off", Some(&stopped_with), noted(state(lost(&a), Off(ShutDown))), calm()),
            ("lost, to be started", Some(&a), state(lost(&a), Off(ShutDown)), calm()),
            ("lost, one less", Some(&none), lost(&a), calm()),
            ("lost, another of its name", Some(&again), lost(&a), calm()),
        ],
        expect![[r#"
            one more, not made: running EnsureDisk(0) DefineDomain Start
            one more, made: running DefineDomain Adjust(Attach(0)) Start
            grown: running DefineDomain Adjust(Grow(Some(0), 2 GiB)) Start
            one less: running DefineDomain Adjust(Detach(0)) Start
            one less, plugged out: running RemoveDisk(DataVolume { slot: 0, name: "a", born: Generation(1) }) DefineDomain Start
            one less, the guest clings to it: running (Told(30s))
                disks.a: 1 GiB → none: the guest was told, and has not done it yet
            another in its place: running EnsureDisk(0) DefineDomain Adjust(Detach(0)) Start
            another of its name in its place: running EnsureDisk(0) DefineDomain Adjust(Detach(0)) Start
            another of its name in its place, off: stopped EnsureRoot RemoveDisk(DataVolume { slot: 0, name: "a", born: Generation(1) }) EnsureDisk(0) DefineDomain
            one less, nothing known of the guest: running DefineDomain Start
            one more, off: stopped EnsureRoot EnsureDisk(0) DefineDomain
            one less, off: stopped EnsureRoot RemoveDisk(DataVolume { slot: 0, name: "a", born: Generation(1) }) DefineDomain
            to be started with one more: preparing EnsureRoot EnsureDisk(0) DefineDomain Start
            lost, runs: running (DiskMissing("a", "/a"))
            lost, runs, told something else: running Adjust(Cpus(2)) Start
            lost, to be rebooted: running (DiskMissing("a", "/a"))
            lost, off: failed (DiskMissing("a", "/a"))
            lost, to be started: failed (DiskMissing("a", "/a"))
            lost, one less: running DefineDomain Adjust(Detach(0)) Start
            lost, another of its name: running EnsureDisk(0) DefineDomain Adjust(Detach(0)) Start
        "#]],
    );
}

fn blind(mut seen: Observed) -> Observed {
    if let Some(domain) = &mut seen.domain {
        domain.live = None;
    }
    seen
}

#[test]
fn a_guest_that_shall_be_off_and_on_again() {
    let before = vm(1, Desired::Running);
    let reboot = changed(|vm| vm.reboots = 1);
    let hard = changed(|vm| (vm.reboots, vm.grace) = (1, Some(0)));
    let anew = changed(|vm| vm.disk_life = 2);
    let anew_with_data = changed(|vm| {
        vm.disk_life = 2;
        vm.spec.hardware.disks = vec![data(0, "a")];
    });
    let later = changed(|vm| (vm.reboots, vm.desired) = (1, Desired::Paused));
    let asked = |first| Recent { asked: Some((secs(first), secs(first))), ..calm() };
    let both = Observed { roots: [1, 2].into(), ..live(&anew) };
    let off = |seen| state(seen, Off(Destroyed));
    let stopped = Vm { desired: Desired::Stopped, ..anew.clone() };
    let gone = Observed { roots: BTreeSet::new(), ..off(live(&anew)) };
    check(
        &[
            ("to be rebooted", Some(&reboot), live(&before), calm()),
            ("to be rebooted, asked", Some(&reboot), live(&before), asked(5)),
            ("to be rebooted, does not hear", Some(&reboot), live(&before), asked(60)),
            ("to be rebooted at once", Some(&hard), live(&before), calm()),
            ("to be rebooted, it went off", Some(&reboot), state(live(&before), Off(ShutDown)), calm()),
            (
                "to be rebooted when it goes on",
                Some(&later),
                state(noted(live(&before)), Paused(PauseReason::Asked)),
                calm(),
            ),
            ("was rebooted", Some(&reboot), noted(live(&reboot)), calm()),
            ("to be made anew", Some(&anew), live(&before), calm()),
            ("to be made anew, with data", Some(&anew_with_data), live(&before), calm()),
            ("to be made anew, off", Some(&anew), off(live(&before)), calm()),
            (
                "to be made anew, its new disk is here",
                Some(&anew),
                Observed { roots: [1, 2].into(), ..off(live(&before)) },
                calm(),
            ),
            ("was made anew", Some(&anew), noted(both.clone()), calm()),
            ("to be made anew, to be off", Some(&stopped), off(live(&before)), calm()),
            (
                "made anew, to be off",
                Some(&stopped),
                noted(Observed { roots: [1, 2].into(), ..off(live(&before)) }),
                calm(),
            ),
            ("was made anew, and its disk is not here", Some(&anew), noted(gone), calm()),
        ],
        expect![[r#"
            to be rebooted: stopping Shutdown
            to be rebooted, asked: stopping (Asked(5s))
            to be rebooted, does not hear: stopping ForceStop
            to be rebooted at once: stopping ForceStop
            to be rebooted, it went off: preparing EnsureRoot DefineDomain Start
            to be rebooted when it goes on: paused
            was rebooted: running
            to be made anew: stopping ForceStop
            to be made anew, with data: stopping Shutdown
            to be made anew, off: preparing EnsureRoot DefineDomain Start
            to be made anew, its new disk is here: preparing EnsureRoot DefineDomain Start
            was made anew: running RemoveOldRoots
            to be made anew, to be off: stopped EnsureRoot DefineDomain
            made anew, to be off: stopped RemoveOldRoots
            was made anew, and its disk is not here: failed (RootMissing(None))
        "#]],
    );
}

#[test]
fn a_guest_that_shall_be_held_still() {
    let pause = vm(2, Desired::Paused);
    let run = vm(2, Desired::Running);
    let stop = vm(2, Desired::Stopped);
    let (pause, run, stop) = (Some(&pause), Some(&run), Some(&stop));
    let held = |reason| all(Paused(reason), 2, Some(2));
    let resumed = |ago| Recent { resumed: Some(secs(ago)), ..calm() };
    check(
        &[
            ("nothing is here", pause, Observed::default(), calm()),
            ("runs", pause, all(Running, 1, Some(1)), calm()),
            ("is", pause, held(PauseReason::Asked), calm()),
            ("its disk is full", pause, held(PauseReason::DiskError), calm()),
            ("went off in between", pause, all(Off(ShutDown), 2, Some(2)), calm()),
            ("died", pause, all(Off(Crashed), 2, Some(2)), calm()),
            ("is, and shall run", run, all(Paused(PauseReason::Asked), 1, Some(1)), calm()),
            ("somebody holds it still", run, held(PauseReason::Asked), calm()),
            ("a snapshot is taken", run, held(PauseReason::Busy), calm()),
            ("its disk is full, and it shall run", run, held(PauseReason::DiskError), calm()),
            ("its disk is full still", run, held(PauseReason::DiskError), resumed(10)),
            ("its disk is full after a while", run, held(PauseReason::DiskError), resumed(30)),
            ("is, and shall be off", stop, held(PauseReason::Asked), calm()),
            ("its disk is full, and it shall be off", stop, held(PauseReason::DiskError), calm()),
        ],
        expect![[r#"
            nothing is here: fetching EnsureImage EnsureRoot ReserveAddress DefineDomain Start
            runs: running DefineDomain Suspend Start
            is: paused
            its disk is full: paused
            went off in between: stopped ReportShutDown
            died: preparing EnsureRoot DefineDomain Start
            is, and shall run: paused DefineDomain Resume Start
            somebody holds it still: paused Resume
            a snapshot is taken: paused (Busy)
            its disk is full, and it shall run: paused Resume
            its disk is full still: paused (DiskError(20s))
            its disk is full after a while: paused Resume
            is, and shall be off: stopping Shutdown Resume
            its disk is full, and it shall be off: stopping Shutdown
        "#]],
    );
}

#[test]
fn a_guest_that_is_not_started_with_its_host() {
    let manual = changed(|vm| vm.spec.autostart = false);
    let always = changed(|vm| (vm.spec.autostart, vm.spec.restart) = (false, RestartPolicy::Always));
    let told = Recent { told_stopped: Some(Generation(2)), ..calm() };
    let off = |reason| all(Off(reason), 2, Some(2));
    check(
        &[
            ("the host was rebooted", Some(&manual), off(Unknown), calm()),
            ("the host was rebooted, told", Some(&manual), off(Unknown), told),
            ("the host was rebooted, whatever its policy", Some(&always), off(Unknown), calm()),
            ("it crashed", Some(&manual), off(Crashed), calm()),
            ("it was asked to start before the reboot", Some(&manual), all(Off(Unknown), 2, Some(1)), calm()),
        ],
        expect![[r#"
            the host was rebooted: stopped ReportNotStarted
            the host was rebooted, told: stopped (Reported)
            the host was rebooted, whatever its policy: stopped ReportNotStarted
            it crashed: preparing EnsureRoot DefineDomain Start
            it was asked to start before the reboot: preparing EnsureRoot DefineDomain Start
        "#]],
    );
}

#[test]
fn a_wish_that_the_cluster_does_not_know() {
    let run = vm(2, Desired::Running);
    let wished = |at| Recent { wished_at: Some(Timestamp(at)), ..calm() };
    let mut off = all(Off(ShutDown), 2, Some(2));
    if let Some(domain) = &mut off.domain {
        domain.since = Some(Timestamp(100));
    }
    check(
        &[
            ("started, shut itself down", Some(&run), off.clone(), wished(100)),
            ("was off, is wanted again", Some(&run), off, wished(101)),
        ],
        expect![[r#"
            started, shut itself down: stopped ReportShutDown
            was off, is wanted again: preparing EnsureRoot DefineDomain Start
        "#]],
    );
}

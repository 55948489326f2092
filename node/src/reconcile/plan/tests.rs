//! Tests of the plan: what is wanted and what is there, to the steps between.

use super::*;
use crate::{hypervisor::Boot, reconcile::samples};
use expect_test::{Expect, expect};
use std::{fmt::Write as _, net::Ipv4Addr};

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
        edited: false,
        live: None,
    };
    Observed { domain: Some(domain), volume: true, image: true, reserved: true }
}

fn show(plan: &Plan) -> String {
    let mut text = plan.state.to_string();
    for step in &plan.steps {
        write!(text, " {step:?}").unwrap();
    }
    if let Some(hold) = plan.hold {
        write!(text, " ({hold:?})").unwrap();
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
    let calm = Recent::default();
    check(
        &[
            ("nothing is here", run, Observed::default(), calm),
            ("the image is here", run, Observed { image: true, ..Observed::default() }, calm),
            ("a disk is left from before", run, Observed { image: true, volume: true, ..Observed::default() }, calm),
            ("defined", run, all(Off(Unknown), 2, None), calm),
            ("runs", run, all(Running, 2, Some(2)), calm),
            ("runs, its address is not reserved", run, Observed { reserved: false, ..all(Running, 2, Some(2)) }, calm),
            ("runs, the image is gone", run, Observed { image: false, ..all(Running, 2, Some(2)) }, calm),
            ("runs on an older definition", run, all(Running, 1, Some(1)), calm),
            ("runs, not noted", run, all(Running, 2, Some(1)), calm),
            ("runs, somebody undefined it", run, undefined(Running), calm),
            ("runs, the record is stale", run, all(Running, 3, Some(3)), calm),
            ("paused", run, all(Paused(crate::hypervisor::PauseReason::DiskError), 2, Some(2)), calm),
            ("going down", run, all(ShuttingDown, 2, Some(2)), calm),
            ("was off, is wanted again", run, all(Off(ShutDown), 1, Some(1)), calm),
            ("the host was rebooted", run, all(Off(Unknown), 2, Some(2)), calm),
            ("its memory was saved", run, all(Off(Saved), 2, Some(2)), calm),
            ("moved by hand", run, all(Off(Migrated), 2, Some(2)), calm),
            ("its disk is not here", run, Observed { volume: false, ..all(Off(Unknown), 2, Some(1)) }, calm),
        ],
        expect![[r#"
            nothing is here: fetching EnsureImage CreateVolume ReserveAddress DefineDomain Start
            the image is here: preparing CreateVolume ReserveAddress DefineDomain Start
            a disk is left from before: preparing ReserveAddress DefineDomain Start
            defined: preparing Start
            runs: running
            runs, its address is not reserved: running ReserveAddress
            runs, the image is gone: running
            runs on an older definition: running DefineDomain Start
            runs, not noted: running Start
            runs, somebody undefined it: running DefineDomain
            runs, the record is stale: running (Behind { domain: Generation(3) })
            paused: paused
            going down: stopping
            was off, is wanted again: preparing DefineDomain Start
            the host was rebooted: preparing Start
            its memory was saved: preparing Start
            moved by hand: failed (MovedAway)
            its disk is not here: failed (DiskMissing)
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
    let calm = Recent::default();
    let soon = Recent { restart_in: secs(4), ..calm };
    let told = Recent { told_shut_down: Some(Generation(2)), ..calm };
    let off = |reason| all(Off(reason), 2, Some(2));
    check(
        &[
            ("shut down from inside", on_failure, off(ShutDown), calm),
            ("shut down from inside, told", on_failure, off(ShutDown), told),
            ("shut down from inside, never", never, off(ShutDown), calm),
            ("shut down from inside, always", always, off(ShutDown), calm),
            ("shut down from inside, always, backing off", always, off(ShutDown), soon),
            ("crashed", on_failure, off(Crashed), calm),
            ("crashed, backing off", on_failure, off(Crashed), soon),
            ("crashed, never", never, off(Crashed), calm),
            ("killed from outside", on_failure, off(Destroyed), calm),
            ("could not start", on_failure, off(Failed), soon),
        ],
        expect![[r#"
            shut down from inside: stopped ReportShutDown
            shut down from inside, told: stopped (Reported)
            shut down from inside, never: stopped ReportShutDown
            shut down from inside, always: preparing Start
            shut down from inside, always, backing off: crashed (Restart(4s))
            crashed: preparing Start
            crashed, backing off: crashed (Restart(4s))
            crashed, never: crashed
            killed from outside: preparing Start
            could not start: crashed (Restart(4s))
        "#]],
    );
}

#[test]
fn a_guest_that_shall_be_off() {
    let stop = vm(2, Desired::Stopped);
    let stop = Some(&stop);
    let calm = Recent::default();
    let asked = |first, last| Recent { asked: Some((secs(first), secs(last))), ..calm };
    let running = all(Running, 1, Some(1));
    check(
        &[
            ("was never made", stop, Observed::default(), calm),
            ("runs", stop, running.clone(), calm),
            ("asked just now", stop, running.clone(), asked(1, 1)),
            ("asked, did not hear", stop, running.clone(), asked(10, 10)),
            ("asked often, the grace is nearly over", stop, running.clone(), asked(57, 7)),
            ("does not want to hear", stop, running, asked(60, 5)),
            (
                "paused, the grace is over",
                stop,
                all(Paused(crate::hypervisor::PauseReason::Asked), 1, Some(1)),
                asked(60, 0),
            ),
            ("going down", stop, all(ShuttingDown, 1, Some(1)), asked(20, 20)),
            ("off", stop, all(Off(ShutDown), 1, Some(1)), calm),
            ("off, up to date", stop, all(Off(ShutDown), 2, Some(1)), calm),
            ("its disk is not here", stop, Observed { volume: false, ..all(Off(ShutDown), 2, Some(1)) }, calm),
        ],
        expect![[r#"
            was never made: fetching EnsureImage CreateVolume ReserveAddress DefineDomain
            runs: stopping Shutdown
            asked just now: stopping (Asked(9s))
            asked, did not hear: stopping Shutdown
            asked often, the grace is nearly over: stopping (Asked(3s))
            does not want to hear: stopping ForceStop
            paused, the grace is over: stopping ForceStop
            going down: stopping (Asked(40s))
            off: stopped DefineDomain
            off, up to date: stopped
            its disk is not here: failed (DiskMissing)
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
            it went down: preparing DefineDomain Start
            it never heard: running DefineDomain Start
        "#]],
    );
}

#[test]
fn a_guest_that_shall_be_gone() {
    let gone = deleting(3);
    let gone = Some(&gone);
    let calm = Recent::default();
    let told = Recent { told_gone: true, ..calm };
    check(
        &[
            ("runs", gone, all(Running, 2, Some(2)), calm),
            ("off", gone, all(Off(ShutDown), 2, Some(2)), calm),
            ("only its disk is left", gone, Observed { volume: true, ..Observed::default() }, calm),
            ("nothing is left", gone, Observed::default(), calm),
            ("nothing is left, the image stays", gone, Observed { image: true, ..Observed::default() }, told),
            ("told, but something came back", gone, Observed { volume: true, ..Observed::default() }, told),
            ("unknown to the cluster, runs", None, all(Running, 2, Some(2)), calm),
            ("unknown to the cluster, nothing is left", None, Observed::default(), calm),
        ],
        expect![[r#"
            runs: deleting ForceStop Undefine RemoveVolume ReleaseAddress ConfirmGone
            off: deleting Undefine RemoveVolume ReleaseAddress ConfirmGone
            only its disk is left: deleting RemoveVolume ConfirmGone
            nothing is left: deleting ConfirmGone
            nothing is left, the image stays: deleting (Reported)
            told, but something came back: deleting RemoveVolume ConfirmGone
            unknown to the cluster, runs: deleting ForceStop Undefine RemoveVolume ReleaseAddress
            unknown to the cluster, nothing is left: deleting
        "#]],
    );
}

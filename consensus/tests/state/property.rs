//! Random logs against the plain model: same replies, same states, whatever the batches and crashes.

use crate::{
    fixture::*,
    reference::{Reference, plain},
    scenario::logs,
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{TestCaseResult, TestRunner},
};
use std::{collections::BTreeMap, path::Path};
use waifud_consensus::state::{self, Accepted, EventQuery, Ledger, View, VmBrief};
use waifud_model::{
    command::Envelope,
    digest::Blake3,
    invariant::{self, Violation},
    reject::Reject,
};

type Outcome = Result<Accepted, Reject>;

/// Applies a log one command at a time and compares everything after each; gives the outcomes and the last digest.
fn compare(log: &[Envelope]) -> Result<(Vec<Outcome>, Blake3), TestCaseError> {
    let mut bench = Bench::empty();
    let mut model = Reference::default();
    let mut outcomes = Vec::new();
    for envelope in log {
        let outside = model.outside(&envelope.actor);
        let outcome = bench.apply(envelope).map_err(|halt| TestCaseError::fail(format!("{halt:?}")))?;
        let expected = model.apply(bench.index, envelope);
        let found = outcome.clone().map(|a| (a.reply, a.replayed)).map_err(plain);
        prop_assert_eq!(found, expected, "{:?}", envelope);
        let whole = bench.view().whole().map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&whole, &model.state, "{:?}", envelope);
        // Whatever else a scope means, it means this.
        for vm in outside {
            prop_assert_eq!(whole.vms.get(&vm.id), Some(&vm), "{:?}", envelope);
        }
        let brief = bench.view().vms_brief().map_err(|e| TestCaseError::fail(e.to_string()))?;
        let vms = bench.view().vms().map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(&brief, &vms.into_iter().map(VmBrief::from).collect::<Vec<_>>(), "{:?}", envelope);
        let names = bench.view().vm_names().map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(names, brief.into_iter().map(|b| (b.vm.name, b.vm.node)).collect::<Vec<_>>());
        prop_assert_eq!(invariant::check(&whole), []);
        let overbooked = invariant::overbooked(&whole);
        let blameless = |v: &Violation| matches!(v, Violation::Overbooked { node, .. } if model.shrunk.contains(node));
        prop_assert!(overbooked.iter().all(blameless), "{:?}", overbooked);
        outcomes.push(outcome);
    }
    agree(bench.view(), &model)?;
    let digest = bench.view().digest().map_err(|e| TestCaseError::fail(e.to_string()))?;
    Ok((outcomes, digest))
}

/// Everything that is read in other ways than as a whole.
fn agree(view: View<'_>, model: &Reference) -> TestCaseResult {
    let events = view.events(&EventQuery::first(u32::MAX)).unwrap();
    let traces: Vec<_> = events.iter().map(|e| (e.index, e.seq, e.subject.clone(), e.kind)).collect();
    prop_assert_eq!(&traces, &model.events);
    for name in (0..2).map(template) {
        prop_assert_eq!(view.newest_version(&name).unwrap().map(|v| v.version), model.newest(&name));
    }
    for node in model.state.nodes.values() {
        prop_assert_eq!(view.node_by_name(&node.name).unwrap(), Some(node.clone()));
        let on: Vec<_> = view.vms_on(node.id).unwrap();
        let expected = model.state.vms.values().filter(|vm| vm.node == node.id);
        prop_assert_eq!(on.len(), expected.count());
        prop_assert!(on.windows(2).all(|pair| pair[0].name < pair[1].name));
        let reserved = view.reserved(node.id).unwrap();
        prop_assert_eq!(reserved.vms as usize, on.len());
        prop_assert_eq!(reserved.cpus, on.iter().map(|vm| u64::from(vm.spec.cpus)).sum::<u64>());
        prop_assert_eq!(reserved.memory, on.iter().map(|vm| vm.spec.memory_promised()).sum());
        prop_assert_eq!(reserved.disk, on.iter().map(|vm| vm.spec.disk_promised()).sum());
        prop_assert_eq!(view.reserved_by_node().unwrap().get(&node.id).copied(), Some(reserved));
    }
    for vm in model.state.vms.values() {
        prop_assert_eq!(view.vm(vm.id).unwrap(), Some(vm.clone()));
        prop_assert_eq!(view.vm_by_name(&vm.name).unwrap(), Some(vm.clone()));
        prop_assert_eq!(view.vm_by_ip(vm.ip).unwrap(), Some(vm.clone()));
    }
    Ok(())
}

/// Applies a log to a file in batches. Before each batch is committed, some of it is applied and lost in a crash. Nothing is
/// remembered from one command to the next.
fn batched(path: &Path, log: &[Envelope], batches: &[(usize, usize)]) -> (Vec<Outcome>, Blake3) {
    let mut outcomes = Vec::new();
    let mut batches = batches.iter().copied().cycle();
    let mut rest: Vec<(u64, &Envelope)> = (1..).zip(log).collect();
    while !rest.is_empty() {
        let (size, lost) = batches.next().unwrap();
        let batch: Vec<_> = rest.drain(..size.min(rest.len())).collect();
        {
            let mut db = state::open(path).unwrap();
            let tx = db.transaction().unwrap();
            for (index, envelope) in batch.iter().take(lost) {
                state::apply(&tx, &mut Ledger::default(), *index, envelope).unwrap().ok();
            }
        }
        let mut db = state::open(path).unwrap();
        let tx = db.transaction().unwrap();
        let apply = |(index, envelope): &(u64, &Envelope)| state::apply(&tx, &mut Ledger::default(), *index, envelope);
        outcomes.extend(batch.iter().map(|one| apply(one).unwrap()));
        tx.commit().unwrap();
    }
    let reader = state::open_reader(path).unwrap();
    (outcomes, View::new(&reader).digest().unwrap())
}

proptest! {
    #[test]
    fn apply_does_what_the_plain_model_does(log in logs()) {
        compare(&log)?;
    }
}

proptest! {
    // Files and their fsyncs are slow, and the rules are compared above.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn neither_batches_nor_crashes_can_be_told_from_the_state(
        log in logs(),
        batches in vec((1..20_usize, 0..20_usize), 1..6),
    ) {
        let (outcomes, digest) = compare(&log)?;
        let dir = tempfile::tempdir().unwrap();
        let (again, same) = batched(&dir.path().join("state.db"), &log, &batches);
        prop_assert_eq!(outcomes, again);
        prop_assert_eq!(digest, same);
    }
}

/// A comparison proves nothing about rules that the logs never meet. This asks the plain model alone, so it is fast.
#[test]
fn random_logs_meet_the_rules() {
    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..400 {
        let log = logs().new_tree(&mut runner).unwrap().current();
        let mut model = Reference::default();
        for (index, envelope) in (1..).zip(&log) {
            let name = match model.apply(index, envelope) {
                Ok((_, replayed)) => if replayed { "replayed" } else { "accepted" }.to_owned(),
                Err(reject) => format!("{reject:?}").split([' ', '(']).next().unwrap_or_default().to_owned(),
            };
            *met.entry(name).or_default() += 1;
        }
    }
    let all: u32 = met.values().sum();
    assert!(met["accepted"] * 4 > all && met["replayed"] > 100, "{met:?}");
    // All but `Constraint`, which is what apply does not foresee.
    let expected = [
        "AlreadyInitialised",
        "NotInitialised",
        "UnknownActor",
        "NotAllowed",
        "VmsOnly",
        "OutsideScope",
        "NotYours",
        "NodesOnly",
        "KeyReused",
        "NoSuchNode",
        "NodeNameTaken",
        "NodeTaken",
        "NodeHasVms",
        "LastNode",
        "Cordoned",
        "BadJoinToken",
        "NoSuchToken",
        "IdTaken",
        "NoSuchVm",
        "VmNameTaken",
        "VmDeleting",
        "Stale",
        "NotDeleting",
        "BadSpec",
        "DoesNotFit",
        "NoSubnet",
        "NoAddress",
        "NoSuchTemplate",
        "NoSuchVersion",
        "DiskTooSmall",
        "VersionExists",
        "TemplateInUse",
        "BadFeatureLevel",
    ];
    let missed: Vec<&str> = expected.into_iter().filter(|name| !met.contains_key(*name)).collect();
    assert!(missed.is_empty(), "never met: {missed:?}; met: {met:?}");
}

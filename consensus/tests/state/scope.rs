//! Tokens that are for some VMs only: what they may be for, what apply lets them do, and what of the events they show.

use crate::fixture::*;
use expect_test::expect;
use std::collections::BTreeMap;
use waifud_consensus::state::{BySubject, EventQuery, SubjectKey};
use waifud_model::{
    change::VmChange,
    command::{Actor, Command, CreateVm, Reply, SetCloudInit},
    event::{EventKind, SubjectKind},
    labels::{LabelPatch, Labels},
    reject::Reject,
    scope::Scope,
    token::{ApiToken, Role},
    vm::{Console, Desired, VmSpec},
};

const TOKEN: u8 = 60;

/// A cluster with a token for VMs of [`scope`], which VM 0 is and VM 1 is not.
fn bench() -> Bench {
    let mut bench = Bench::cluster(2);
    bench.done(scoped_token(TOKEN, Role::Operator));
    bench.done(create(0, 0));
    bench.done(labelled(1, Labels::default()));
    bench
}

fn bearer() -> Actor {
    Actor::Token(token_id(TOKEN))
}

fn labelled(n: u8, labels: Labels) -> Command {
    Command::CreateVm(Box::new(CreateVm { spec: VmSpec { labels, ..spec() }, ..vm(n, 0) }))
}

fn relabel(n: u8, patch: &[(&str, Option<&str>)]) -> Command {
    let patch = patch.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)));
    let change = VmChange { labels: LabelPatch(patch.collect()), ..VmChange::default() };
    Command::ChangeVm { vm: vm_id(n), change: Box::new(change), expect: None }
}

/// All that people do to a VM that is there.
fn verbs(n: u8) -> Vec<Command> {
    let (vm, expect) = (vm_id(n), None);
    let cloud_init = spec().cloud_init;
    vec![
        Command::SetPower { vm, desired: Desired::Stopped, grace: None, expect },
        Command::SetPower { vm, desired: Desired::Running, grace: None, expect },
        Command::RebootVm { vm, grace: None, expect },
        relabel(n, &[("tier", Some("web"))]),
        Command::RenameVm { vm, name: vm_name(90), expect },
        Command::ReinitVm { vm, image: spec().image, expect },
        Command::SetCloudInit(Box::new(SetCloudInit { vm, cloud_init, rerun: false, expect })),
        Command::OpenConsole { vm, console: Console::Serial },
        Command::DeleteVm { vm, expect },
    ]
}

#[test]
fn a_vm_outside_is_not_there() {
    let mut bench = bench();
    let before = bench.view().digest().unwrap();
    for n in [1, 2] {
        for command in verbs(n) {
            let verb = command.verb();
            assert_eq!(bench.by(bearer(), command), Err(Reject::NoSuchVm(vm_id(n))), "{verb} {n}");
        }
    }
    assert_eq!(bench.view().digest().unwrap(), before);
    for command in verbs(0) {
        let verb = command.verb();
        assert!(matches!(bench.by(bearer(), command).unwrap().reply, Reply::Vm(_)), "{verb}");
    }
}

#[test]
fn vms_are_made_within_and_none_goes_out() {
    let mut bench = bench();
    let outside = Err(Reject::OutsideScope { scope: scope() });
    for labels in [Labels::default(), labels(&[("env", "test")]), labels(&[("tier", "prod")])] {
        assert_eq!(bench.by(bearer(), labelled(2, labels)), outside);
    }
    bench.by(bearer(), labelled(2, labels(&[("env", "prod"), ("tier", "web")]))).unwrap();
    for patch in [[("env", None)], [("env", Some("test"))]] {
        let before = bench.view().whole().unwrap();
        assert_eq!(bench.by(bearer(), relabel(2, &patch)), outside);
        assert_eq!(bench.view().whole().unwrap(), before, "what was done is undone");
    }
    bench.by(bearer(), relabel(2, &[("tier", None), ("env", Some("prod"))])).unwrap();
    // Whoever takes it out takes it away.
    bench.done(relabel(2, &[("env", None)]));
    assert_eq!(bench.by(bearer(), relabel(2, &[("env", Some("prod"))])), Err(Reject::NoSuchVm(vm_id(2))));
}

#[test]
fn what_is_no_vm_is_not_theirs() {
    let mut bench = bench();
    for command in [
        Command::AddTemplateVersion(Box::new(template_version(1, 1))),
        Command::DeleteTemplate { template: template(0), version: None },
        Command::SetCordon { node: node_id(0), cordoned: true },
        scoped_token(61, Role::Viewer),
        Command::RevokeApiToken(token_id(TOKEN)),
        Command::RemoveNetPeer(peer_name(0)),
    ] {
        assert_eq!(bench.by(bearer(), command), Err(Reject::VmsOnly));
    }
    bench.done(scoped_token(61, Role::Viewer));
    for command in verbs(0).into_iter().chain(verbs(1)).chain([create(5, 0)]) {
        let viewer = Actor::Token(token_id(61));
        assert_eq!(bench.by(viewer, command), Err(Reject::NotAllowed { needed: Role::Operator }));
    }
}

#[test]
fn what_a_token_may_be_for_is_bounded() {
    let mut bench = Bench::cluster(1);
    let mut token = |labels: BTreeMap<String, String>, role| {
        let scope = Scope::new(labels.try_into().unwrap());
        let token = ApiToken { scope, ..api_token(20, role) };
        bench.by(local(), Command::CreateApiToken(Box::new(token))).map(|_| ()).map_err(|reject| reject.to_string())
    };
    let many = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect::<BTreeMap<_, _>>();
    let long = |len: usize| BTreeMap::from([("team".to_owned(), "x".repeat(len))]);
    expect!["scope: an admin may make tokens without one; give a scope to the role operator or viewer"]
        .assert_eq(&token(long(1), Role::Admin).unwrap_err());
    expect!["scope: 9 labels given; at most 8"].assert_eq(&token(many(9), Role::Operator).unwrap_err());
    expect!["scope: the value of team has 257 bytes; at most 256"]
        .assert_eq(&token(long(257), Role::Viewer).unwrap_err());
    let widest = many(7).into_iter().chain(long(256)).collect();
    assert_eq!(token(widest, Role::Viewer), Ok(()));
}

#[test]
fn the_event_of_a_token_tells_its_scope() {
    let bench = bench();
    let tokens = BySubject::Keys(vec![SubjectKey::Token(token_id(TOKEN))]);
    let events = bench.view().events(&EventQuery { subject: Some(tokens), ..EventQuery::first(9) }).unwrap();
    let fields = events[0].changes.iter().map(|change| (change.field.as_str(), change.new.as_deref()));
    assert!(fields.collect::<Vec<_>>().contains(&("scope.env", Some("prod"))), "{events:?}");
}

/// The names and kinds of the VMs' events that somebody with the scope sees.
fn seen(bench: &Bench, limit: u32, newest: bool) -> Vec<String> {
    let subject = Some(BySubject::Kind(SubjectKind::Vm));
    let query = EventQuery { subject, scope: scope(), newest, ..EventQuery::first(limit) };
    let events = bench.view().events(&query).unwrap();
    events.iter().map(|event| format!("{} {:?}", event.subject.name(), event.kind)).collect()
}

#[test]
fn a_vm_that_is_gone_is_judged_by_the_labels_it_had_last() {
    let mut bench = bench();
    assert_eq!(seen(&bench, 10, false), ["vm0 Created"]);
    // Made outside, taken in; and the other way round.
    bench.done(relabel(1, &[("env", Some("prod"))]));
    bench.done(relabel(0, &[("env", None), ("tier", Some("web"))]));
    let inside = ["vm1 Created", "vm1 Changed"];
    assert_eq!(seen(&bench, 10, false), inside);
    for n in [0, 1] {
        bench.done(Command::DeleteVm { vm: vm_id(n), expect: None });
        bench.by(Actor::Node(node_id(0)), Command::ConfirmVmGone { vm: vm_id(n) }).unwrap();
    }
    let all = ["vm1 Created", "vm1 Changed", "vm1 Deleting", "vm1 Deleted"];
    assert_eq!(seen(&bench, 10, false), all);
    // A page is full of what may be seen, not of what was looked at.
    assert_eq!(seen(&bench, 3, true), all[1..]);
    assert_eq!(seen(&bench, 3, false), all[..3]);
    // Where its beginning is forgotten nobody can tell.
    let created = format!("{:?}", EventKind::Created).to_lowercase();
    bench.db.execute("DELETE FROM events WHERE kind = ?1", [created]).unwrap();
    assert_eq!(seen(&bench, 10, false), Vec::<String>::new());
}

#[test]
fn tokens_are_not_seen_and_what_everybody_may_read_is() {
    let bench = bench();
    let kinds = |scope: Scope| {
        let events = bench.view().events(&EventQuery { scope, ..EventQuery::first(100) }).unwrap();
        events.iter().map(|event| event.subject.kind()).collect::<std::collections::BTreeSet<_>>()
    };
    let mut all = kinds(Scope::default());
    assert!(all.remove(&SubjectKind::Token));
    assert_eq!(kinds(scope()), all);
}

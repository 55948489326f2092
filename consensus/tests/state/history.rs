//! Events as a memory: their order, pages and filters, what a name once was, and what is forgotten.

use crate::fixture::*;
use std::collections::BTreeSet;
use waifud_consensus::state::{ByActor, BySubject, EventQuery, SubjectKey};
use waifud_model::{
    command::{Actor, Command},
    event::{Authority, Event, EventKind, Place, SubjectKind},
    time::Timestamp,
    token::Role,
};

const DAY: u64 = 24 * HOUR;

fn all(bench: &Bench) -> Vec<Event> {
    bench.view().events(&EventQuery::first(10_000)).unwrap()
}

fn count(bench: &Bench, person: bool) -> u32 {
    let sql = "SELECT count(*) FROM events WHERE person = ?1";
    bench.db.query_row(sql, [person], |row| row.get(0)).unwrap()
}

#[test]
fn pages_in_either_direction_are_the_whole() {
    let mut bench = Bench::cluster(2);
    (0..5).for_each(|n| drop(bench.done(create(n, 1))));
    bench.done(Command::RemoveNode { node: node_id(1), force: true });
    let whole = all(&bench);
    let removal: Vec<_> = whole.iter().filter(|event| event.index == bench.index).collect();
    assert_eq!(removal.len(), 6, "five VMs and the node");
    assert!(removal.iter().zip(0..).all(|(event, seq)| event.seq == seq));
    let mut forwards = Vec::new();
    loop {
        let query = EventQuery { after: forwards.last().map(Event::place), ..EventQuery::first(4) };
        let page = bench.view().events(&query).unwrap();
        if page.is_empty() {
            break;
        }
        forwards.extend(page);
    }
    assert_eq!(forwards, whole);
    let mut backwards = Vec::new();
    loop {
        let query = EventQuery { before: backwards.first().map(Event::place), ..EventQuery::last(4) };
        let mut page = bench.view().events(&query).unwrap();
        if page.is_empty() {
            break;
        }
        page.append(&mut backwards);
        backwards = page;
    }
    assert_eq!(backwards, whole);
    for place in [Place::after_index(bench.index), Place::after_index(u64::MAX)] {
        assert_eq!(bench.view().events(&EventQuery::first(10).after(place)).unwrap(), []);
    }
    assert_eq!(bench.view().newest_event().unwrap(), whole.last().map(Event::place));
}

#[test]
fn filters_let_through_what_they_name() {
    let mut bench = Bench::cluster(2);
    let operator = Actor::Token(token_id(11));
    bench.by(operator.clone(), create(1, 0)).unwrap();
    bench.done(create(2, 1));
    bench.by(Actor::Node(node_id(0)), Command::ReportVmEvents(vec![report(1, EventKind::Crashed, 1, false)])).unwrap();
    bench.done(Command::DeleteVm { vm: vm_id(2), expect: None });
    let find = |subject: Option<BySubject>, actor: Option<ByActor>, kinds: &[EventKind]| {
        let query = EventQuery { subject, actor, kinds: kinds.to_vec(), ..EventQuery::first(100) };
        let found = bench.view().events(&query).unwrap();
        found.iter().map(|e| format!("{} {:?} {}", e.subject.name(), e.kind, e.command)).collect::<Vec<_>>()
    };
    let vms = Some(BySubject::Kind(SubjectKind::Vm));
    let of_vms =
        ["vm1 Created create_vm", "vm2 Created create_vm", "vm1 Crashed report_vm_events", "vm2 Deleting delete_vm"];
    assert_eq!(find(vms.clone(), None, &[]), of_vms);
    assert_eq!(find(Some(BySubject::Name(SubjectKind::Vm, "vm2".into())), None, &[]), [of_vms[1], of_vms[3]]);
    assert_eq!(find(Some(BySubject::Name(SubjectKind::Node, "vm2".into())), None, &[]), [""; 0]);
    assert_eq!(find(Some(BySubject::Keys(vec![SubjectKey::Vm(vm_id(1))])), None, &[]), [of_vms[0], of_vms[2]]);
    assert_eq!(find(None, Some(ByActor::Is(vec![operator])), &[]), [of_vms[0]]);
    assert_eq!(find(vms.clone(), Some(ByActor::Nodes), &[]), [of_vms[2]]);
    assert_eq!(find(vms.clone(), Some(ByActor::People), &[EventKind::Deleting, EventKind::Crashed]), [of_vms[3]]);
    assert_eq!(find(vms.clone(), Some(ByActor::Uid(0)), &[]), [of_vms[1], of_vms[3]]);
    assert_eq!(find(vms, Some(ByActor::Uid(1)), &[]), [""; 0]);
}

#[test]
fn a_name_remembers_all_who_had_it() {
    let mut bench = Bench::cluster(1);
    bench.done(create(1, 0));
    bench.done(Command::DeleteVm { vm: vm_id(1), expect: None });
    bench.by(Actor::Node(node_id(0)), Command::ConfirmVmGone { vm: vm_id(1) }).unwrap();
    let mut second = vm(2, 0);
    second.name = vm_name(1);
    bench.done(Command::CreateVm(Box::new(second)));
    let named = bench.view().named(SubjectKind::Vm, "vm1").unwrap();
    let both = BTreeSet::from([vm_id(1), vm_id(2)].map(SubjectKey::Vm));
    assert_eq!(named.iter().cloned().collect::<BTreeSet<_>>(), both);
    let query = EventQuery { subject: Some(BySubject::Keys(named)), ..EventQuery::first(100) };
    let kinds: Vec<_> = bench.view().events(&query).unwrap().into_iter().map(|event| event.kind).collect();
    use EventKind::{Created, Deleted, Deleting};
    assert_eq!(kinds, [Created, Deleting, Deleted, Created]);
    assert_eq!(bench.view().named(SubjectKind::Vm, "vm2").unwrap(), []);
}

#[test]
fn commands_of_people_say_as_what_they_were_given() {
    let mut bench = Bench::cluster(2);
    bench.by(Actor::Token(token_id(11)), create(1, 1)).unwrap();
    bench.by(Actor::Node(node_id(1)), Command::ReportVmEvents(vec![report(1, EventKind::Started, 1, false)])).unwrap();
    bench.done(Command::RevokeApiToken(token_id(11)));
    bench.done(Command::RemoveNode { node: node_id(1), force: true });
    let commands = bench.view().commands(&EventQuery::last(3)).unwrap();
    let told: Vec<_> =
        commands.iter().map(|events| (events[0].command.as_str(), events.len(), events[0].authority.clone())).collect();
    let admin = Some(Authority { role: Role::Admin, token: None });
    let operator = Some(Authority { role: Role::Operator, token: Some("token 11".to_owned()) });
    let expected = [("create_vm", 1, operator), ("revoke_api_token", 1, admin.clone()), ("remove_node", 2, admin)];
    assert_eq!(told, expected);
    let first = bench.view().commands(&EventQuery::first(1)).unwrap();
    assert_eq!(first[0][0].command, "init_cluster");
    assert_eq!(first[0].len(), 2, "the cluster and its first node");
}

#[test]
fn people_and_nodes_are_forgotten_apart() {
    let mut bench = Bench::cluster(1);
    bench.done(create(1, 0));
    let people = count(&bench, true);
    let crash = || Command::ReportVmEvents(vec![report(1, EventKind::Crashed, 1, false)]);
    bench.by(Actor::Node(node_id(0)), crash()).unwrap();
    assert_eq!(bench.view().events_forgotten().unwrap(), None);
    bench.by(Actor::Node(node_id(0)), crash()).unwrap();
    // As if as many as are kept had come in between.
    bench.tamper("UPDATE events SET nth = 100000 WHERE person = 0 AND nth = 2");
    assert_eq!((count(&bench, false), count(&bench, true)), (2, people));
    bench.by(Actor::Node(node_id(0)), crash()).unwrap();
    let now = (count(&bench, false), count(&bench, true));
    assert_eq!(now, (2, people), "the oldest is not kept any more, and no person pays for it");
    let edge = bench.view().events_forgotten().unwrap().unwrap();
    assert_eq!(edge, Place { index: bench.index - 1, seq: 0 });
    bench.tamper(
        "UPDATE events SET nth = nth + 99999 WHERE nth = (SELECT max(nth) FROM events WHERE person = 1) AND person = 1",
    );
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    assert_eq!((count(&bench, false), count(&bench, true)), (2, 2));
}

#[test]
fn what_is_old_is_forgotten_piece_by_piece() {
    let mut bench = Bench::cluster(1);
    bench.done(create(1, 0));
    let reports = || Command::ReportVmEvents(vec![report(1, EventKind::Crashed, 1, false); 60]);
    for _ in 0..5 {
        bench.by(Actor::Node(node_id(0)), reports()).unwrap();
    }
    let before = all(&bench).len();
    assert!(before > 300);
    bench.at = Timestamp(START.0 + 400 * DAY);
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    assert_eq!(all(&bench).len(), before + 1, "400 days are kept");
    bench.at = Timestamp(bench.at.0 + 1);
    bench.done(Command::SetCordon { node: node_id(0), cordoned: false });
    assert_eq!(all(&bench).len(), before + 2 - 256);
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    let kept: Vec<_> = all(&bench).iter().map(|event| event.command.clone()).collect();
    assert_eq!(kept, ["set_cordon"; 3]);
    assert!(bench.view().events_forgotten().unwrap().is_some());
}

#[test]
fn a_moment_is_found_among_the_events() {
    let mut bench = Bench::cluster(1);
    let early = bench.index;
    bench.at = Timestamp(START.0 + HOUR);
    bench.done(create(1, 0));
    let before = |at: u64| bench.view().event_before(Timestamp(at)).unwrap();
    assert_eq!(before(0), Place { index: 0, seq: 0 });
    assert_eq!(before(START.0), Place { index: 0, seq: 0 });
    assert_eq!(before(START.0 + 1).index, early);
    assert_eq!(before(START.0 + HOUR).index, early);
    assert_eq!(before(START.0 + HOUR + 1).index, bench.index);
    assert_eq!(Bench::empty().view().event_before(START).unwrap(), Place { index: 0, seq: 0 });
}

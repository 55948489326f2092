//! The rules that random logs reach too seldom, one by one.

use crate::fixture::*;
use waifud_consensus::state::{EventQuery, Halt, ReadError, View};
use waifud_model::{
    command::{Actor, AddNode, Command, NewNode, Origin, Reply, VmReport},
    event::{Change, Event, EventKind, Subject},
    ids::Generation,
    name::VmName,
    reject::Reject,
    size::ByteSize,
    time::Timestamp,
    token::{JoinToken, Role},
    vm::{Console, Desired, RestartPolicy, Vm},
};

fn made(bench: &mut Bench, command: Command) -> Vm {
    match bench.done(command).reply {
        Reply::Vm(vm) => *vm,
        other => panic!("{other:?}"),
    }
}

fn requests(bench: &Bench) -> u32 {
    bench.db.query_row("SELECT count(*) FROM requests", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_repetition_gets_the_first_reply() {
    let mut bench = Bench::cluster(1);
    let asked = envelope(local(), "k", bench.at, create(1, 0));
    let first = bench.apply(&asked).unwrap().unwrap();
    bench.done(Command::SetPower { vm: vm_id(1), desired: Desired::Stopped, grace: None, expect: None });
    let digest_of_vms = bench.view().vms().unwrap();
    let again = bench.apply(&asked).unwrap().unwrap();
    assert!(!first.replayed && again.replayed);
    assert_eq!(first.reply, again.reply);
    assert_eq!(bench.view().vms().unwrap(), digest_of_vms, "nothing is done twice");
    let other = envelope(local(), "k", bench.at, create(2, 0));
    assert_eq!(bench.apply(&other).unwrap(), Err(Reject::KeyReused));
    let someone_else = envelope(Actor::Token(token_id(12)), "k", bench.at, create(2, 0));
    assert!(!bench.apply(&someone_else).unwrap().unwrap().replayed, "keys belong to their actor");
}

#[test]
fn rejects_are_not_remembered() {
    let mut bench = Bench::cluster(1);
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    let asked = envelope(local(), "k", bench.at, create(1, 0));
    assert_eq!(bench.apply(&asked).unwrap(), Err(Reject::Cordoned(node_id(0))));
    bench.done(Command::SetCordon { node: node_id(0), cordoned: false });
    assert!(!bench.apply(&asked).unwrap().unwrap().replayed);
}

#[test]
fn a_revoked_token_cannot_even_repeat_itself() {
    let mut bench = Bench::cluster(1);
    let asked = envelope(Actor::Token(token_id(11)), "k", bench.at, create(1, 0));
    bench.apply(&asked).unwrap().unwrap();
    bench.done(Command::RevokeApiToken(token_id(11)));
    assert_eq!(bench.apply(&asked).unwrap(), Err(Reject::UnknownActor));
}

#[test]
fn requests_are_forgotten_by_age() {
    for (origin, lifetime) in [(Origin::Client, 24 * HOUR), (Origin::Internal, 10 * MINUTE)] {
        let mut bench = Bench::cluster(1);
        let mut asked = envelope(local(), "k", bench.at, Command::SetCordon { node: node_id(0), cordoned: true });
        asked.request.origin = origin;
        bench.apply(&asked).unwrap().unwrap();
        asked.at = Timestamp(bench.at.0 + lifetime - 1);
        assert!(bench.apply(&asked).unwrap().unwrap().replayed, "{origin:?}");
        asked.at = Timestamp(bench.at.0 + lifetime);
        assert!(!bench.apply(&asked).unwrap().unwrap().replayed, "{origin:?}");
    }
}

#[test]
fn requests_are_bounded_in_number_and_bytes() {
    let mut bench = Bench::cluster(1);
    let before = requests(&bench);
    assert!(before > 3);
    // As if as many as are kept had come in between.
    let newest = "number = (SELECT max(number) FROM requests)";
    bench.tamper(&format!("UPDATE requests SET number = number + 99998 WHERE {newest}"));
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    assert_eq!(requests(&bench), 2, "of the old ones only the newest is within the bound");
    bench.done(Command::SetCordon { node: node_id(0), cordoned: false });
    bench.tamper(&format!("UPDATE requests SET bytes = bytes + (64 << 20) WHERE {newest}"));
    bench.done(Command::SetCordon { node: node_id(0), cordoned: true });
    assert_eq!(requests(&bench), 2, "of three old ones only the newest is within the bound");
}

#[test]
fn no_secret_enters_an_event() {
    let mut bench = Bench::cluster(2);
    bench.done(create(1, 0));
    bench.done(Command::CreateJoinToken(join_token(33)));
    let events: Vec<Event> = bench.view().events(&EventQuery::first(1000)).unwrap();
    let text = format!("{events:?}");
    for secret in ["hunter2", "the key of the CA", "2121212121212121", &format!("{:?}", [33_u8; 32])] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    let created = events
        .iter()
        .find(|e| e.kind == EventKind::Created && matches!(e.subject, waifud_model::event::Subject::Vm(..)));
    let change = created.unwrap().changes.iter().find(|c| c.field == "user_data").unwrap();
    assert_eq!(change.new.as_deref(), Some("blake3:550ad7eb9901 32 bytes"));
    let source = events.iter().flat_map(|e| &e.changes).find(|c| c.field == "source").unwrap();
    assert_eq!(source.new.as_deref(), Some("https://example.com/image.qcow2"));
}

#[test]
fn log_time_never_goes_back_and_rejects_do_not_move_it() {
    let mut bench = Bench::cluster(1);
    bench.at = Timestamp(START.0 + HOUR);
    assert_eq!(made(&mut bench, create(1, 0)).created_at, bench.at);
    bench.at = START;
    assert_eq!(made(&mut bench, create(2, 0)).created_at, Timestamp(START.0 + HOUR));
    bench.at = Timestamp(START.0 + 2 * HOUR);
    bench.refused(create(2, 0));
    assert_eq!(bench.view().log_time().unwrap(), Timestamp(START.0 + HOUR));
    bench.at = Timestamp(u64::MAX);
    assert!(bench.refused(create(3, 0)).starts_with("at: "));
}

#[test]
fn tokens_end_at_their_moment() {
    let mut bench = Bench::cluster(1);
    let end = Timestamp(START.0 + HOUR);
    let token = waifud_model::token::ApiToken { expires_at: Some(end), ..api_token(20, Role::Admin) };
    bench.done(Command::CreateApiToken(Box::new(token)));
    bench.done(Command::CreateJoinToken(JoinToken { expires_at: end, ..join_token(21) }));
    let holder = Actor::Token(token_id(20));
    bench.at = Timestamp(end.0 - 1);
    bench.by(holder.clone(), add_node(1, 21)).unwrap();
    bench.at = end;
    assert_eq!(bench.by(holder, add_node(2, 21)), Err(Reject::UnknownActor));
    assert_eq!(bench.refused(add_node(2, 21)), "join token 0000000000000016 is expired");
}

#[test]
fn joining_twice_is_joining_once() {
    let mut bench = Bench::cluster(1);
    bench.done(Command::CreateJoinToken(JoinToken { uses_left: 1, ..join_token(1) }));
    let first = bench.done(add_node(1, 1)).reply;
    let again = bench.by(Actor::Node(node_id(1)), add_node(1, 1)).unwrap();
    assert_eq!((first, false), (again.reply, again.replayed));
    assert_eq!(bench.refused(add_node(2, 1)), "join token 0000000000000002 is used up");
    let imposter = NewNode { fingerprint: new_node(9).fingerprint, ..new_node(1) };
    let imposter = Command::AddNode(Box::new(AddNode { node: imposter, token: token_id(100) }));
    assert_eq!(bench.refused(imposter), "the id of the new node is taken by node 0000000000000002");
}

#[test]
fn a_shutdown_from_inside_is_a_wish_unless_somebody_decided_otherwise() {
    use EventKind::{Crashed, Stopped};
    // Policy, kind, from inside, generation reported; stopped afterwards?
    let cases = [
        (RestartPolicy::OnFailure, Stopped, true, 1, true),
        (RestartPolicy::Never, Stopped, true, 1, true),
        (RestartPolicy::Always, Stopped, true, 1, false),
        (RestartPolicy::OnFailure, Stopped, false, 1, false),
        (RestartPolicy::OnFailure, Crashed, true, 1, false),
        (RestartPolicy::OnFailure, Stopped, true, 0, false),
        (RestartPolicy::OnFailure, Stopped, true, 2, false),
    ];
    for (policy, kind, by_guest, generation, stopped) in cases {
        let mut bench = Bench::cluster(1);
        let mut create = vm(1, 0);
        create.spec.restart = policy;
        bench.done(Command::CreateVm(Box::new(create)));
        let report = report(1, kind, generation, by_guest);
        bench.by(Actor::Node(node_id(0)), Command::ReportVmEvents(vec![report.clone()])).unwrap();
        let vm = bench.view().vm(vm_id(1)).unwrap().unwrap();
        let expected = if stopped { (Desired::Stopped, Generation(2)) } else { (Desired::Running, Generation(1)) };
        assert_eq!((vm.desired, vm.generation), expected, "{policy:?} {report:?}");
    }
}

#[test]
fn reports_are_of_the_owner_and_their_errors_are_cut() {
    let mut bench = Bench::cluster(2);
    bench.done(create(1, 0));
    let report = VmReport { detail: Some("ä".repeat(1000)), ..report(1, EventKind::Failed, 1, false) };
    let batch = Command::ReportVmEvents(vec![report]);
    assert_eq!(bench.by(Actor::Node(node_id(1)), batch.clone()), Err(Reject::NotYours(node_id(1))));
    assert_eq!(bench.by(local(), batch.clone()), Err(Reject::NodesOnly));
    bench.by(Actor::Node(node_id(0)), batch).unwrap();
    let event = bench.view().events(&EventQuery::last(1)).unwrap().remove(0);
    assert_eq!(event.changes[0].new.as_ref().map(String::len), Some(1024));
    let gone = Command::ReportVmEvents(vec![self::report(9, EventKind::Stopped, 1, false)]);
    assert_eq!(bench.by(Actor::Node(node_id(0)), gone).unwrap().reply, Reply::Done);
    assert_eq!(bench.view().events(&EventQuery::last(1)).unwrap(), [event], "nothing is said about a VM that is gone");
}

#[test]
fn a_console_that_is_opened_is_an_event_and_changes_nothing() {
    let mut bench = Bench::cluster(2);
    let vm = made(&mut bench, create(1, 0));
    bench.done(Command::CreateApiToken(Box::new(api_token(30, Role::Operator))));
    bench.done(Command::CreateApiToken(Box::new(api_token(31, Role::Viewer))));
    let (operator, viewer) = (Actor::Token(token_id(30)), Actor::Token(token_id(31)));
    let open = |n, console| Command::OpenConsole { vm: vm_id(n), console };
    assert_eq!(bench.by(operator.clone(), open(2, Console::Screen)), Err(Reject::NoSuchVm(vm_id(2))));
    // Nodes look at none, not even at those of their own VMs.
    for other in [viewer, Actor::Node(node_id(0))] {
        let refused = bench.by(other, open(1, Console::Screen));
        assert_eq!(refused, Err(Reject::NotAllowed { needed: Role::Operator }));
    }
    for (console, told) in
        [(Console::Serial, "serial"), (Console::SerialReadOnly, "serial (read only)"), (Console::Screen, "screen")]
    {
        assert_eq!(bench.by(operator.clone(), open(1, console)).unwrap().reply, Reply::Vm(Box::new(vm.clone())));
        let event = bench.view().events(&EventQuery::last(1)).unwrap().remove(0);
        assert_eq!((&event.actor, event.kind), (&operator, EventKind::Opened));
        assert_eq!((event.subject, event.command.as_str()), (Subject::Vm(vm.id, vm.name.clone()), "open_console"));
        let change = Change { field: "console".to_owned(), old: None, new: Some(told.to_owned()) };
        assert_eq!(event.changes, [change]);
    }
    assert_eq!(bench.view().vm(vm.id).unwrap(), Some(vm));
}

#[test]
fn a_deleted_vm_keeps_its_place_until_the_owner_confirms() {
    let mut bench = Bench::cluster(2);
    let vm = made(&mut bench, create(1, 0));
    bench.done(Command::DeleteVm { vm: vm.id, expect: Some(Generation(1)) });
    bench.done(Command::DeleteVm { vm: vm.id, expect: None });
    assert!(
        bench
            .refused(Command::CreateVm(Box::new(waifud_model::command::CreateVm { id: vm_id(2), ..self::vm(1, 1) })))
            .contains("vm1 is taken")
    );
    assert!(
        bench
            .refused(Command::SetPower { vm: vm.id, desired: Desired::Stopped, grace: None, expect: None })
            .contains("being deleted")
    );
    let confirm = Command::ConfirmVmGone { vm: vm.id };
    assert_eq!(bench.by(Actor::Node(node_id(1)), confirm.clone()), Err(Reject::NotYours(node_id(1))));
    bench.by(Actor::Node(node_id(0)), confirm).unwrap();
    assert_ne!(made(&mut bench, create(1, 0)).ip, vm.ip, "its address rests");
}

#[test]
fn the_address_freed_last_is_given_last() {
    let mut bench = Bench::cluster(1);
    let small = |n| {
        let mut create = vm(n, 0);
        (create.spec.cpus, create.spec.memory, create.spec.disk) = (1, ByteSize::mib(64), ByteSize::gib(2));
        Command::CreateVm(Box::new(create))
    };
    let mut give = |n| made(&mut bench, small(n)).ip.octets()[3];
    assert_eq!((0..3).map(&mut give).collect::<Vec<_>>(), [2, 3, 4]);
    bench.done(Command::DeleteVm { vm: vm_id(1), expect: None });
    bench.by(Actor::Node(node_id(0)), Command::ConfirmVmGone { vm: vm_id(1) }).unwrap();
    let mut give = |n| made(&mut bench, small(n)).ip.octets()[3];
    assert_eq!((10..21).map(&mut give).collect::<Vec<_>>(), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 3]);
    assert_eq!(bench.refused(small(30)), "no address is free in the subnet of node 0000000000000001");
}

#[test]
fn a_lost_nodes_names_are_free_and_its_word_is_worth_nothing() {
    let mut bench = Bench::cluster(2);
    bench.done(create(1, 1));
    assert_eq!(
        bench.refused(Command::RemoveNode { node: node_id(1), force: false }),
        "1 VMs are placed on node 0000000000000002"
    );
    bench.done(Command::RemoveNode { node: node_id(1), force: true });
    assert_eq!(made(&mut bench, create(1, 0)).name, VmName::new("vm1").unwrap());
    for actor in [Actor::Node(node_id(1)), Actor::Local { node: node_id(1), uid: 0 }] {
        let cordon = Command::SetCordon { node: node_id(1), cordoned: true };
        assert_eq!(bench.by(actor, cordon), Err(Reject::UnknownActor));
    }
    assert_eq!(bench.refused(Command::RemoveNode { node: node_id(0), force: true }), "the last node cannot be removed");
}

#[test]
fn specs_outside_their_limits_name_the_limit() {
    let mut bench = Bench::cluster(1);
    let mut refusal = |spoil: &dyn Fn(&mut waifud_model::vm::VmSpec)| {
        let mut create = vm(1, 0);
        spoil(&mut create.spec);
        bench.refused(Command::CreateVm(Box::new(create)))
    };
    let found = [
        refusal(&|s| s.cpus = 0),
        refusal(&|s| s.cpus = 5),
        refusal(&|s| s.memory = ByteSize::ZERO),
        refusal(&|s| s.memory = ByteSize::bytes((64 << 20) + 1)),
        refusal(&|s| s.memory = ByteSize::bytes(u64::MAX - ((1 << 20) - 1))),
        refusal(&|s| s.disk = ByteSize::bytes(1000)),
        refusal(&|s| s.disk = ByteSize::gib(1)),
        refusal(&|s| s.disk = ByteSize::gib(101)),
        refusal(&|s| s.cloud_init.ssh_keys = vec!["a\nb".to_owned()]),
        refusal(&|s| s.cloud_init.ssh_keys = vec!["k".to_owned(); 65]),
        refusal(&|s| s.cloud_init.ssh_keys = vec!["k".repeat(8000); 9]),
        refusal(&|s| s.image.template = template(9)),
        refusal(&|s| s.image.version = version(9)),
    ];
    expect_test::expect![[r#"
        cpus: 0 given; 1 to 4 are possible on node node0
        cpus: 5 given; 1 to 4 are possible on node node0
        memory: 0 B given; at least 64 MiB, in whole MiB
        memory: 64.0 MiB given; at least 64 MiB, in whole MiB
        node 0000000000000001 has 8589934592 of memory left to promise, 18446744073708503040 are wanted
        disk: 1000 bytes given; a multiple of 512 is needed
        a disk of 1 GiB is smaller than the template's 2 GiB
        node 0000000000000001 has 107374182400 of disk left to promise, 108447924224 are wanted
        ssh_keys: each is one line of at most 8192 bytes
        ssh_keys: 65 given; at most 64
        ssh_keys: at most 65536 bytes in all
        there is no template template-9
        template template-0 has no version 0909090909090909090909090909090909090909090909090909090909090909"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn a_constraint_that_holds_is_a_reject_that_leaves_nothing() {
    let mut bench = Bench::cluster(1);
    let before = bench.view().digest().unwrap();
    let twin = waifud_model::token::ApiToken { id: token_id(50), ..api_token(10, Role::Viewer) };
    let refused = bench.by(local(), Command::CreateApiToken(Box::new(twin)));
    assert_eq!(refused, Err(Reject::Constraint("UNIQUE constraint failed: api_tokens.hash".to_owned())));
    assert_eq!(bench.view().digest().unwrap(), before);
}

#[test]
fn what_this_build_does_not_know_halts_it() {
    let mut bench = Bench::cluster(1);
    let raise = |level| envelope(Actor::Node(node_id(0)), "raise", START, Command::RaiseFeatureLevel(level));
    assert_eq!(bench.apply(&raise(3)).unwrap(), Err(Reject::BadFeatureLevel { wanted: 3, current: 1 }));
    assert!(matches!(bench.apply(&raise(2)), Err(Halt::TooOld { wanted: 2, known: 1 })));
}

#[test]
fn a_full_disk_halts_and_a_damaged_row_does_not_read() {
    let mut bench = Bench::cluster(1);
    bench.done(create(1, 0));
    let pages: i64 = bench.db.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    bench.db.pragma_update(None, "max_page_count", pages).unwrap();
    let mut big = vm(2, 0);
    big.spec.cloud_init.user_data = Some(secret(&"x".repeat(60_000)));
    let full = bench.apply(&envelope(local(), "big", START, Command::CreateVm(Box::new(big))));
    assert!(matches!(full, Err(Halt::Write(_))), "{full:?}");

    let bench = Bench::cluster(1);
    bench.db.execute("UPDATE nodes SET more = x'c1'", []).unwrap();
    let read = View::new(&bench.db).nodes();
    assert!(matches!(read, Err(ReadError::Corrupt { table: "nodes", .. })), "{read:?}");
}

#[test]
fn the_digest_sees_every_table() {
    let mut bench = Bench::cluster(2);
    bench.done(create(1, 0));
    bench.done(Command::AddNetPeer { name: peer_name(0), key: mesh_end(9).key });
    bench.done(Command::SetCloudDefaults(Box::new(waifud_model::command::SetCloudDefaults {
        user_data: None,
        vendor_data: None,
        expect: None,
    })));
    let digest = || View::new(&bench.db).digest().unwrap();
    let before = digest();
    for table in waifud_consensus::state::TABLES {
        bench.db.execute_batch("SAVEPOINT probe; PRAGMA defer_foreign_keys = ON").unwrap();
        let gone = bench.db.execute(&format!("DELETE FROM {}", table.name), []).unwrap();
        assert!(gone > 0, "{} is empty, so nothing is proven", table.name);
        assert_ne!(digest(), before, "{}", table.name);
        bench.db.execute_batch("ROLLBACK TO probe; RELEASE probe").unwrap();
    }
    bench.db.execute("INSERT INTO raft VALUES ('note', x'00')", []).unwrap();
    assert_eq!(digest(), before, "what is this node's own does not count");
    let listed: Vec<String> = waifud_consensus::state::TABLES.iter().map(|table| table.name.to_owned()).collect();
    let mut statement =
        bench.db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'raft'").unwrap();
    let there: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(there.iter().all(|name| listed.contains(name)), "{there:?}");
}

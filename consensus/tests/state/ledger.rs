//! What apply remembers from one command to the next can never be told from the rows, at the bounds either.

use crate::fixture::*;
use waifud_consensus::state::Ledger;
use waifud_model::{
    command::{Actor, Command, Origin},
    event::EventKind,
    reject::Reject,
    time::Timestamp,
};

#[test]
fn remembering_changes_nothing() {
    let [mut with, mut without] = [Bench::cluster(1), Bench::cluster(1)];
    let mut steps = Vec::new();
    // Near all bounds, then past one after the other: number, bytes, age.
    let bounds = [
        "UPDATE events SET nth = nth + 99990 WHERE person = 1 AND nth = (SELECT max(nth) FROM events WHERE person = 1)",
        "UPDATE events SET nth = nth + 99990 WHERE person = 0 AND nth = (SELECT max(nth) FROM events WHERE person = 0)",
        "UPDATE requests SET number = number + 99990 WHERE number = (SELECT max(number) FROM requests)",
        "UPDATE requests SET bytes = bytes + (64 << 20) WHERE number = (SELECT max(number) FROM requests)",
    ];
    let crash = || Command::ReportVmEvents(vec![report(1, EventKind::Crashed, 1, false); 7]);
    for (round, leap) in [0, 11 * MINUTE, 25 * HOUR, 401 * 24 * HOUR, 0].into_iter().enumerate() {
        let cordon = |n: usize| Command::SetCordon { node: node_id(0), cordoned: n.is_multiple_of(2) };
        for n in 0..12 {
            let leap = if n == 0 { leap } else { 1 };
            steps.push((leap, local(), Origin::Client, format!("{round}-{n}"), cordon(n)));
            steps.push((0, Actor::Node(node_id(0)), Origin::Internal, format!("{round}-{n}"), crash()));
        }
        // A repetition; the key of another; what is refused after its events were written, and before.
        steps.push((1, local(), Origin::Client, format!("{round}-11"), cordon(11)));
        steps.push((1, local(), Origin::Client, format!("{round}-11"), cordon(0)));
        steps.push((1, local(), Origin::Client, format!("{round}-twice"), create(1, 0)));
        steps.push((1, Actor::Token(token_id(10)), Origin::Client, format!("{round}-no"), cordon(0)));
    }
    for bench in [&mut with, &mut without] {
        bench.done(create(1, 0));
    }
    let (mut refused, mut shrunk) = (0, [0; 2]);
    let rows = |bench: &Bench| {
        ["events", "requests"].map(|table| {
            let sql = format!("SELECT count(*) FROM {table}");
            bench.db.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
        })
    };
    for (n, (leap, actor, origin, key, command)) in steps.into_iter().enumerate() {
        if let Some(bound) = bounds.get(n / 20).filter(|_| n % 20 == 10) {
            assert!(with.tamper(bound) > 0 && without.tamper(bound) > 0, "{bound}");
        }
        with.at = Timestamp(with.at.0 + leap);
        let mut asked = envelope(actor, &key, with.at, command);
        asked.request.origin = origin;
        let before = rows(&with);
        let outcome = with.apply(&asked).unwrap();
        for ((after, before), shrunk) in rows(&with).into_iter().zip(before).zip(&mut shrunk) {
            *shrunk += u32::from(after < before);
        }
        without.ledger = Ledger::default();
        assert_eq!(without.apply(&asked).unwrap(), outcome, "{asked:?}");
        assert_eq!(with.view().digest().unwrap(), without.view().digest().unwrap(), "{asked:?}");
        refused +=
            u32::from(matches!(outcome, Err(Reject::KeyReused | Reject::IdTaken(_) | Reject::NotAllowed { .. })));
    }
    assert_eq!(refused, 15);
    assert!(shrunk.iter().all(|times| *times >= 3), "{shrunk:?}: no bound was met");
}

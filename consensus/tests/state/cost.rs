//! What a command costs, printed.

use crate::fixture::*;
use std::time::Instant;
use waifud_model::{
    command::{Actor, Command},
    time::Timestamp,
    vm::Desired,
};

/// How many commands are counted.
const COMMANDS: u32 = 5_000;

/// Run alone and optimised: `cargo test --profile fast -p waifud-consensus --test state -- --ignored --nocapture cost`. How
/// many instructions that is, valgrind tells: `--tool=callgrind --toggle-collect=waifud_consensus::state::apply::apply`.
#[test]
#[ignore = "prints times, and means something only where nothing else runs"]
#[allow(clippy::print_stdout, reason = "the times are what it is for")]
fn what_a_command_costs() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::on(&dir.path().join("state.db"));
    founding(1).into_iter().for_each(|command| drop(bench.done(command)));
    (0..5).for_each(|n| drop(bench.done(create(n, 0))));
    // A moment of today: what is kept for a year is looked at too.
    bench.at = Timestamp(1_760_000_000_000);
    for (name, actor) in [("local", local()), ("token", Actor::Token(token_id(11)))] {
        let envelopes: Vec<_> = (0..COMMANDS)
            .map(|n| {
                let vm = vm_id(u8::try_from(n % 5).unwrap());
                let desired = if n / 5 % 2 == 0 { Desired::Stopped } else { Desired::Running };
                let set = Command::SetPower { vm, desired, grace: None, expect: None };
                envelope(actor.clone(), &format!("{name}-{n}"), Timestamp(bench.at.0 + u64::from(n)), set)
            })
            .collect();
        let begun = Instant::now();
        for group in envelopes.chunks(64) {
            bench.db.execute_batch("BEGIN IMMEDIATE").unwrap();
            group.iter().for_each(|envelope| drop(bench.apply(envelope).unwrap().unwrap()));
            bench.db.execute_batch("COMMIT").unwrap();
        }
        println!("{name}: {:?} a command", begun.elapsed() / COMMANDS);
    }
}

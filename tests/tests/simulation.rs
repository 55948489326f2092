//! Whole clusters in simulated time. A seed that fails here is printed with the command that replays it.
//!
//! The simulation is a program of its own, `waifud-sim`: only in a process that takes every random number from the seed does
//! the same seed give the same run.

#![allow(clippy::expect_used, reason = "what helps a test fails as the test does")]
#![expect(clippy::print_stdout, reason = "how much was simulated is to be read after a success, too")]

use std::{
    env,
    process::{Command, Output},
};
use waifud_tests::sim::{Outcome, Planted};

/// What two busy CPUs simulate in a minute without optimisation, with openraft's own assertions. `WAIFUD_TEST_SEEDS` is another
/// number of them, `waifud-sim --seeds` begins where it is told.
const SEEDS: &str = "24";

/// A bug that needs more is one that the invariants do not look for.
const SEEDS_FOR_A_BUG: &str = "200";

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waifud-sim")).args(args).output().expect("waifud-sim runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn outcome(output: &Output) -> Outcome {
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn nothing_breaks_whatever_happens_to_nodes_wires_and_guests() {
    let seeds = env::var("WAIFUD_TEST_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    let output = simulate(&["--seeds", &seeds]);
    println!("{}", said(&output));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in ["0x5eed", "0x2a", "7"] {
        let (first, second) = (outcome(&simulate(&["--seed", seed])), outcome(&simulate(&["--seed", seed])));
        assert_eq!(first, second, "seed {seed}");
        assert!(first.tally.steps > 100 && first.tally.writes > 0, "hardly anything happened: {first:?}");
    }
    let (one, another) = (outcome(&simulate(&["--seed", "1"])), outcome(&simulate(&["--seed", "2"])));
    assert_ne!(one.trace, another.trace, "all seeds are one");
}

#[test]
fn the_trace_says_what_happened_up_to_the_violation() {
    let bug = Planted::ForeignOwner.as_str();
    let output = simulate(&["--seed", "0", "--trace", "--planted", bug]);
    assert!(!output.status.success());
    let outcome = outcome(&output);
    assert!(outcome.violation.is_some());
    let text = said(&output);
    assert!(text.contains("n1 starts") && text.contains("step 1\n"), "{text}");
}

#[test]
fn planted_bugs_are_found() {
    for bug in Planted::ALL {
        let output = simulate(&["--seeds", SEEDS_FOR_A_BUG, "--planted", bug.as_str()]);
        let text = said(&output);
        println!("{text}");
        assert!(output.status.success(), "{bug} is not found in {SEEDS_FOR_A_BUG} seeds: {text}");
        let replay = text.lines().find_map(|line| line.split("--seed ").nth(1)?.split(' ').next());
        let replayed = outcome(&simulate(&["--seed", replay.expect("a seed to replay"), "--planted", bug.as_str()]));
        assert!(replayed.violation.is_some(), "{bug} is not found again by the seed that found it");
    }
}

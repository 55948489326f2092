//! Runs seeds of the simulation, or replays one.
//!
//! ```text
//! cargo run -p waifud-tests --bin waifud-sim -- --seeds 1000
//! cargo run -p waifud-tests --bin waifud-sim -- --seed 0x2a --trace
//! ```
//!
//! Each seed is run by a process of its own, in which every random number follows from the seed.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod many;
mod random;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};
use waifud_tests::sim::{Outcome, Planted, Run, run};

/// Whole clusters in simulated time: runs many seeds, or replays one
#[derive(Debug, Parser)]
struct Args {
    /// Run this many seeds
    #[arg(long, default_value_t = 100, conflicts_with = "seed")]
    seeds: u64,
    /// Begin with this seed
    #[arg(long, default_value = "0", value_parser = number)]
    first: u64,
    /// Run so many at the same time [default: one a CPU]
    #[arg(long)]
    jobs: Option<usize>,
    /// Replay this seed
    #[arg(long, value_parser = number)]
    seed: Option<u64>,
    /// Print all that happens in it
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Plant a bug; it is a failure not to find it
    #[arg(long)]
    planted: Option<Planted>,
}

fn number(text: &str) -> Result<u64, std::num::ParseIntError> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if !random::is_ours() {
        bail!("this build takes its random numbers from elsewhere, so a seed would not give the same run twice");
    }
    let well = match args.seed {
        Some(seed) => one(seed, args.planted, args.trace)?,
        None => many::run(args.first, args.seeds, args.jobs, args.planted)?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one seed, and prints its outcome as JSON.
fn one(seed: u64, planted: Option<Planted>, trace: bool) -> Result<bool> {
    let files = Files::new()?;
    let dir = files.0.clone();
    random::seed(seed);
    // A thread of its own, for whose hash keys nothing was drawn yet.
    let thread = thread::spawn(move || {
        run(Run { seed, planted, dir, echo: trace.then(|| Box::new(io::stdout()) as Box<dyn io::Write + Send>) })
    });
    let outcome: Outcome = match thread.join() {
        Ok(outcome) => outcome?,
        Err(_) => bail!("the simulation itself panicked"),
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(outcome.violation.is_none())
}

/// What the directories of these processes' files are called, before the process's number.
const PREFIX: &str = "waifud-sim-";

/// Where the nodes' files are, gone when dropped. In memory where possible: they need not outlive anything.
struct Files(PathBuf);

impl Files {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        sweep(&base);
        // Names drawn at random would be the same in every process here.
        let dir = base.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }
}

/// Away with what processes left that were killed.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            // Another process may be doing the same.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is in memory, or in the directory for what need not stay.
        let _ = fs::remove_dir_all(&self.0);
    }
}

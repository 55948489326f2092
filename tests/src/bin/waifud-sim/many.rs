//! Many seeds, each in a process of its own, some at the same time.

use anyhow::{Context, Result};
use std::{
    num::NonZero,
    process::{Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};
use waifud_tests::sim::{Outcome, Planted, Tally};

/// What all workers share.
struct Work {
    next: AtomicU64,
    end: u64,
    planted: Option<Planted>,
    /// A planted bug was found: that is all that was asked.
    enough: AtomicBool,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    seeds: u64,
    total: Tally,
    failed: Vec<Outcome>,
}

/// Runs the seeds, and prints what came of them. True if nothing was found, or a planted bug was.
pub(crate) fn run(first: u64, seeds: u64, jobs: Option<usize>, planted: Option<Planted>) -> Result<bool> {
    let jobs = jobs.or_else(|| thread::available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    let work = Work {
        next: AtomicU64::new(first),
        end: first.saturating_add(seeds),
        planted,
        enough: AtomicBool::new(false),
        done: Mutex::default(),
    };
    let began = Instant::now();
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(|| worker(&work))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker died"))).collect()
    });
    results.into_iter().collect::<Result<()>>()?;
    let done = work.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    print(&done, began.elapsed().as_secs_f64(), jobs);
    Ok(done.failed.is_empty() == planted.is_none())
}

fn worker(work: &Work) -> Result<()> {
    loop {
        let seed = work.next.fetch_add(1, Ordering::Relaxed);
        if seed >= work.end || work.enough.load(Ordering::Relaxed) {
            return Ok(());
        }
        let outcome = child(seed, work.planted)?;
        let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.seeds += 1;
        done.total += outcome.tally;
        if outcome.violation.is_some() {
            tell(&outcome, work.planted);
            done.failed.push(outcome);
            work.enough.fetch_or(work.planted.is_some(), Ordering::Relaxed);
        }
    }
}

fn child(seed: u64, planted: Option<Planted>) -> Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--seed").arg(seed.to_string()).stdin(Stdio::null());
    if let Some(planted) = planted {
        command.arg("--planted").arg(planted.as_str());
    }
    let output = command.output()?;
    let lines = String::from_utf8_lossy(&output.stdout);
    let last = lines.lines().last().unwrap_or_default();
    serde_json::from_str(last).with_context(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("seed {seed:#x} was not simulated to an end ({}): {said}", output.status)
    })
}

fn tell(outcome: &Outcome, planted: Option<Planted>) {
    let violation = outcome.violation.as_deref().unwrap_or_default();
    let bug = planted.map_or(String::new(), |planted| format!(" --planted {planted}"));
    let seed = outcome.seed;
    println!("seed {seed:#x}: {violation}");
    println!("  replay: cargo run -p waifud-tests --bin waifud-sim -- --seed {seed:#x} --trace{bug}");
}

fn print(done: &Done, seconds: f64, jobs: usize) {
    let Done { seeds, total, failed } = done;
    let each = |count: u64| count.checked_div(*seeds).unwrap_or(0);
    println!(
        "{seeds} seeds in {seconds:.1} s, {jobs} at a time ({:.0} a minute); {} failed",
        60.0 * *seeds as f64 / seconds,
        failed.len()
    );
    println!(
        "a seed, on average: {} steps in {} s of simulated time, {} writes acknowledged, {} refused, {} without an answer \
         ({} done by a node alone), {} VMs, {} terms, {} crashes, {} snapshots sent, {} messages",
        each(total.steps),
        each(total.millis) / 1000,
        each(total.writes),
        each(total.refused),
        each(total.unanswered),
        each(total.alone),
        each(total.vms),
        each(total.terms),
        each(total.crashes),
        each(total.snapshots),
        each(total.messages),
    );
}

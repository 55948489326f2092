//! Measures waifud beside etcd, plain libvirt, nginx, stock WireGuard and the disk, and prints one table. See `tests/lab/bench.sh`, which builds
//! and installs what it needs.
//!
//! ```text
//! waifud-bench                         everything, some minutes
//! waifud-bench --smoke                 everything, with tiny counts: whether it works, not how fast
//! waifud-bench --only records,guests   some parts
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is what it is for")]

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum as _};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use waifud_tests::bench::{Crowd, Part, Scale, Table, make_crowd, run, serve_raft};

/// Measures waifud beside etcd, plain libvirt, nginx, stock WireGuard and the disk
#[derive(Debug, Parser)]
struct Args {
    /// Tiny counts: shows that everything that is measured works
    #[arg(long)]
    smoke: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One node of consensus alone, on a host of the lab; started by the benchmark itself
    #[command(hide = true)]
    RaftNode {
        /// Its directory
        dir: PathBuf,
    },
    /// Many silent nodes and their VMs, from a host of the lab; started by the benchmark itself
    #[command(hide = true)]
    Crowd(Crowd),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Command::RaftNode { dir }) => return serve_raft(&dir).await,
        Some(Command::Crowd(crowd)) => {
            println!("{}", make_crowd(&crowd).await?);
            return Ok(());
        }
        None => {}
    }
    let scale = if args.smoke { Scale::smoke() } else { Scale::full() };
    let parts = match args.only.is_empty() {
        true => Part::value_variants().iter().copied().collect(),
        false => args.only.into_iter().collect(),
    };
    let begun = Instant::now();
    let progress = |what: &str| eprintln!("[{:4} s, load {}] {what}", begun.elapsed().as_secs(), load());
    let before = load();
    let mut table = Table::default();
    let outcome = run(&scale, &parts, &mut table, &progress).await;
    println!("{} on {}; load {before} before, {} after", build()?, machine(), load());
    println!("The ratio is waifud's figure to the one beside it, both taken in this run.");
    print!("{table}");
    outcome
}

/// The programs that were measured: those beside this one.
fn build() -> Result<String> {
    let this = std::env::current_exe()?;
    let profile = this.parent().and_then(Path::file_name).context("this program has no directory")?;
    Ok(format!("waifud {}, {} build", env!("CARGO_PKG_VERSION"), profile.to_string_lossy()))
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    format!("{cores} cores ({})", model.unwrap_or("unknown"))
}

/// How many processes wanted a core during the last minute, on average.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

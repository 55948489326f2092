//! What processes take while nobody asks anything of them.

use super::table::Figure;
use anyhow::{Context, Result};
use std::{fs, time::Duration};

/// The kernel counts a process' CPU time for user space in hundredths of a second (`USER_HZ`, fixed by its interface).
const TICKS: f64 = 100.0;

/// Memory and CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Resident memory, in MiB.
    rss: f64,
    /// Percent of one core.
    cpu: f64,
}

impl Usage {
    pub(super) fn rss(self) -> Figure {
        Figure::MiB(self.rss)
    }

    pub(super) fn cpu(self) -> Figure {
        Figure::Core(self.cpu)
    }
}

/// Watches processes for a while, and gives the most that any of them took.
pub(super) async fn measure(pids: &[i32], time: Duration) -> Result<Usage> {
    let before = pids.iter().map(|pid| cpu_seconds(*pid)).collect::<Result<Vec<_>>>()?;
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(time).await;
    let elapsed = begun.elapsed().as_secs_f64();
    let mut most = Usage { rss: 0.0, cpu: 0.0 };
    for (pid, before) in pids.iter().zip(before) {
        most.cpu = most.cpu.max((cpu_seconds(*pid)? - before) / elapsed * 100.0);
        most.rss = most.rss.max(resident(*pid)?);
    }
    Ok(most)
}

/// User and system time of a process so far, in seconds.
pub(super) fn cpu_seconds(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process ended")?;
    // The name, in brackets, may hold anything; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace()).context("no process' stat")?;
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / TICKS)
}

/// The same of a process and its children, such as a server's workers.
pub(super) fn cpu_of_family(pid: i32) -> Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).context("the process ended")?;
    let children = children.split_whitespace().map(|child| cpu_seconds(child.parse()?));
    children.chain([cpu_seconds(pid)]).sum()
}

fn resident(pid: i32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no memory in a process' status")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib / 1024.0)
}

//! Opening a guest's serial port, and catching up with what it has written before that.
//!
//! In: the hypervisor, the guest's log. Out: the port, and what it wrote until the port was open: all since it was last
//! seen, or enough to fill a screen. The log is written first and the port second, so the end of the log right after the
//! opening is where the port's bytes begin.

use super::logs::{self, SerialLogs};
use crate::hypervisor::{Hypervisor, HypervisorError, Line};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{io, sync::Arc};
use waifud_model::ids::VmId;

/// What of a log is shown again: more than any screen holds, and what a guest writes while it boots.
const MOST: u64 = 64 << 10;

/// An opening under way.
pub(super) type Opening = BoxFuture<'static, Opened>;
/// How it ended; none if the guest is off.
pub(super) type Opened = Result<Option<Open>, HypervisorError>;

/// An open port.
pub(super) struct Open {
    pub(super) line: Box<dyn Line>,
    /// What was written before.
    pub(super) before: Bytes,
    /// Where in the log the port's bytes begin.
    pub(super) at: u64,
}

/// Opens the port; `seen` is how far in the log its output is known.
pub(super) async fn open(hypervisor: Arc<dyn Hypervisor>, logs: SerialLogs, vm: VmId, seen: Option<u64>) -> Opened {
    let Some(line) = hypervisor.console(vm).await? else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || catch_up(&logs, vm, seen)).await;
    let (before, at) = read.unwrap_or_else(|error| Err(io::Error::other(error))).unwrap_or_else(|error| {
        // The console works without: the screen is then empty until the guest writes.
        tracing::warn!(%vm, %error, "a console's log cannot be read");
        (Bytes::new(), 0)
    });
    Ok(Some(Open { line, before, at }))
}

fn catch_up(logs: &SerialLogs, vm: VmId, seen: Option<u64>) -> io::Result<(Bytes, u64)> {
    let Some(mut log) = logs.open(vm)? else { return Ok((Bytes::new(), 0)) };
    let life = logs.life(vm, &log, false)?;
    // A place behind the end is in another file.
    let from = seen.filter(|seen| *seen <= life.end).unwrap_or(life.begin).max(life.begin);
    let cut = life.end.saturating_sub(from) > MOST;
    let mut at = if cut { life.end - MOST } else { from };
    let mut bytes = Vec::new();
    while at < life.end {
        let more = logs::read(&mut log, at, life.end)?;
        if more.is_empty() {
            break;
        }
        at += more.len() as u64;
        bytes.extend(more);
    }
    // What is cut begins with a whole line, so outside of any sequence but the longest.
    let line = if cut { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) } else { 0 };
    Ok((Bytes::from(bytes).slice(line..), life.end))
}

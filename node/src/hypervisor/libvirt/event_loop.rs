//! libvirt's event loop: one for the process, in a thread of its own. Lifecycle events, keep-alives and lost connections
//! are only noticed while it runs, so it has to be started before the first connection is opened, whoever opens it.

use super::explain::cause;
use crate::hypervisor::Cause;
use std::{sync::OnceLock, thread, time::Duration};
use virt::event;

/// Without any timer the loop may sleep for ever and miss what is registered later.
const TICK_MS: i32 = 500;

static STARTED: OnceLock<Result<(), Cause>> = OnceLock::new();

/// Starts the loop; does nothing if it runs.
///
/// # Errors
/// If libvirt or the system refuses. It does so for good: the outcome is remembered.
pub fn start() -> Result<(), Cause> {
    STARTED
        .get_or_init(|| {
            // libvirt prints every error on stderr unless told otherwise; ours are returned to whoever asked.
            virt::error::clear_error_callback();
            event::event_register_default_impl().map_err(|e| cause(&e))?;
            event::event_add_timeout(TICK_MS, |_, _| {}, std::ptr::null_mut()).map_err(|e| cause(&e))?;
            thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(run)
                .map_err(|e| Cause::new(format!("no thread for libvirt's events: {e}")))?;
            Ok(())
        })
        .clone()
}

fn run() {
    loop {
        if let Err(error) = event::event_run_default_impl() {
            tracing::warn!(%error, "libvirt's event loop stumbled");
            // It may fail at once again; this keeps a broken loop from taking a whole core.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

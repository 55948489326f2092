//! A connection to the kernel's routing socket, closed when it is dropped.

use rtnetlink::{Error, Handle};
use std::ops::Deref;
use tokio::task::JoinHandle;

/// An open connection, and the task that serves it.
pub(super) struct Netlink {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Netlink {
    pub(super) fn open() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| Error::NamespaceError(error.to_string()))?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }
}

impl Deref for Netlink {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

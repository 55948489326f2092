//! Calls of libvirt, each on a thread and a connection of its own, one at a time. They are few (a VM comes or goes), so the
//! connection costs nothing that matters; what matters is that a libvirtd that hangs costs one thread and no more, and that
//! nobody waits for it longer than [`PATIENCE`].

use super::NetworkError;
use std::{sync::Arc, thread, time::Duration};
use tokio::sync::{Semaphore, oneshot};
use virt::connect::Connect;

/// libvirtd restarts dnsmasq for some changes, which takes up to a second on a busy host.
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to a libvirtd.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    uri: Arc<str>,
    /// Held for as long as a thread is at work, also when nobody waits for it any more.
    turn: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(uri: &str) -> Self {
        // libvirt prints every error on stderr unless told otherwise; ours are returned to whoever asked.
        virt::error::clear_error_callback();
        Self { uri: uri.into(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Runs `work` with a connection. `doing` completes "libvirt could not".
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connect) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let hung = |_| NetworkError::Hung { doing, after: PATIENCE };
        let answer = async {
            let failed = |said: String| NetworkError::Libvirt { doing, said };
            let turn = self.turn.clone().acquire_owned().await.map_err(|e| failed(e.to_string()))?;
            let (reply, answer) = oneshot::channel();
            let uri = self.uri.clone();
            let thread = move || {
                let done = Connect::open(Some(&uri)).map_err(CallError::from).and_then(|connection| work(&connection));
                drop(turn);
                // Whoever asked may have given up.
                let _ = reply.send(done);
            };
            thread::Builder::new()
                .name("libvirt-network".to_owned())
                .spawn(thread)
                .map_err(|e| failed(format!("no thread to ask it: {e}")))?;
            match answer.await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => Err(failed(error.to_string())),
                Err(_) => Err(failed("the thread that asked it died".to_owned())),
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.map_err(hung)?
    }
}

/// How a call can fail, on its thread.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{}", .0.message())]
    Libvirt(#[from] virt::error::Error),
    #[error("its description of the network cannot be read: {0}")]
    Xml(#[from] quick_xml::DeError),
}

//! Gives the web the consoles of this node's guests, once there are any: a machine that has just joined serves its API before
//! it knows its subnet, and so before it runs guests.

use crate::console::Consoles;
use async_trait::async_trait;
use std::sync::{Arc, OnceLock};
use waifud_api::console::LogsQuery;
use waifud_model::ids::VmId;
use waifud_web::console::{Attached, ConsoleError, Consoles as Port, Line, Log, Viewer};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestConsoles(Arc<OnceLock<Consoles>>);

impl GuestConsoles {
    /// From now on `consoles` are asked.
    pub(super) fn attach(&self, consoles: Consoles) {
        if self.0.set(consoles).is_err() {
            tracing::error!("the consoles were started twice");
        }
    }

    fn get(&self) -> Result<&Consoles, ConsoleError> {
        self.0.get().ok_or(ConsoleError::Silent)
    }
}

#[async_trait]
impl Port for GuestConsoles {
    async fn attach(&self, vm: VmId, viewer: Viewer) -> Result<Attached, ConsoleError> {
        self.get()?.attach(vm, viewer).await
    }

    async fn screen(&self, vm: VmId) -> Result<Box<dyn Line>, ConsoleError> {
        self.get()?.screen(vm).await
    }

    async fn log(&self, vm: VmId, part: LogsQuery) -> Result<Log, ConsoleError> {
        self.get()?.log(vm, part).await
    }
}

//! Who opened a console of a VM, for the audit trail.
//!
//! In: who, and a console that is open by then. Out: nothing that anybody waits for: consoles are for the hours without a
//! quorum too.

use super::Author;
use crate::{app::App, caller::Caller, idempotency, request_id};
use std::error::Error;
use waifud_model::{
    command::Command,
    digest::Blake3,
    vm::{Console, Vm},
};

/// Has the cluster keep it as an event: one proposal, with the patience of any other. Should nothing come of it, this node's
/// log alone says who it was.
pub(crate) fn tell(app: &App, caller: &Caller, vm: &Vm, console: Console) {
    tracing::info!(vm = %vm.name, who = %caller.actor, %console, "a console is opened");
    // A client's own key is none for this: whoever comes again has opened it again.
    let key = idempotency::fresh(app.random.as_ref(), Blake3::of(vm.id.to_string().as_bytes()));
    let author = Author::new(caller.clone(), key);
    let (consensus, id, name) = (app.consensus.clone(), vm.id, vm.name.clone());
    request_id::spawn(async move {
        if let Err(failure) = author.propose(&consensus, Command::OpenConsole { vm: id, console }).await {
            let error = &failure as &dyn Error;
            tracing::warn!(vm = %name, who = %author.actor, %console, error, "the cluster does not know who opened a console");
        }
    });
}

//! What only a VM's owner can tell: the last error, how often it tried, and its newest sight of the guest.
//!
//! In: a VM as this node knows it. Out: the same, completed. Here, if this node is the owner; else the owner is asked for
//! the same VM, for half a second at the most. A silent owner changes nothing: the answer is then what is known here.
//! A question is forwarded once: the header [`HOPS`] stops two nodes whose replicas differ from asking each other for ever.

use crate::{
    app::App,
    caller::Caller,
    ports::{ForwardError, Known},
};
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request};
use std::time::Duration;
use waifud_api::{paths, vm as wire};
use waifud_model::{observed::VmState, vm::Vm};

/// Counts how often a request was forwarded.
pub(crate) const HOPS: &str = "waifu-hops";

/// How long the owner is waited for: a person's look at a list of ten VMs must not feel it.
const PATIENCE: Duration = Duration::from_millis(500);

/// One VM in JSON: labels, keys and an error, with room to spare.
const ANSWER_MAX: usize = 1 << 20;

/// Completes `shown` with what the owner of `vm` knows.
pub(crate) async fn complete(app: &App, caller: &Caller, headers: &HeaderMap, vm: &Vm, shown: &mut wire::Vm) {
    if vm.node == app.node {
        if let Some(Known { last_error, changes, doing, held, restarts }) = app.tasks.known(vm.id) {
            let status = &mut shown.status;
            (status.last_error, status.changes, status.doing) = (last_error, changes, doing);
            (status.held, status.restarts) = (held, restarts);
        }
        if shown.status.state == VmState::Fetching {
            shown.status.fetching = app.images.fetching(vm.spec.image.version);
        }
        return;
    }
    if headers.contains_key(HOPS) || !worth_asking(shown) {
        return;
    }
    match tokio::time::timeout(PATIENCE, ask(app, caller, vm)).await {
        // The owner may have seen newer things; a newer generation is not what this answer is about.
        Ok(Ok(owners)) if owners.id == shown.id && owners.generation == shown.generation => {
            shown.status = owners.status
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, vm = %vm.name, "the owner did not tell of its VM");
        }
        Err(_) => tracing::debug!(vm = %vm.name, "the owner took too long to tell of its VM"),
    }
}

/// A silent owner cannot be asked, and of a VM that is as it should be there is nothing more to know.
fn worth_asking(shown: &wire::Vm) -> bool {
    let status = &shown.status;
    let settled = status.state == VmState::of(shown.desired);
    status.silent.is_none() && (status.pending || !settled || !status.waits.is_empty())
}

/// Why the owner's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    #[error("the owner could not be reached")]
    Forward(#[from] ForwardError),
    #[error("the owner answered {0}")]
    Status(http::StatusCode),
    #[error("the answer broke off")]
    Body(#[from] axum::Error),
    #[error("the answer does not read")]
    Json(#[from] serde_json::Error),
}

async fn ask(app: &App, caller: &Caller, vm: &Vm) -> Result<wire::Vm, AskError> {
    let request = Request::get(paths::vm(paths::VM, &vm.name)).header(HOPS, "1").body(Body::empty())?;
    let response = app.forward(vm.node, caller, request).await?;
    if !response.status().is_success() {
        return Err(AskError::Status(response.status()));
    }
    Ok(serde_json::from_slice(&to_bytes(response.into_body(), ANSWER_MAX).await?)?)
}

//! Power: start, stop, pause, resume. Agreed on by the cluster; where it cannot agree now, done by the VM's owner alone, which
//! tells the cluster later. No other change goes this way: only a wish about a guest's power can be taken back by anybody.
//!
//! ```text
//!   propose ──> agreed
//!      └ no quorum ──> this node's VM ──────────────> done alone
//!                 └──> another's, which answers ────> passed on to it, once
//! ```

use super::{
    propose::{Author, Done},
    vm_change::{about, checked, commit, find, seen},
};
use crate::{app::App, caller::Caller, conditional::IfMatch, owner::HOPS, ports::PowerError, problem::Failure, view};
use axum::body::Body;
use http::{HeaderMap, Request, Response, header};
use std::time::Duration;
use waifud_api::{headers, paths, vm as wire};
use waifud_consensus::ProposeError;
use waifud_model::{
    command::Command,
    name::VmName,
    observed::VmState,
    reject::Reject,
    vm::{Desired, Phase, RestartPolicy, Vm},
};

/// How long the owner may take: it asks the cluster too before it does something alone, which takes up to a second.
const OWNER_WITHIN: Duration = Duration::from_secs(3);

/// What the answer says beside the VM when the cluster was not asked.
pub(crate) const ALONE: &str =
    "the cluster could not agree on it in time; the VM's node does it, and tells the cluster when it can";

/// What is wanted of a VM's power.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// What.
    pub(crate) desired: Desired,
    /// How long its guest may take to go off, in seconds.
    pub(crate) grace: Option<u32>,
}

/// What became of the wish.
#[derive(Debug)]
pub(crate) enum Powered {
    /// The cluster agreed.
    Agreed(Box<Done<wire::Vm>>),
    /// This node does it without the cluster.
    Alone(Box<wire::Vm>),
    /// The owner's answer.
    Passed(Response<Body>),
}

/// Starts, stops, pauses or resumes a VM. `headers` are the request's.
pub(crate) async fn power(
    app: &App,
    author: &Author,
    caller: &Caller,
    headers: &HeaderMap,
    name: VmName,
    wish: Wish,
    expect: IfMatch,
) -> Result<Powered, Failure> {
    let Wish { desired, grace } = Wish { grace: checked(wish.grace)?, ..wish };
    let agreed = commit(app, author, name.clone(), |vm| match desired {
        Desired::Running if lies_down(app, vm) => {
            Command::RebootVm { vm: vm.id, grace, expect: expect.0.or(Some(vm.generation)) }
        }
        _ => Command::SetPower { vm: vm.id, desired, grace, expect: expect.0 },
    });
    match agreed.await {
        Ok(done) => Ok(Powered::Agreed(Box::new(done))),
        // Not known whether agreed: if it is after all, the owner hears that its wish is granted.
        Err(
            failure @ Failure::Propose(
                ProposeError::NoQuorum { .. } | ProposeError::NoLeaderYet | ProposeError::Unknown,
            ),
        ) => {
            let (vm, node) = find(app, &author.scope, name).await?.map_err(Failure::Missing)?;
            if vm.node == app.node {
                alone(app, &vm, wish, expect, failure).await?;
                let mut shown = view::vm(&vm, node, &app.observed());
                shown.desired = desired;
                shown.status.held = Some(ALONE.to_owned());
                return Ok(Powered::Alone(Box::new(shown)));
            }
            if headers.contains_key(HOPS) {
                return Err(failure);
            }
            match pass_on(app, caller, headers, &vm, wish).await {
                Some(answer) => Ok(Powered::Passed(answer)),
                None => Err(failure),
            }
        }
        Err(failure) => Err(failure),
    }
}

/// Has its guest died, and will its owner not start it again by itself? The record says of such a VM that it shall run, so that
/// wishing for it once more would change nothing. Only a newer record gets it up, and so it cannot run behind our back.
fn lies_down(app: &App, vm: &Vm) -> bool {
    let owner = app.observed().seen(vm.node).and_then(|node| node.vms.get(&vm.id).copied());
    vm.desired == Desired::Running
        && vm.spec.restart == RestartPolicy::Never
        && owner.is_some_and(|seen| seen.state == VmState::Crashed && seen.generation == vm.generation)
}

/// Done here, without the cluster; `failure` is why it was not asked.
async fn alone(app: &App, vm: &Vm, wish: Wish, expect: IfMatch, failure: Failure) -> Result<(), Failure> {
    seen(vm, expect)?;
    if vm.phase == Phase::Deleting {
        return Err(about(vm, Reject::VmDeleting(vm.id)));
    }
    match app.tasks.power(vm, wish.desired, wish.grace).await {
        Ok(()) => Ok(()),
        Err(PowerError::NotRunning) => Err(about(vm, Reject::NotRunning(vm.id))),
        // What it has to wait for is what the failure says.
        Err(PowerError::NotYet) => Err(failure),
        Err(error @ (PowerError::NotReady | PowerError::NotKept(_))) => {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, vm = %vm.name, "power cannot be changed without the cluster");
            Err(failure)
        }
    }
}

/// The owner's answer, if it gives one in time.
async fn pass_on(
    app: &App,
    caller: &Caller,
    given: &HeaderMap,
    vm: &Vm,
    Wish { desired, grace }: Wish,
) -> Option<Response<Body>> {
    let path = match desired {
        Desired::Running => paths::VM_START,
        Desired::Stopped => paths::VM_STOP,
        Desired::Paused => paths::VM_PAUSE,
    };
    let query = grace.filter(|_| desired == Desired::Stopped).map(|seconds| format!("?grace={seconds}"));
    let uri = format!("{}{}", paths::vm(path, &vm.name), query.unwrap_or_default());
    let mut request = Request::post(uri).header(HOPS, "1");
    for name in [headers::IDEMPOTENCY_KEY, headers::IF_MATCH, header::ACCEPT.as_str()] {
        if let Some(value) = given.get(name) {
            request = request.header(name, value);
        }
    }
    let request = request.body(Body::empty()).ok()?;
    match tokio::time::timeout(OWNER_WITHIN, app.forward(vm.node, caller, request)).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, vm = %vm.name, "the owner cannot be reached");
            None
        }
        Err(_) => None,
    }
}

//! Words for consoles that cannot be had.

use crate::console::ConsoleError;
use http::StatusCode;
use waifud_api::problem::{Problem, ProblemCode};
use waifud_model::name::{NodeName, VmName};

/// Words for a plain request where a WebSocket belongs.
pub(super) fn no_websocket() -> Problem {
    let problem = Problem::new(ProblemCode::Invalid, "this path is for WebSockets (RFC 6455) over HTTP/1.1");
    let problem = problem.with_remedy("waifuctl console NAME, or waifuctl vnc NAME");
    Problem { status: StatusCode::UPGRADE_REQUIRED.as_u16(), ..problem }
}

/// Words for a page of another site.
pub(super) fn cross_site() -> Problem {
    Problem::new(ProblemCode::NotAllowed, "a page of another web site may not open consoles: Origin is not this node")
}

/// Words for an owner that does not answer.
pub(super) fn owner_silent(vm: &VmName, node: &NodeName) -> Problem {
    Problem::new(
        ProblemCode::NodeUnreachable,
        format!(
            "{node} does not answer, and only {node} has the console, the screen and the log of {vm}, which runs there"
        ),
    )
    .with_remedy(format!("waifuctl node show {node}"))
    .with_node(node.clone(), "silent")
}

/// Words for what the node said.
pub(super) fn words(vm: &VmName, error: &ConsoleError) -> Problem {
    match error {
        ConsoleError::Off => {
            Problem::new(ProblemCode::NotRunning, format!("{vm} is off: there is nothing to connect to"))
                .with_remedy(format!("waifuctl start {vm}; what it has written: waifuctl logs {vm}"))
        }
        ConsoleError::Silent => Problem::new(
            ProblemCode::Busy,
            format!(
                "libvirt on the node of {vm} does not answer, so its console cannot be opened now; the guest runs on"
            ),
        )
        .with_remedy(format!("try again; what it has written: waifuctl logs {vm}")),
        ConsoleError::Full(count) => Problem::new(
            ProblemCode::Busy,
            format!("{count} viewers have the console of {vm} open, and no more are taken"),
        ),
        ConsoleError::Failed(error) => {
            Problem::new(ProblemCode::Internal, format!("the console of {vm} cannot be opened: {error}")).with_remedy(
                format!(
                    "a VM made by an older waifud has no screen until it is stopped and started: waifuctl stop {vm}"
                ),
            )
        }
    }
}

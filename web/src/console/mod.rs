//! Consoles of guests for people: the serial port and the screen as WebSockets, the log as a stream.
//!
//! In: a request on any node. Out: on the owner a session between the WebSocket and the node's [`Consoles`]; elsewhere a
//! tunnel to the owner, who sees the same request. Nothing here needs a quorum, and nothing waits longer than a second for
//! anybody before it answers with a problem.
//!
//! ```text
//!   routes/console ──> owner? ──┬── here:  session.rs  WebSocket <──> Consoles (port.rs) <──> the node's hub
//!                               └── there: tunnel.rs   bytes <──> peer's stream <──> the same, on the owner
//! ```

mod port;
mod session;
mod tunnel;

pub use port::{Attached, ConsoleError, Consoles, Heard, Line, Log, Said, Viewer};
pub(crate) use session::{Reader, screen, serial};
pub(crate) use tunnel::pass_on;

use crate::{app::App, caller::Caller, problem::Failure, view};
use axum::extract::{FromRequestParts as _, ws::WebSocketUpgrade};
use http::{HeaderMap, header, request::Parts};
use std::time::Duration;
use waifud_model::{
    ids::NodeId,
    name::{NodeName, VmName},
    vm::Vm,
};

/// How long the owner's hypervisor may take to hand over a console. Less than [`OWNER_WITHIN`], so that the owner's words
/// about it arrive.
pub(crate) const HYPERVISOR_WITHIN: Duration = Duration::from_millis(700);
/// How long another node may take to begin its answer: no request hangs because a node is down.
pub(crate) const OWNER_WITHIN: Duration = Duration::from_millis(950);

/// A VM, and its owner's name where that is another node that is heard.
pub(crate) struct Place {
    pub(crate) vm: Vm,
    pub(crate) elsewhere: Option<(NodeId, NodeName)>,
}

/// Where the VM is.
///
/// # Errors
/// If there is none, or none that the caller may know of, or its owner is silent.
pub(crate) async fn find(app: &App, caller: &Caller, name: VmName) -> Result<Place, Failure> {
    let scope = caller.scope.clone();
    let found = app.consensus.read(move |view| view::find_vm(view, &scope, &name)).await?;
    let (vm, node) = found.map_err(Failure::Missing)?;
    if vm.node == app.node {
        return Ok(Place { vm, elsewhere: None });
    }
    if app.observed().alive(vm.node).is_none() {
        return Err(Failure::OwnerSilent { vm: vm.name, node });
    }
    let owner = (vm.node, node);
    Ok(Place { vm, elsewhere: Some(owner) })
}

/// Checks that the request wants a WebSocket and does not come from another web site: a browser sends cookies with a
/// WebSocket wherever the page is from, and tells where in `Origin` (RFC 6455, 10.2). Programs send none.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn wants_websocket(headers: &HeaderMap) -> Result<(), Failure> {
    let says = |name, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !(says(header::UPGRADE, "websocket") && says(header::CONNECTION, "upgrade")) {
        return Err(Failure::NoWebSocket);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let from = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    match (host, from) {
        (Some(host), Some(from)) if host.eq_ignore_ascii_case(from) => Ok(()),
        _ => Err(Failure::CrossSite),
    }
}

/// Takes the upgrade out of a request that [wants a WebSocket](wants_websocket).
///
/// # Errors
/// If it is not a proper handshake.
pub(crate) async fn upgrade(parts: &mut Parts) -> Result<WebSocketUpgrade, Failure> {
    let taken = WebSocketUpgrade::from_request_parts(parts, &()).await;
    taken.map_err(|error| Failure::Plain { status: http::StatusCode::BAD_REQUEST, text: error.body_text() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(more: &[(&'static str, &str)]) -> HeaderMap {
        let base = [("host", "n1.lan:7443"), ("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        let all = base.iter().chain(more).map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        all.collect()
    }

    #[test]
    fn programs_and_own_pages_may_others_may_not() {
        assert!(wants_websocket(&headers(&[])).is_ok());
        assert!(wants_websocket(&headers(&[("origin", "https://N1.lan:7443")])).is_ok());
        for foreign in
            ["https://evil.example", "null", "https://n1.lan", "https://n1.lan:7443.evil.example", "n1.lan:7443"]
        {
            let refused = wants_websocket(&headers(&[("origin", foreign)]));
            assert!(matches!(refused, Err(Failure::CrossSite)), "{foreign}");
        }
    }

    #[test]
    fn plain_requests_are_told_what_is_wanted() {
        let mut plain = headers(&[]);
        plain.remove("upgrade");
        assert!(matches!(wants_websocket(&plain), Err(Failure::NoWebSocket)));
        assert!(matches!(wants_websocket(&HeaderMap::new()), Err(Failure::NoWebSocket)));
    }
}

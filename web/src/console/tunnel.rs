//! Passes a request on to a VM's owner as it is, a WebSocket included: the owner speaks, this node carries.
//!
//! In: a request that this node has judged (who asks, from which site). Out: the owner's answer; where that is an upgrade,
//! bytes both ways until either side ends. A silent owner costs the asker a second.

use super::OWNER_WITHIN;
use crate::{app::App, caller::Caller, owner::HOPS, problem::Failure};
use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderName, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{
    io::{AsyncWriteExt as _, ReadHalf, WriteHalf, copy, split},
    time::timeout,
};
use waifud_model::{
    ids::NodeId,
    name::{NodeName, VmName},
};

/// What of a request concerns the owner.
const PASSED: [HeaderName; 8] = [
    HeaderName::from_static(HOPS),
    header::ACCEPT,
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// After one side has ended, the other has so long to end too: a viewer that vanished says nothing at all.
const LINGER: Duration = Duration::from_secs(5);

/// Has `owner` answer the request about `vm`.
///
/// # Errors
/// [`Failure::OwnerSilent`].
pub(crate) async fn pass_on(
    app: &App,
    caller: &Caller,
    vm: VmName,
    (owner, node): (NodeId, NodeName),
    mut request: Request,
) -> Result<Response, Failure> {
    let viewer = request.extensions_mut().remove::<OnUpgrade>();
    let (parts, _) = request.into_parts();
    let mut passed = http::Request::builder().method(parts.method).uri(
        // The peer's connection wants a path, whatever form the client's connection had.
        parts.uri.path_and_query().map_or("/", |path| path.as_str()),
    );
    for name in &PASSED {
        for value in parts.headers.get_all(name) {
            passed = passed.header(name, value);
        }
    }
    let passed = passed.body(Body::empty()).map_err(|_| Failure::Internal("a request cannot be passed on"))?;
    let mut response = match timeout(OWNER_WITHIN, app.forward(owner, caller, passed)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, %vm, "the owner cannot be reached");
            return Err(Failure::OwnerSilent { vm, node });
        }
        Err(_) => return Err(Failure::OwnerSilent { vm, node }),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let owners = response.extensions_mut().remove::<OnUpgrade>();
        let (Some(viewer), Some(owners)) = (viewer, owners) else {
            return Err(Failure::Internal("a connection that cannot be upgraded was"));
        };
        tokio::spawn(async move {
            match tokio::try_join!(viewer, owners) {
                Ok((viewer, owners)) => carry(viewer, owners).await,
                Err(error) => tracing::debug!(%error, "an upgrade did not come about"),
            }
        });
    }
    Ok(response.into_response())
}

async fn carry(viewer: Upgraded, owner: Upgraded) {
    let (from_viewer, to_viewer) = split(TokioIo::new(viewer));
    let (from_owner, to_owner) = split(TokioIo::new(owner));
    let there = pour(from_viewer, to_owner);
    let back = pour(from_owner, to_viewer);
    tokio::pin!(there, back);
    // How it ends is for the two ends to say; who is late loses nothing but the last words.
    let _ = tokio::select! {
        () = &mut there => timeout(LINGER, back).await,
        () = &mut back => timeout(LINGER, there).await,
    };
}

async fn pour(mut from: ReadHalf<TokioIo<Upgraded>>, mut to: WriteHalf<TokioIo<Upgraded>>) {
    if let Err(error) = copy(&mut from, &mut to).await {
        tracing::debug!(%error, "a console's connection broke");
    }
    // The end is passed on as well.
    let _ = to.shutdown().await;
}

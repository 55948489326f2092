//! `/vms/{name}/console`, `/vnc` and `/logs`: what only the VM's owner has.

use crate::{
    app::App,
    caller::VmOperator,
    console::{self, HYPERVISOR_WITHIN, Place, Reader, Viewer, pass_on},
    extract::{Path, Query},
    ops::console_open,
    problem::Failure,
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use http::header;
use waifud_api::{
    console::{ConsoleQuery, LOG_OFFSET, LogsQuery, VNC_PROTOCOL},
    problem::Problem,
};
use waifud_model::{name::VmName, vm::Console};

/// Longest frame from a viewer: a large paste, in pieces.
const FRAME_MAX: usize = 1 << 20;

/// The serial console, as a WebSocket: binary frames are bytes both ways, text frames are JSON (`FromConsole` to the viewer,
/// `ToConsole` from it). Several may read, one writes. That it is opened is an event of the VM.
#[utoipa::path(get, path = "/api/v1/vms/{name}/console", tag = "vms", params(("name" = String, Path), ConsoleQuery),
    responses((status = 101, description = "The connection is a WebSocket from here on"),
        (status = 409, description = "The guest is off", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "No WebSocket is asked for", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn console(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<ConsoleQuery>,
    request: Request,
) -> Result<Response, Failure> {
    console::wants_websocket(request.headers())?;
    let Place { vm, elsewhere } = console::find(&app, &caller, name).await?;
    if let Some(owner) = elsewhere {
        return pass_on(&app, &caller, vm.name, owner, request).await;
    }
    let socket = console::upgrade(&mut request.into_parts().0).await?;
    let ConsoleQuery { take, read_only, replay } = query;
    let viewer = Viewer { vm: vm.name.clone(), who: caller.actor.to_string(), take, read_only, replay };
    let attached = opened(&vm.name, app.consoles.attach(vm.id, viewer)).await?;
    console_open::tell(&app, &caller, &vm, if read_only { Console::SerialReadOnly } else { Console::Serial });
    let reader = Reader::new(&app, caller, vm.id);
    Ok(socket
        .max_message_size(FRAME_MAX)
        .on_upgrade(async move |socket| console::serial(socket, attached, reader).await))
}

/// The screen, as a WebSocket whose binary frames are the bytes of RFB (RFC 6143), without a password. For noVNC, and for
/// `waifuctl vnc`. That it is opened is an event of the VM.
#[utoipa::path(get, path = "/api/v1/vms/{name}/vnc", tag = "vms", params(("name" = String, Path)),
    responses((status = 101, description = "The connection is a WebSocket from here on"),
        (status = 409, description = "The guest is off", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "No WebSocket is asked for", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn vnc(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    request: Request,
) -> Result<Response, Failure> {
    console::wants_websocket(request.headers())?;
    let Place { vm, elsewhere } = console::find(&app, &caller, name).await?;
    if let Some(owner) = elsewhere {
        return pass_on(&app, &caller, vm.name, owner, request).await;
    }
    let socket = console::upgrade(&mut request.into_parts().0).await?;
    let line = opened(&vm.name, app.consoles.screen(vm.id)).await?;
    console_open::tell(&app, &caller, &vm, Console::Screen);
    let reader = Reader::new(&app, caller, vm.id);
    Ok(socket
        .protocols([VNC_PROTOCOL])
        .max_message_size(FRAME_MAX)
        .on_upgrade(async move |socket| console::screen(socket, line, reader).await))
}

/// What the guest has written to its serial port since it was started the last time, as it wrote it.
#[utoipa::path(get, path = "/api/v1/vms/{name}/logs", tag = "vms", params(("name" = String, Path), LogsQuery),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn logs(
    VmOperator(caller): VmOperator,
    State(app): State<App>,
    Path(name): Path<VmName>,
    Query(query): Query<LogsQuery>,
    request: Request,
) -> Result<Response, Failure> {
    if query.from.is_some() && (query.tail.is_some() || query.previous) {
        return Err(Failure::Field { field: "from", why: "not together with tail or previous".to_owned() });
    }
    if query.previous && query.follow {
        return Err(Failure::Field { field: "previous", why: "nothing is added to it: not with follow".to_owned() });
    }
    let Place { vm, elsewhere } = console::find(&app, &caller, name).await?;
    if let Some(owner) = elsewhere {
        return pass_on(&app, &caller, vm.name, owner, request).await;
    }
    let log = opened(&vm.name, app.consoles.log(vm.id, query)).await?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8".to_owned()),
        // A guest's bytes are not to be taken for a page.
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), "nosniff".to_owned()),
        (LOG_OFFSET, log.offset.to_string()),
    ];
    // One that is followed outlives the moment at which its reader was let in.
    let reader = Reader::new(&app, caller, vm.id);
    let bytes = log.bytes.take_until(async move { reader.forbidden().await });
    Ok((headers, Body::from_stream(bytes)).into_response())
}

async fn opened<T>(vm: &VmName, opening: impl Future<Output = Result<T, console::ConsoleError>>) -> Result<T, Failure> {
    let opened = tokio::time::timeout(HYPERVISOR_WITHIN, opening).await;
    opened.unwrap_or(Err(console::ConsoleError::Silent)).map_err(|error| Failure::Console { vm: vm.clone(), error })
}

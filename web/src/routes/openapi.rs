//! The description of the API, made from the handlers themselves.

use super::describe;
use crate::{caller::Viewer, problem::Failure};
use axum::{Extension, response::IntoResponse};
use bytes::Bytes;
use http::header;
use utoipa::OpenApi;

/// What the description says beside paths and types.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "waifud",
        description = "Any node answers for the whole cluster. Changes take an Idempotency-Key, failures are problem documents \
                       (RFC 9457), and a VM's ETag is its generation."
    ),
    // Frames of a WebSocket, which no path names.
    components(schemas(waifud_api::console::FromConsole, waifud_api::console::ToConsole)),
    // What only queries speak of, which utoipa does not collect.
    components(schemas(waifud_api::console::Replay)),
    tags(
        (name = "vms", description = "Virtual machines"),
        (name = "templates", description = "What their disks start from"),
        (name = "nodes", description = "The machines they run on"),
        (name = "cluster", description = "The cluster as a whole"),
        (name = "net", description = "Subnets, the mesh, and who may reach the guests from outside"),
        (name = "tokens", description = "Who may use the API"),
        (name = "events", description = "What happened"),
        (name = "health", description = "For monitoring")
    )
)]
pub(super) struct Document;

/// The description as bytes, written once.
#[derive(Debug, Clone)]
pub(super) struct Rendered(Option<Bytes>);

impl Rendered {
    /// Completes and writes it.
    pub(super) fn of(document: &utoipa::openapi::OpenApi) -> Self {
        let written = serde_json::to_value(document).and_then(|mut document| {
            describe::complete(&mut document);
            serde_json::to_vec(&document)
        });
        if let Err(error) = &written {
            let error = error as &dyn std::error::Error;
            tracing::error!(error, "the OpenAPI document could not be written");
        }
        Self(written.ok().map(Bytes::from))
    }
}

/// Gives the description.
pub(super) async fn serve(
    _: Viewer,
    Extension(Rendered(document)): Extension<Rendered>,
) -> Result<impl IntoResponse, Failure> {
    let document = document.ok_or(Failure::Internal("the OpenAPI document could not be written"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document))
}

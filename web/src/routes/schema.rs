//! `/schema/…`: JSON Schemas of files that people write.

use crate::caller::Viewer;
use axum::{Extension, response::IntoResponse};
use bytes::Bytes;
use http::header;

/// The schema of the files of `waifuctl apply`, written once.
#[derive(Debug, Clone)]
pub(super) struct Apply(Bytes);

impl Default for Apply {
    fn default() -> Self {
        Self(waifud_api::document::json_schema().to_string().into())
    }
}

/// The JSON Schema (2020-12) of the files that `waifuctl apply` takes, for editors.
#[utoipa::path(get, path = "/api/v1/schema/apply.json", tag = "cluster",
    responses((status = 200, description = "The schema", content_type = "application/schema+json", body = serde_json::Value)))]
pub(super) async fn apply(_: Viewer, Extension(Apply(schema)): Extension<Apply>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/schema+json")], schema)
}

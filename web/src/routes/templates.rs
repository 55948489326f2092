//! `/templates`.

use super::answer::{changed, gone, part, tagged};
use crate::{
    app::App,
    caller::{Operator, Viewer},
    conditional::IfRevision,
    extract::{Path, Query},
    idempotency::{self, Keyed},
    ops::{Author, template_add, template_delete},
    ports::ImageSource,
    problem::Failure,
    view,
};
use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http::{HeaderMap, StatusCode, header};
use std::{io, time::Duration};
use waifud_api::{
    headers::OCTET_STREAM,
    page::{Page, PageQuery},
    problem::Problem,
    template::{Template, TemplateAdd, TemplateQuery, TemplateVersion, UploadQuery},
};
use waifud_model::name::TemplateName;

/// An upload may take as long as it takes, but not stand still for longer than this.
const CHUNK_WITHIN: Duration = Duration::from_secs(30);

/// All templates, by name, each with its versions.
#[utoipa::path(get, path = "/api/v1/templates", tag = "templates", params(PageQuery::<TemplateName>),
    responses((status = 200, body = Vec<Template>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn list(
    _: Viewer,
    State(app): State<App>,
    Query(query): Query<PageQuery<TemplateName>>,
) -> Result<Response, Failure> {
    Ok(part(Page::of(view::templates(&app.consensus, &app.observed()).await?, &query)))
}

/// One template.
#[utoipa::path(get, path = "/api/v1/templates/{name}", tag = "templates", params(("name" = String, Path)),
    responses((status = 200, body = Template), (status = 404, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<TemplateName>,
) -> Result<Response, Failure> {
    let (template, revision) = view::template(&app.consensus, &app.observed(), name).await?;
    Ok(tagged(revision, Json(template).into_response()))
}

/// Deletes a template, or one of its versions. Refused while VMs stand on it. With `dry_run` it only says whether it could.
#[utoipa::path(delete, path = "/api/v1/templates/{name}", tag = "templates", params(("name" = String, Path), TemplateQuery),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn delete(
    Operator(caller): Operator,
    State(app): State<App>,
    Path(name): Path<TemplateName>,
    Query(query): Query<TemplateQuery>,
    expect: IfRevision,
    Keyed(key): Keyed,
) -> Result<Response, Failure> {
    if query.dry_run {
        template_delete::preview(&app, name, query.version, expect).await?;
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    template_delete::run(&app, &Author::new(caller, key), name, query.version, expect).await.map(gone)
}

/// Adds a version: the image's bytes as the body, or where to download them as JSON.
#[utoipa::path(post, path = "/api/v1/templates/{name}/versions", tag = "templates",
    params(("name" = String, Path), UploadQuery),
    request_body(content((TemplateAdd = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 201, body = TemplateVersion),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
        (status = 507, body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add_version(
    Operator(caller): Operator,
    State(app): State<App>,
    Path(name): Path<TemplateName>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let seal = |body: &[u8]| idempotency::seal(app.random.as_ref(), &parts.method, &parts.uri, &parts.headers, body);
    let (key, source, expected) = if idempotency::is_json(&parts.headers) {
        let limit = crate::BODY_LIMIT;
        let bytes = to_bytes(body, crate::BODY_LIMIT_BYTES).await.map_err(|_| Failure::TooLarge { limit })?;
        let add: TemplateAdd = idempotency::parse(&bytes)?;
        (seal(&bytes)?, ImageSource::Url(add.url), Some(add.sha256))
    } else if is_bytes(&parts.headers) {
        // The bytes are not hashed twice: an upload is the same one if its target and its checksum are.
        (seal(b"")?, upload(body), query.sha256)
    } else {
        return Err(Failure::MediaType { wanted: "application/octet-stream or application/json" });
    };
    let done = template_add::run(&app, &Author::new(caller, key), name, source, expected).await?;
    Ok(changed(StatusCode::CREATED, done))
}

fn is_bytes(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == OCTET_STREAM)
}

fn upload(body: Body) -> ImageSource {
    let chunks = stream::try_unfold(body.into_data_stream(), |mut body| async {
        match tokio::time::timeout(CHUNK_WITHIN, body.next()).await {
            Ok(chunk) => Ok(chunk.transpose().map_err(io::Error::other)?.map(|chunk| (chunk, body))),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    });
    ImageSource::Upload(chunks.boxed())
}

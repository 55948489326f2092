//! `Path` and `Query` whose errors are told like all others.

use crate::problem::Failure;
use axum::extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery};
use http::{Uri, request::Parts};
use serde::de::DeserializeOwned;
use std::{fmt::Display, str::FromStr};
use waifud_api::select::ObjectName;
use waifud_model::event::SubjectKindError;

/// The one variable part of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: FromStr<Err: Display>, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let AxumPath(text) = AxumPath::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::Path(error.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| Failure::Path(error.to_string()))
    }
}

/// The two variable parts of a path that name any object: its kind and its name.
#[derive(Debug)]
pub(crate) struct ObjectPath(pub(crate) ObjectName);

impl<S: Send + Sync> FromRequestParts<S> for ObjectPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let AxumPath((kind, name)) = AxumPath::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|error| Failure::Path(error.body_text()))?;
        let kind = kind.parse().map_err(|error: SubjectKindError| Failure::Path(format!("the kind: {error}")))?;
        ObjectName::new(kind, &name).map(Self).map_err(|error| Failure::Path(error.to_string()))
    }
}

/// The query, without what any request may carry: mistyped names are refused, so each route must see only its own.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let own = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !is_common(pair));
        let own = format!("/?{}", own.collect::<Vec<_>>().join("&"));
        let uri: Uri = own.parse().map_err(|error: http::uri::InvalidUri| Failure::Query(error.to_string()))?;
        let read = AxumQuery::try_from_uri(&uri);
        read.map(|AxumQuery(value)| Self(value)).map_err(|error| {
            let text = error.body_text();
            Failure::Query(text.trim_start_matches("Failed to deserialize query string: ").to_owned())
        })
    }
}

/// Read by [`freshness`](crate::freshness) for every route.
fn is_common(pair: &str) -> bool {
    pair.starts_with("consistency=")
}

//! What a guest tells of itself: that its cloud-init is done, in the form that cloud-init's `phone_home` posts.
//!
//! In: a request from a guest that is known. Out: whether it is about the life that the guest is in. Of the form only the
//! instance-id counts: who tells is known already, and the rest of it (host keys, names) is whatever a guest says.

use super::Rate;
use axum::extract::Request;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use std::time::Duration;
use waifud_cloudinit::{Documents, phone_home::INSTANCE_ID};

/// Bytes of a form. cloud-init's has four host keys in it, which are some 2 KiB; one of RSA may be twice as long as usual.
const FORM: usize = 16 << 10;

/// How long a form may take to come: it is a few packets over a virtual wire.
const FORM_WITHIN: Duration = Duration::from_secs(5);

/// How long the node may take to note it. Noting is a call of the hypervisor, which may be starting a guest meanwhile.
pub(super) const NOTED: Duration = Duration::from_secs(10);

/// How often a guest may tell: noting is dearer than answering, and cloud-init tries ten times, three seconds apart.
pub(super) const RATE: Rate = Rate { per_second: 1, burst: 10 };

/// What a form is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The life that the documents are for.
    ThisLife,
    /// One before it.
    AnotherLife,
}

/// Reads a form.
pub(super) async fn read(documents: &Documents, request: Request) -> Result<Form, StatusCode> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"))
    {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    // Before anything is read, where it says so itself.
    if request.body().size_hint().lower() > FORM as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let body = Limited::new(request.into_body(), FORM).collect();
    let body = match tokio::time::timeout(FORM_WITHIN, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => return Err(StatusCode::BAD_REQUEST),
        Err(_) => return Err(StatusCode::REQUEST_TIMEOUT),
    };
    let id = std::str::from_utf8(&body).ok().and_then(instance_id).ok_or(StatusCode::BAD_REQUEST)?;
    Ok(if documents.is_for(id) { Form::ThisLife } else { Form::AnotherLife })
}

/// The instance-id of a form. Ours have nothing in them that a form would escape.
fn instance_id(form: &str) -> Option<&str> {
    let pairs: Option<Vec<_>> = form.split('&').map(|pair| pair.split_once('=')).collect();
    let mut ids = pairs?.into_iter().filter(|(name, _)| *name == INSTANCE_ID).map(|(_, value)| value);
    match (ids.next(), ids.next()) {
        (Some(id), None) => Some(id),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

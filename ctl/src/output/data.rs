//! Structures as text: what the API sent, as JSON or YAML. Nothing is renamed, shortened or left out.

use crate::exit::Failure;
use serde::Serialize;
use std::io;

pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|e| fault(io::Error::other(e)))?;
    text.push('\n');
    Ok(text)
}

/// On one line, for streams (NDJSON).
pub(super) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string(value).map_err(|e| fault(io::Error::other(e)))?;
    text.push('\n');
    Ok(text)
}

pub(super) fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(value).map_err(|e| fault(io::Error::other(e.to_string())))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn fault(source: io::Error) -> Failure {
    Failure::Io { what: "the output", source }
}

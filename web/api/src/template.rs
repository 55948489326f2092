//! Templates on the wire, and how one of their versions is named in text.

use crate::{schema, text::serde_by_text, time::Time};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    digest::{Blake3, Sha256},
    name::{NameError, NodeName, TemplateName},
    size::ByteSize,
    template::ImageFormat,
};

/// A template: a named series of immutable versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its name.
    #[schema(value_type = String)]
    pub name: TemplateName,
    /// Its versions, the newest first; the first is the one the bare name stands for.
    pub versions: Vec<TemplateVersion>,
}

/// One immutable version of a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateVersion {
    /// The template.
    #[schema(value_type = String)]
    pub template: TemplateName,
    /// BLAKE3 of the stored bytes.
    #[schema(value_type = String)]
    pub version: Blake3,
    /// SHA-256 of the same bytes.
    #[schema(value_type = String)]
    pub sha256: Sha256,
    /// Bytes stored.
    #[schema(value_type = u64)]
    pub size: ByteSize,
    /// Size of the disk a guest sees, in bytes: no VM's disk may be smaller.
    #[schema(value_type = u64)]
    pub virtual_size: ByteSize,
    /// How the bytes are to be read.
    #[schema(value_type = schema::ImageFormat)]
    pub format: ImageFormat,
    /// Where the bytes came from; none if a client sent them.
    pub url: Option<String>,
    /// The nodes that are known to hold the bytes, by name.
    #[schema(value_type = Vec<String>)]
    pub nodes: Vec<NodeName>,
    /// How many VMs stand on it.
    pub vms: u32,
    /// When it was added.
    pub added_at: Time,
}

/// A version to be downloaded by the node that takes the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateAdd {
    /// Where from: http or https.
    pub url: String,
    /// The SHA-256 its bytes must have. Nothing unverified is ever booted, so it cannot be left out.
    #[schema(value_type = String)]
    pub sha256: Sha256,
}

/// The query of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// The SHA-256 the bytes must have, if the client knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub sha256: Option<Sha256>,
}

/// The query of `DELETE /templates/{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TemplateQuery {
    /// Only this version; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub version: Option<VersionPrefix>,
    /// Only say whether it could be deleted.
    #[serde(default)]
    pub dry_run: bool,
}

/// Enough of a version's digest to tell it from the others: 6 to 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionPrefix(String);

impl VersionPrefix {
    /// Six digits: what a person still copies without a slip, and with which a clash within one template is a curiosity.
    const LEAST: usize = 6;

    /// True for the versions this may stand for.
    #[must_use]
    pub fn matches(&self, version: Blake3) -> bool {
        version.to_string().starts_with(&self.0)
    }
}

impl From<Blake3> for VersionPrefix {
    fn from(version: Blake3) -> Self {
        Self(version.to_string())
    }
}

/// A text that names no template version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The version is not one.
    #[error("{0:?} is not a template version; write 6 to 64 of its hex digits")]
    Version(String),
}

impl FromStr for VersionPrefix {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hex && (Self::LEAST..=64).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SelectorError::Version(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for VersionPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A template, or one of its versions: `debian-12`, `debian-12@9f3c21`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TemplateSelector {
    /// The template.
    pub name: TemplateName,
    /// One version; none stands for the newest.
    pub version: Option<VersionPrefix>,
}

impl From<TemplateName> for TemplateSelector {
    fn from(name: TemplateName) -> Self {
        Self { name, version: None }
    }
}

impl FromStr for TemplateSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version.parse()?)),
            None => (text, None),
        };
        Ok(Self { name: TemplateName::new(name)?, version })
    }
}

impl fmt::Display for TemplateSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

serde_by_text!(VersionPrefix, TemplateSelector);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_and_show() {
        for good in ["debian-12", "ubuntu-24.04@9f3c21", &format!("a@{}", "0".repeat(64))] {
            assert_eq!(good.parse::<TemplateSelector>().unwrap().to_string(), good);
        }
        for bad in
            ["", "@9f3c21", "debian@", "debian@9f3c2", "debian@9F3C21", "a@b@c", &format!("a@{}", "0".repeat(65))]
        {
            assert!(bad.parse::<TemplateSelector>().is_err(), "{bad}");
        }
        let version = Blake3::of(b"");
        assert!("af1349".parse::<VersionPrefix>().unwrap().matches(version));
        assert!(!"af134a".parse::<VersionPrefix>().unwrap().matches(version));
    }
}

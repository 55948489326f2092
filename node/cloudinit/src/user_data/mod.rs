//! What people hand to cloud-init, looked at before a guest gets it.
//!
//! In: bytes. Out: what cloud-init will take them for, and what is wrong with them by line. The bytes themselves are
//! never changed, and never quoted: they hold passwords and keys. A message names a line, and a key of a mapping if it
//! looks like one.
//!
//! An error is what cloud-init would ignore or fail on; a warning is what it would silently do otherwise than was meant.
//! Not looked into: values of keys (they belong to cloud-init's release in the image), parts of MIME multiparts, what is
//! compressed, templates, and what an `#include` points at.

mod cloud_config;
mod keys;
mod kind;
mod network_config;
#[cfg(test)]
mod tests;
mod yaml;

pub use kind::Kind;
pub use network_config::check as check_network_config;

use waifud_model::cloud_init::UserData;

/// User-data that cloud-init can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What cloud-init takes it for.
    pub kind: Kind,
    /// What the person should know, in order of lines.
    pub warnings: Vec<Warning>,
}

/// Something that is allowed and yet hardly meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The line, from 1; none for what is true of the whole.
    pub line: Option<usize>,
    /// What is the matter, and what cloud-init makes of it.
    pub message: String,
}

impl Warning {
    fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line: Some(line), message: message.into() }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { line: None, message: message.into() }
    }
}

/// Why cloud-init could not use the bytes. No message has any of them in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Nothing at all.
    #[error("it is empty; leave it out, or begin with #cloud-config or #!")]
    Empty,
    /// More than can be served.
    #[error("it has {len} bytes; at most {max} are allowed. Let it fetch what is large, by #include or from a script", max = UserData::MAX)]
    TooLarge {
        /// How many bytes there are.
        len: usize,
    },
    /// Not text, and not compressed text.
    #[error("line {line}: it is not UTF-8; save it as UTF-8, or compress it with gzip")]
    NotUtf8 {
        /// The line of the first byte that is wrong.
        line: usize,
    },
    /// A byte order mark, which hides the first line from cloud-init.
    #[error(
        "line 1: it begins with a byte order mark, behind which cloud-init does not see the first line; save it as UTF-8 without one"
    )]
    ByteOrderMark,
    /// The beginning says nothing to cloud-init.
    #[error("line 1: cloud-init would ignore it, because it does not begin with a line that says what it is; {fix}")]
    Unrecognised {
        /// What to do.
        fix: &'static str,
    },
    /// Not YAML.
    #[error("line {line}, column {column}: it is not YAML: {message}")]
    Yaml {
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// The rule that is broken.
        message: String,
    },
    /// Not JSON.
    #[error("line {line}, column {column}: it is not JSON")]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// YAML of another shape.
    #[error("line {line}: {what} must {expected}")]
    Shape {
        /// Where the wrong thing begins.
        line: usize,
        /// What is of the wrong shape.
        what: &'static str,
        /// What cloud-init expects, after "must".
        expected: &'static str,
    },
}

impl CheckError {
    /// The line that is wrong, from 1; none if it is the whole.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::TooLarge { .. } => None,
            Self::ByteOrderMark | Self::Unrecognised { .. } => Some(1),
            Self::NotUtf8 { line } | Self::Yaml { line, .. } | Self::Json { line, .. } | Self::Shape { line, .. } => {
                Some(*line)
            }
        }
    }

    /// The column that is wrong, from 1, where it is known.
    #[must_use]
    pub const fn column(&self) -> Option<usize> {
        match self {
            Self::Yaml { column, .. } | Self::Json { column, .. } => Some(*column),
            _ => None,
        }
    }
}

/// Looks at user-data or vendor-data.
///
/// # Errors
/// If cloud-init would ignore it or fail on it.
pub fn check(bytes: &[u8]) -> Result<Checked, CheckError> {
    limit(bytes)?;
    let kind = Kind::of(bytes);
    if kind == Kind::Gzip {
        let message = "it is compressed, so nobody has looked into it; a MIME multipart in it is not merged with the cluster's default user-data";
        return Ok(Checked { kind, warnings: vec![Warning::whole(message)] });
    }
    let text = text(bytes)?;
    let warnings = match kind {
        Kind::CloudConfig => cloud_config::check(text)?,
        Kind::CloudConfigArchive => cloud_config::check_archive(text)?,
        Kind::CloudConfigJsonPatch => cloud_config::check_json_patch(text)?,
        Kind::Include => include(text),
        Kind::Jinja => jinja(text)?,
        Kind::Unknown => return Err(CheckError::Unrecognised { fix: fix(text) }),
        Kind::Script | Kind::Boothook | Kind::PartHandler | Kind::Multipart | Kind::Gzip => Vec::new(),
    };
    Ok(Checked { kind, warnings })
}

/// What the limit and the encoding ask of every text.
fn limit(bytes: &[u8]) -> Result<(), CheckError> {
    match bytes.len() {
        0 => Err(CheckError::Empty),
        len if len > UserData::MAX => Err(CheckError::TooLarge { len }),
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, CheckError> {
    std::str::from_utf8(bytes)
        .map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            CheckError::NotUtf8 { line: 1 + good.iter().filter(|b| **b == b'\n').count() }
        })
        .and_then(|text| if text.starts_with('\u{feff}') { Err(CheckError::ByteOrderMark) } else { Ok(text) })
}

/// What a person probably meant who began with nothing that cloud-init knows.
fn fix(text: &str) -> &'static str {
    let keys = yaml::outline(text).map(|outline| outline.top).unwrap_or_default();
    let first = text.trim_start().lines().next().unwrap_or_default().to_ascii_lowercase().replace([' ', '_'], "-");
    if keys.iter().any(|key| matches!(key.name.as_str(), "network" | "version" | "ethernets")) {
        "it looks like a network-config, which is a document of its own"
    } else if first.trim_start_matches(['#', '-']).starts_with("cloud-config")
        || keys.iter().any(|key| keys::known(&key.name))
    {
        "it looks like cloud-config: make the first line exactly #cloud-config"
    } else {
        "make the first line #cloud-config for YAML, or #!/bin/sh for a script"
    }
}

/// A URL a line (22.4 `cloudinit/user_data.py`, `_do_include`).
fn include(text: &str) -> Vec<Warning> {
    let mut urls = 0_usize;
    let mut warnings = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let lower = line.to_ascii_lowercase();
        let rest =
            lower.strip_prefix("#include-once").or_else(|| lower.strip_prefix("#include")).unwrap_or(&lower).trim();
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        urls += 1;
        if !["http://", "https://", "ftp://", "ftps://", "file://"].iter().any(|scheme| rest.starts_with(scheme)) {
            warnings.push(Warning::at(n + 1, "this is not a URL; cloud-init reads one URL on each line"));
        }
    }
    if urls == 0 {
        warnings.push(Warning::whole("it includes nothing: no line has a URL"));
    }
    warnings
}

/// A template is what it begins with once it is rendered, in the guest. Before that, only its second line can be judged.
fn jinja(text: &str) -> Result<Vec<Warning>, CheckError> {
    let start = text.trim_start();
    let (_, body) = start.split_once('\n').unwrap_or_default();
    let first = body.trim_start();
    if first.starts_with('{') {
        return Ok(Vec::new());
    }
    match Kind::of(body.as_bytes()) {
        Kind::Unknown => Ok(vec![Warning::whole(
            "what follows the template's first line does not say what it is; cloud-init ignores a template that renders to nothing it knows",
        )]),
        Kind::CloudConfig if !["{{", "{%", "{#"].iter().any(|mark| body.contains(mark)) => cloud_config::check(text),
        _ => Ok(Vec::new()),
    }
}

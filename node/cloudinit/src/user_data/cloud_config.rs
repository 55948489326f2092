//! The YAML and JSON kinds of user-data: their shape, and keys that are probably slips.

use super::{
    CheckError, Warning, keys,
    yaml::{self, Duplicate, Outline, Root},
};

/// A key may be quoted only if it looks like one: a slip in the YAML can make a key of a secret.
const QUOTABLE: usize = 40;

/// Only the image's own configuration may have it (22.4 `doc/rtd/reference/network-config.rst`).
const NETWORK: &str = "cloud-init ignores the key `network` in user-data; give it as network-config";

/// `#cloud-config`.
pub(super) fn check(text: &str) -> Result<Vec<Warning>, CheckError> {
    let outline = yaml::outline(text)?;
    match outline.root {
        Root::Empty => return Ok(vec![Warning::whole("it is empty; cloud-init does nothing")]),
        Root::Mapping => {}
        Root::Scalar | Root::Sequence => {
            return Err(CheckError::Shape {
                line: outline.line,
                what: "a cloud-config",
                expected: "have keys with values",
            });
        }
    }
    let mut warnings = duplicates(&outline);
    for key in outline.top.iter().filter(|key| key.name != "<<" && !keys::known(&key.name)) {
        if key.name == "network" {
            warnings.push(Warning::at(key.line, NETWORK));
            continue;
        }
        let key_named = name(&key.name);
        let hint = keys::meant(&key.name).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
        warnings.push(Warning::at(key.line, format!("cloud-init does not know {key_named}{hint}")));
    }
    warnings.sort_by_key(|warning| warning.line);
    Ok(warnings)
}

/// `#cloud-config-archive`: a list (22.4 `cloudinit/user_data.py`, `_explode_archive`).
pub(super) fn check_archive(text: &str) -> Result<Vec<Warning>, CheckError> {
    let outline = yaml::outline(text)?;
    match outline.root {
        Root::Empty => Ok(vec![Warning::whole("it is empty; cloud-init does nothing")]),
        Root::Sequence => Ok(duplicates(&outline)),
        Root::Scalar | Root::Mapping => Err(CheckError::Shape {
            line: outline.line,
            what: "a cloud-config archive",
            expected: "be a list of parts",
        }),
    }
}

/// `#cloud-config-jsonp`: JSON after the first word (22.4 `cloudinit/handlers/cloud_config.py`, `_merge_patch`).
pub(super) fn check_json_patch(text: &str) -> Result<Vec<Warning>, CheckError> {
    let start = text.trim_start();
    // The beginning was found by its length in any case of letters, and is ASCII.
    let json = start.get("#cloud-config-jsonp".len()..).unwrap_or_default();
    let before = text.get(..text.len() - json.len()).unwrap_or_default();
    let line = before.matches('\n').count();
    match serde_json::from_str::<Vec<serde::de::IgnoredAny>>(json) {
        Ok(_) => Ok(Vec::new()),
        Err(error) if error.is_data() => Err(CheckError::Shape {
            line: line + error.line(),
            what: "a JSON patch",
            expected: "be a list of operations",
        }),
        Err(error) => Err(CheckError::Json { line: line + error.line(), column: error.column() }),
    }
}

/// cloud-init's YAML reader takes the last of two and says nothing.
pub(super) fn duplicates(outline: &Outline) -> Vec<Warning> {
    let say = |Duplicate { name: key, first, again }: &Duplicate| {
        Warning::at(*again, format!("{} is on line {first} already; cloud-init keeps only the last", name(key)))
    };
    outline.duplicates.iter().map(say).collect()
}

/// A key as a message may name it.
fn name(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if !key.is_empty() && key.len() <= QUOTABLE && key.bytes().all(plain) {
        format!("the key `{key}`")
    } else {
        "this key".to_owned()
    }
}

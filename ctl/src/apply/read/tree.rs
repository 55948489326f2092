//! What YAML and TOML have in common: values, and the line each stands on.

use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap};

/// The way to a value from the root: keys, and numbers of list items.
pub(super) type Path = Vec<String>;

/// How many values a file may have. A description of ten thousand VMs has a tenth of that; aliases that multiply have more.
pub(super) const VALUES_MAX: usize = 2_000_000;

/// Deeper than this no description goes; it keeps recursion over values harmless.
pub(super) const DEPTH_MAX: usize = 100;

/// The fields whose value may be a mapping that stands for a text: a document for the guest.
pub(super) const INLINE: [&str; 2] = ["user_data", "network_config"];

/// What a cloud-config begins with; cloud-init knows it by this line.
const CLOUD_CONFIG: &str = "#cloud-config\n";

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The file, as the user named it.
    pub(crate) file: String,
    /// The line, if there is one to look at.
    pub(crate) line: Option<usize>,
    /// What is wrong.
    pub(crate) what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// A value, and where it and all within it stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) lines: BTreeMap<Path, usize>,
}

impl Tree {
    /// The line of the value at `path`, or of what it would be in.
    pub(super) fn line(&self, path: &[String]) -> Option<usize> {
        (0..=path.len()).rev().find_map(|length| self.lines.get(path.get(..length)?).copied())
    }

    /// The part of the tree at `key` of its root, as a tree of its own.
    pub(super) fn part(&self, key: &str, value: Value) -> Self {
        let below = |(path, line): (&Path, &usize)| {
            let (first, rest) = path.split_first()?;
            (first == key).then(|| (rest.to_vec(), *line))
        };
        Self { value, lines: self.lines.iter().filter_map(below).collect() }
    }

    /// Takes the value at `path` out, so that the rest can be looked at without it.
    pub(super) fn remove(&mut self, path: &[String]) -> bool {
        let Some((last, way)) = path.split_last() else { return false };
        match self.at(way) {
            Some(Value::Object(map)) => map.remove(last).is_some(),
            Some(Value::Array(list)) => match last.parse::<usize>() {
                Ok(n) if n < list.len() => {
                    list.remove(n);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Puts a word where a field is missing, so that the rest can be looked at as if it were there.
    pub(super) fn fill(&mut self, path: &[String], field: &str) -> bool {
        match self.at(path) {
            Some(Value::Object(map)) => map.insert(field.to_owned(), Value::String("x".to_owned())).is_none(),
            _ => false,
        }
    }

    fn at(&mut self, path: &[String]) -> Option<&mut Value> {
        path.iter().try_fold(&mut self.value, |value, key| match value {
            Value::Object(map) => map.get_mut(key),
            Value::Array(list) => key.parse::<usize>().ok().and_then(|n| list.get_mut(n)),
            _ => None,
        })
    }
}

/// True for the one mapping that is bytes and not a document: `{base64: …}`.
pub(super) fn is_encoded(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.contains_key("base64")
}

/// A mapping under the key `field` as the text it stands for.
pub(super) fn as_text(field: &str, mapping: Cow<'_, str>) -> String {
    let mut text = if field == "user_data" { CLOUD_CONFIG.to_owned() } else { String::new() };
    text.push_str(&mapping);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

//! Labels: `key=value` pairs on VMs and nodes, for filters and placement.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// Longest key, in bytes.
const KEY_MAX: usize = 63;
/// Longest value, in bytes: room for a sentence or a link, not for a document.
const VALUE_MAX: usize = 4096;
/// Most labels on one object.
const COUNT_MAX: usize = 64;

/// The labels of one object, in key order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why labels were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// No `=` in the text.
    #[error("{0:?} is not a label; write key=value")]
    Form(String),
    /// A key outside the alphabet or too long.
    #[error(
        "{0:?} is not a label key: letters, digits, '.', '_', '-' and '/', at most 63, beginning with a letter or digit"
    )]
    Key(String),
    /// A value that is too long or has control characters.
    #[error("the value of label {0:?} has control characters or more than 4096 bytes")]
    Value(String),
    /// Too many.
    #[error("{0} labels are too many; at most 64")]
    Count(usize),
}

fn check(key: &str, value: &str) -> Result<(), LabelError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    if key.len() > KEY_MAX || !key.starts_with(|c: char| c.is_ascii_alphanumeric()) || !key.chars().all(allowed) {
        return Err(LabelError::Key(key.chars().take(80).collect()));
    }
    if value.len() > VALUE_MAX || value.chars().any(char::is_control) {
        return Err(LabelError::Value(key.to_owned()));
    }
    Ok(())
}

impl Labels {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All pairs in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True when every label of `wanted` is here with the same value.
    #[must_use]
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|(k, v)| self.get(k) == Some(v))
    }
}

/// Labels that come or change, and (with none) those that go; all others stay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelPatch(pub BTreeMap<String, Option<String>>);

impl LabelPatch {
    /// `labels` with the changes.
    ///
    /// # Errors
    /// If a label that comes is none, or there are too many then.
    pub fn applied(&self, labels: &Labels) -> Result<Labels, LabelError> {
        let mut all = labels.0.clone();
        for (key, value) in &self.0 {
            match value {
                Some(value) => drop(all.insert(key.clone(), value.clone())),
                None => drop(all.remove(key)),
            }
        }
        all.try_into()
    }

    /// True if it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelError;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, LabelError> {
        if map.len() > COUNT_MAX {
            return Err(LabelError::Count(map.len()));
        }
        map.iter().try_for_each(|(k, v)| check(k, v))?;
        Ok(Self(map))
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

/// One `key=value`, as given on a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (key, value) = text.split_once('=').ok_or_else(|| LabelError::Form(text.to_owned()))?;
        check(key, value)?;
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked_wherever_they_come_from() {
        assert_eq!("env=prod".parse::<Label>().unwrap().to_string(), "env=prod");
        for bad in ["env", "=x", "a b=c", "k=\u{7}"] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Labels>(r#"{"a b":"c"}"#).is_err());
        assert!(serde_json::from_str::<Labels>(r#"{"a":"c"}"#).is_ok());
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let patched = |patch: &str| {
            let labels: Labels = serde_json::from_str(r#"{"a":"1","b":"2"}"#).unwrap();
            let after = serde_json::from_str::<LabelPatch>(patch).unwrap().applied(&labels)?;
            Ok::<_, LabelError>(serde_json::to_string(&after).unwrap())
        };
        assert_eq!(patched(r#"{"a":null,"c":"3"}"#).unwrap(), r#"{"b":"2","c":"3"}"#);
        assert_eq!(patched(r#"{"x":null}"#).unwrap(), r#"{"a":"1","b":"2"}"#);
        assert!(patched(r#"{"a b":"1"}"#).is_err());
    }
}

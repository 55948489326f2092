//! Names people give. The constructor is the only door: a value of these types is always valid.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::{borrow::Borrow, fmt, str::FromStr};

/// A DNS label (RFC 1123) has at most 63 octets.
const LABEL_MAX: usize = 63;

/// Why a text cannot be a name; the message says what was expected and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("a {kind} name must not be empty")]
    Empty {
        /// What was to be named: "VM", "node", "template".
        kind: &'static str,
    },
    /// More characters than a DNS label can hold.
    #[error("{name:?} is {len} characters long; a {kind} name has at most 63")]
    TooLong {
        /// What was to be named.
        kind: &'static str,
        /// The refused text, cut to 80 characters.
        name: String,
        /// Its length in bytes.
        len: usize,
    },
    /// A character outside the alphabet, or in the wrong place.
    #[error("{name:?} is not a {kind} name: {why}")]
    Character {
        /// What was to be named.
        kind: &'static str,
        /// The refused text.
        name: String,
        /// The rule that was broken.
        why: &'static str,
    },
}

fn check(kind: &'static str, name: &str, dots: bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if name.len() > LABEL_MAX {
        return Err(NameError::TooLong { kind, name: name.chars().take(80).collect(), len: name.len() });
    }
    let refuse = |why| Err(NameError::Character { kind, name: name.to_owned(), why });
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || (dots && c == '.');
    if !name.chars().all(allowed) {
        return refuse(if dots {
            "only lower-case letters, digits, '-' and '.' are allowed"
        } else {
            "only lower-case letters, digits and '-' are allowed"
        });
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c == '-' || c == '.');
    if edge(name.chars().next()) || edge(name.chars().next_back()) {
        return refuse("it must begin and end with a letter or a digit");
    }
    if name.contains("..") {
        return refuse("two dots must not follow each other");
    }
    Ok(())
}

/// The kinds of names differ only in their alphabet and in what the error calls them.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, dots = $dots:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks `name`.
            ///
            /// # Errors
            /// Names the broken rule.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                check($kind, &name, $dots)?;
                Ok(Self(name))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(d)?).map_err(D::Error::custom)
            }
        }
    };
}

name!(
    /// A VM's name: one DNS label, unique in the cluster, because `<vm>.waifu.internal` resolves to it.
    VmName, "VM", dots = false
);
name!(
    /// A node's name: one DNS label, unique in the cluster.
    NodeName, "node", dots = false
);
name!(
    /// The name of a machine that is no node and may reach the guests: one DNS label, unique in the cluster.
    PeerName, "peer", dots = false
);
name!(
    /// The name of a VM's further disk: one DNS label, unique in the VM.
    DiskName, "disk", dots = false
);
name!(
    /// A template's name: like a DNS label, dots allowed (`ubuntu-24.04`). `@` separates it from a version.
    TemplateName, "template", dots = true
);

/// The name of a bridge of a host, as Linux takes names of network interfaces: at most 15 bytes (`IFNAMSIZ`), no slash, no
/// white space.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct BridgeName(String);

impl BridgeName {
    /// Checks `name`.
    ///
    /// # Errors
    /// Names the broken rule.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match name.len() {
            0 => Err(NameError::Empty { kind: "bridge" }),
            1..=15 if name.chars().all(allowed) && name != "." && name != ".." => Ok(Self(name)),
            _ => Err(NameError::Character {
                kind: "bridge",
                name: name.chars().take(80).collect(),
                why: "at most 15 letters, digits, '-', '_' and '.' are allowed",
            }),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BridgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for BridgeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for BridgeName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_and_bad_names() {
        for good in ["a", "web-1", "0", "x".repeat(63).as_str()] {
            assert!(VmName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "Web", "-a", "a-", "a.b", "a b", "a\n", "ä", "x".repeat(64).as_str()] {
            assert!(VmName::new(bad).is_err(), "{bad}");
        }
        assert!(TemplateName::new("ubuntu-24.04").is_ok());
        for bad in ["..", "a..b", ".a", "a.", "a/b", "a@b"] {
            assert!(TemplateName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deserializing_goes_through_the_constructor() {
        assert!(serde_json::from_str::<VmName>("\"../x\"").is_err());
        assert_eq!(serde_json::from_str::<VmName>("\"ok\"").unwrap().as_str(), "ok");
    }
}

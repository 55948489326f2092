//! Which events are wanted: about what, by whom, of which kinds. One language for the API, the command line and the panel.
//!
//! ```text
//!   subject   vm              all VMs            vm/web-1     what had this name at the time
//!   actor     people, nodes   uid:1000           uid:1000@n1  token:0123…  node:n1
//!   kind      created         created,deleted
//! ```

use crate::text::serde_by_text;
use serde::{Serialize, de::IntoDeserializer, de::value::StrDeserializer};
use std::{fmt, str::FromStr};
use waifud_model::{
    event::{EventKind, SubjectKind},
    ids::TokenId,
};

/// Longest name that is looked for: no object has a longer one.
const NAME_MAX: usize = 128;

/// All names and ids are made of these, so that they can stand in a path as they are.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain) && !text.bytes().all(|b| b == b'.')
}

/// One object, by the name that it has or had: `vm/web-1`, `token/0123…`, `cluster`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    kind: SubjectKind,
    name: String,
}

impl ObjectName {
    /// An object of this kind and name.
    ///
    /// # Errors
    /// If no object can have this name.
    pub fn new(kind: SubjectKind, name: &str) -> Result<Self, ObjectNameError> {
        // There is one cluster.
        let fits = kind != SubjectKind::Cluster || name == SubjectKind::Cluster.as_str();
        if is_name(name) && fits {
            Ok(Self { kind, name: name.to_owned() })
        } else {
            Err(ObjectNameError(name.chars().take(80).collect()))
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> SubjectKind {
        self.kind
    }

    /// Its name; a token's is its id, the cluster's is `cluster`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A text that names no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no object: KIND/NAME is wanted, with one of the kinds node, vm, template, token, peer, or cluster"
)]
pub struct ObjectNameError(String);

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, ObjectNameError> {
        let refuse = || ObjectNameError(text.chars().take(80).collect());
        match text.split_once('/') {
            Some((kind, name)) => Self::new(kind.parse().map_err(|_| refuse())?, name).map_err(|_| refuse()),
            None if text == SubjectKind::Cluster.as_str() => Self::new(SubjectKind::Cluster, text),
            None => Err(refuse()),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// About what: a kind of object, or one name of that kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectSelector {
    /// The kind.
    pub kind: SubjectKind,
    /// The name at the time of the event; a token is named by its id. Any if it is none.
    pub name: Option<String>,
}

/// A text that selects no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no subject: it must be KIND or KIND/NAME, with one of the kinds cluster, node, vm, template, token, peer"
)]
pub struct SubjectSelectorError(String);

impl FromStr for SubjectSelector {
    type Err = SubjectSelectorError;

    fn from_str(text: &str) -> Result<Self, SubjectSelectorError> {
        let refuse = || SubjectSelectorError(text.chars().take(80).collect());
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        if name.is_some_and(|name| !is_name(name)) {
            return Err(refuse());
        }
        Ok(Self { kind: kind.parse().map_err(|_| refuse())?, name: name.map(str::to_owned) })
    }
}

impl fmt::Display for SubjectSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => self.kind.fmt(f),
        }
    }
}

/// By whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorSelector {
    /// Any person, or their program.
    People,
    /// Any node on its own account.
    Nodes,
    /// A local user, on one node or on any.
    Uid {
        /// The user id.
        uid: u32,
        /// The node whose socket it was, by name or id.
        node: Option<String>,
    },
    /// The bearer of a token.
    Token(TokenId),
    /// One node on its own account, by name or id.
    Node(String),
}

/// A text that selects no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no actor: it must be people, nodes, uid:NUMBER, uid:NUMBER@NODE, token:ID or node:NAME")]
pub struct ActorSelectorError(String);

impl FromStr for ActorSelector {
    type Err = ActorSelectorError;

    fn from_str(text: &str) -> Result<Self, ActorSelectorError> {
        let node = |name: &str| is_name(name).then(|| name.to_owned());
        let read = || match text.split_once(':') {
            None if text == "people" => Some(Self::People),
            None if text == "nodes" => Some(Self::Nodes),
            Some(("uid", rest)) => match rest.split_once('@') {
                Some((uid, name)) => Some(Self::Uid { uid: uid.parse().ok()?, node: Some(node(name)?) }),
                None => Some(Self::Uid { uid: rest.parse().ok()?, node: None }),
            },
            Some(("token", id)) => id.parse().ok().map(Self::Token),
            Some(("node", name)) => node(name).map(Self::Node),
            _ => None,
        };
        read().ok_or_else(|| ActorSelectorError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for ActorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::People => f.write_str("people"),
            Self::Nodes => f.write_str("nodes"),
            Self::Uid { uid, node: None } => write!(f, "uid:{uid}"),
            Self::Uid { uid, node: Some(node) } => write!(f, "uid:{uid}@{node}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Node(name) => write!(f, "node:{name}"),
        }
    }
}

/// Of which kinds, with commas between; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kinds(pub Vec<EventKind>);

/// A text that is no list of kinds of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no kind of event; there are created, changed, deleting, deleted, started, stopped, crashed, failed and opened"
)]
pub struct KindsError(String);

impl FromStr for Kinds {
    type Err = KindsError;

    fn from_str(text: &str) -> Result<Self, KindsError> {
        let one = |word: &str| {
            let reader: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
            let kind = <EventKind as serde::Deserialize>::deserialize(reader);
            kind.map_err(|_| KindsError(word.chars().take(80).collect()))
        };
        text.split(',').map(str::trim).map(one).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, kind) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            // A unit variant writes itself as its word.
            kind.serialize(&mut *f)?;
        }
        Ok(())
    }
}

serde_by_text!(SubjectSelector, ActorSelector, Kinds);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_and_show() {
        for text in ["vm/web-1", "cluster/cluster", "template/debian-12.1"] {
            assert_eq!(text.parse::<ObjectName>().unwrap().to_string(), text);
        }
        assert_eq!("cluster".parse::<ObjectName>().unwrap().name(), "cluster");
        for bad in ["", "vm", "vm/", "vm/..", "vm/a?b", "vm/a/b", "pet/web-1", "cluster/x"] {
            assert!(bad.parse::<ObjectName>().is_err(), "{bad}");
        }
        for text in ["vm", "vm/web-1", "cluster", "token/0000000000000001"] {
            assert_eq!(text.parse::<SubjectSelector>().unwrap().to_string(), text);
        }
        for bad in ["", "pet", "vm/", "vm/a/b", "/x", "vm/a b", &format!("vm/{}", "x".repeat(129))] {
            assert!(bad.parse::<SubjectSelector>().is_err(), "{bad}");
        }
        for text in ["people", "nodes", "uid:0", "uid:1000@n1", "token:0000000000000001", "node:n1"] {
            assert_eq!(text.parse::<ActorSelector>().unwrap().to_string(), text);
        }
        for bad in ["", "me", "uid:", "uid:x", "uid:1@", "token:1x", "node:", "uid:-1"] {
            assert!(bad.parse::<ActorSelector>().is_err(), "{bad}");
        }
        assert_eq!("created, deleted".parse::<Kinds>().unwrap().to_string(), "created,deleted");
        for bad in ["", "created,", "gone"] {
            assert!(bad.parse::<Kinds>().is_err(), "{bad}");
        }
    }
}

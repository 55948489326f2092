//! Events on the wire: the audit trail as a list, and live as server-sent events.
//!
//! ```text
//! GET /events, Accept: text/event-stream          StreamItem
//!   id: 812.0                                       an event of the log: can be resumed after
//!   event: event
//!   data: {"id":"812.0","kind":"started",…}
//!
//!   id: 812                                         an id alone: to resume after, where no event came yet
//!
//!   event: forgotten                                events before this one are not kept any more
//!   data: {"before":"640.0"}
//!
//!   event: observed                                 an observation: no id, may be missed, never repeated
//!   data: {"kind":"vm","name":"web-1","status":{…}}
//!
//!   : keep-alive                                    a comment, at least every 15 s
//! ```

use crate::{
    schema,
    select::{ActorSelector, Kinds, SubjectSelector},
    text::serde_by_text,
    time::Time,
    vm::VmStatus,
};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{
    event::{EventKind, Place},
    ids::{NodeId, TokenId, VmId},
    name::{NodeName, PeerName, TemplateName, VmName},
};

/// The name of a server-sent event that holds an [`Event`].
pub const STREAM_EVENT: &str = "event";
/// The name of a server-sent event that holds a [`Observed`].
pub const STREAM_OBSERVED: &str = "observed";

/// The name of a server-sent event that holds a [`Forgotten`].
pub const STREAM_FORGOTTEN: &str = "forgotten";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the order of all events; also the id in the stream.
    #[schema(value_type = String)]
    pub id: EventId,
    /// When.
    pub at: Time,
    /// Who.
    pub actor: Actor,
    /// By which command, in a word, as `create_vm`; empty from an older server.
    #[serde(default)]
    pub command: String,
    /// To what.
    pub subject: Subject,
    /// What.
    #[schema(value_type = schema::EventKind)]
    pub kind: EventKind,
    /// Which fields changed, and how; secrets appear as digest and size.
    pub changes: Vec<Change>,
}

/// An event's place: the log index of the command that made it, and its number among that command's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The log index.
    pub index: u64,
    /// From zero.
    pub seq: u32,
}

impl EventId {
    /// Before all events.
    pub const START: Self = Self { index: 0, seq: 0 };
}

impl fmt::Display for EventId {
    /// After all events of an index it is the index alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            u32::MAX => self.index.fmt(f),
            seq => write!(f, "{}.{seq}", self.index),
        }
    }
}

impl From<Place> for EventId {
    fn from(Place { index, seq }: Place) -> Self {
        Self { index, seq }
    }
}

impl From<EventId> for Place {
    fn from(EventId { index, seq }: EventId) -> Self {
        Self { index, seq }
    }
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A process on a node's local socket.
    Local {
        /// The node's name, or its id once it is gone.
        node: String,
        /// The process's user id.
        uid: u32,
    },
    /// The bearer of an API token.
    Token {
        /// The token's id.
        #[schema(value_type = String)]
        id: TokenId,
    },
    /// A node, on its own account.
    Node {
        /// The node's name, or its id once it is gone.
        node: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { node, uid } => write!(f, "uid {uid} on {node}"),
            Self::Token { id } => write!(f, "token {id}"),
            Self::Node { node } => write!(f, "node {node}"),
        }
    }
}

/// What an event is about, with the name it had at the time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A node.
    Node {
        /// Its id.
        #[schema(value_type = String)]
        id: NodeId,
        /// Its name.
        #[schema(value_type = String)]
        name: NodeName,
    },
    /// A VM.
    Vm {
        /// Its id.
        #[schema(value_type = String)]
        id: VmId,
        /// Its name.
        #[schema(value_type = String)]
        name: VmName,
    },
    /// A template.
    Template {
        /// Its name.
        #[schema(value_type = String)]
        name: TemplateName,
    },
    /// A token.
    Token {
        /// Its id.
        #[schema(value_type = String)]
        id: TokenId,
    },
    /// A machine that is no node and may reach the guests.
    Peer {
        /// Its name.
        #[schema(value_type = String)]
        name: PeerName,
    },
}

impl fmt::Display for Subject {
    /// `kind/name`, as on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node { name, .. } => write!(f, "node/{name}"),
            Self::Vm { name, .. } => write!(f, "vm/{name}"),
            Self::Template { name } => write!(f, "template/{name}"),
            Self::Token { id } => write!(f, "token/{id}"),
            Self::Peer { name } => write!(f, "peer/{name}"),
        }
    }
}

impl From<waifud_model::event::Subject> for Subject {
    fn from(subject: waifud_model::event::Subject) -> Self {
        use waifud_model::event::Subject as Model;
        match subject {
            Model::Cluster => Self::Cluster,
            Model::Node(id, name) => Self::Node { id, name },
            Model::Vm(id, name) => Self::Vm { id, name },
            Model::Template(name) => Self::Template { name },
            Model::Token(id) => Self::Token { id },
            Model::Peer(name) => Self::Peer { name },
        }
    }
}

/// One field, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The field.
    pub field: String,
    /// Before, if it had a value.
    pub old: Option<String>,
    /// After, if it has one.
    pub new: Option<String>,
}

impl From<waifud_model::event::Change> for Change {
    fn from(change: waifud_model::event::Change) -> Self {
        Self { field: change.field, old: change.old, new: change.new }
    }
}

/// One item of the live stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// An event of the log.
    Event(Event),
    /// An observation that is in no log.
    Observed(Observed),
    /// Some of the events that were asked for are not kept any more.
    Forgotten(Forgotten),
}

/// The stream was to begin where events are not kept any more: some are missing, and the rest follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forgotten {
    /// Those that are missing came before this one.
    #[schema(value_type = String)]
    pub before: EventId,
}

/// Something a node sees at this moment. It is what makes lists move; what matters for ever is an [`Event`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Observed {
    /// A VM's observed state is another.
    Vm {
        /// Its id.
        #[schema(value_type = String)]
        id: VmId,
        /// Its name.
        #[schema(value_type = String)]
        name: VmName,
        /// What is seen of it.
        status: Box<VmStatus>,
    },
    /// A node fell silent, or is heard again.
    Node {
        /// Its id.
        #[schema(value_type = String)]
        id: NodeId,
        /// Its name.
        #[schema(value_type = String)]
        name: NodeName,
        /// True while it is heard.
        alive: bool,
    },
    /// The answering node skipped observations, because the reader was slow: what it knows is to be read again.
    Skipped,
}

/// From where on events are wanted: after an event (`812.0`), after all events of an index (`812`), or from a time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// After this event.
    Event(EventId),
    /// At or after this moment.
    Time(Time),
}

/// A text that names neither event nor time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither an event (812.0, or 812 for all of that index) nor a time (2026-03-01T12:00:00Z)")]
pub struct SinceError(String);

impl FromStr for EventId {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        let refuse = || SinceError(text.chars().take(80).collect());
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let (index, seq) = match text.split_once('.') {
            Some((index, seq)) if plain(seq) => (index, seq.parse().map_err(|_| refuse())?),
            Some(_) => return Err(refuse()),
            None => (text, u32::MAX),
        };
        if !plain(index) {
            return Err(refuse());
        }
        Ok(Self { index: index.parse().map_err(|_| refuse())?, seq })
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        match text.parse() {
            Ok(time) => Ok(Self::Time(time)),
            Err(_) => text.parse().map(Self::Event),
        }
    }
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => id.fmt(f),
            Self::Time(time) => time.fmt(f),
        }
    }
}

serde_by_text!(EventId, Since);

/// The query of `GET /events`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Only later ones: after an event (`812.0`), after all of an index (`812`), or at and after a time. With it a list begins
    /// there; without it, a list ends with the newest event, and a stream begins now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub since: Option<Since>,
    /// Only earlier ones than this event or moment; for lists. To page backwards, give the first event of the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub before: Option<Since>,
    /// How many at most in a list; 100 if not given, at most 1000. A stream has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Of which kinds, with commas between: `created,deleted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub kind: Option<Kinds>,
    /// About what: `vm`, `vm/web-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub subject: Option<SubjectSelector>,
    /// By whom: `people`, `nodes`, `uid:1000`, `uid:1000@n1`, `token:ID`, `node:n1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub actor: Option<ActorSelector>,
}

impl EventsQuery {
    /// How many events a list has at most where the query does not say.
    pub const DEFAULT_LIMIT: u32 = 100;
    /// How many events a list ever has: about half a megabyte of JSON.
    pub const MAX_LIMIT: u32 = 1000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_and_show() {
        assert_eq!("812.3".parse(), Ok(Since::Event(EventId { index: 812, seq: 3 })));
        assert_eq!("812".parse(), Ok(Since::Event(EventId { index: 812, seq: u32::MAX })));
        for text in ["812.3", "812"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        let time = "2026-03-01T12:00:00.000Z";
        assert_eq!(time.parse::<Since>().unwrap().to_string(), time);
        for bad in ["", ".", "1.", ".1", "+1", "1.2.3", "-1", "99999999999999999999", "1.99999999999", "x"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
    }
}

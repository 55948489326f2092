//! What became of one name, and who did what: two ways to read the events.

use crate::{
    event::{Actor, Change, Event, EventId, Since, Subject},
    schema,
    select::{ActorSelector, SubjectSelector},
    time::Time,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use waifud_model::{event::EventKind, token::Role};

/// What became of a name: each object that ever had it, the oldest first. A name that was given again has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The objects.
    pub objects: Vec<ObjectHistory>,
    /// Where there are earlier events than these: ask for those `before` this one.
    #[schema(value_type = Option<String>)]
    pub more: Option<EventId>,
}

/// The life of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectHistory {
    /// Which, with the name it had last.
    pub subject: Subject,
    /// When it came to be; none where its beginning is not among these events.
    pub created_at: Option<Time>,
    /// When it was gone; none while it is there.
    pub deleted_at: Option<Time>,
    /// What happened to it, oldest first; also while it had another name.
    pub events: Vec<Event>,
}

/// The query of `GET /history/{kind}/{name}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Only what happened before this event or moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub before: Option<Since>,
    /// How many events at most, the newest of them; 100 if not given, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
}

/// One command of a person or their program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its index in the log.
    pub index: u64,
    /// When.
    pub at: Time,
    /// Who.
    pub actor: Actor,
    /// As what.
    #[schema(value_type = schema::Role)]
    pub role: Role,
    /// What their token was for, in its maker's words; none for a local user.
    pub token: Option<String>,
    /// The command in a word, as `create_vm`.
    pub command: String,
    /// What it did, and to what.
    pub effects: Vec<Effect>,
}

/// What a command did to one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Effect {
    /// The object.
    pub subject: Subject,
    /// What happened to it.
    #[schema(value_type = schema::EventKind)]
    pub kind: EventKind,
    /// Which fields changed, and how; secrets appear as digest and size.
    pub changes: Vec<Change>,
}

/// The query of `GET /audit`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only what was done after this event, or at and after this moment. With it the list begins there; without it, it ends
    /// with the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub since: Option<Since>,
    /// Only what was done before this event or moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub before: Option<Since>,
    /// How many commands at most; 100 if not given, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// By whom: `uid:1000`, `uid:1000@n1`, `token:ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub actor: Option<ActorSelector>,
    /// To what: `vm`, `vm/web-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub subject: Option<SubjectSelector>,
}

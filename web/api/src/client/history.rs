//! The calls about what happened: events as a list, the history of a name, and who did what.

use super::{Answer, Client, ClientError, calls::with_query};
use crate::{
    event::{Event, EventsQuery},
    history::{AuditEntry, AuditQuery, History, HistoryQuery},
    paths,
    select::ObjectName,
};
use std::fmt::Display;

/// Those pairs of a query that have a value.
#[derive(Default)]
pub(super) struct Pairs(pub(super) Vec<(&'static str, String)>);

impl Pairs {
    pub(super) fn with(mut self, name: &'static str, value: Option<impl Display>) -> Self {
        self.0.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// A query about events.
pub(super) fn pairs(query: EventsQuery) -> Pairs {
    let EventsQuery { since, before, limit, kind, subject, actor } = query;
    let pairs = Pairs::default().with("since", since).with("before", before).with("limit", limit);
    pairs.with("kind", kind).with("subject", subject).with("actor", actor)
}

impl Client {
    /// Past events, oldest first.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn events(&self, query: EventsQuery) -> Result<Answer<Vec<Event>>, ClientError> {
        self.get(with_query(paths::EVENTS, &pairs(query).0)).await
    }

    /// What became of a name: the objects that had it, gone ones too.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]. A name that no object ever had is not found.
    pub async fn history(&self, object: &ObjectName, query: HistoryQuery) -> Result<Answer<History>, ClientError> {
        let HistoryQuery { before, limit } = query;
        let pairs = Pairs::default().with("before", before).with("limit", limit);
        self.get(with_query(&paths::history(object), &pairs.0)).await
    }

    /// What people and their programs did, oldest first. For admins.
    ///
    /// # Errors
    /// As every call: see [`ClientError`].
    pub async fn audit(&self, query: AuditQuery) -> Result<Answer<Vec<AuditEntry>>, ClientError> {
        let AuditQuery { since, before, limit, actor, subject } = query;
        let pairs = Pairs::default().with("since", since).with("before", before).with("limit", limit);
        let pairs = pairs.with("actor", actor).with("subject", subject);
        self.get(with_query(paths::AUDIT, &pairs.0)).await
    }
}

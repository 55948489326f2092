//! Events, with the names of the nodes that acted.

use std::collections::BTreeMap;
use waifud_api::event::{self as wire, EventId};
use waifud_consensus::state::{ReadError, View};
use waifud_model::{
    command::Actor,
    event::{Change, Event},
    ids::NodeId,
    name::NodeName,
};

/// The nodes' names, for the actors of events.
#[derive(Debug)]
pub(crate) struct Names(BTreeMap<NodeId, NodeName>);

impl Names {
    /// Reads them.
    pub(crate) fn read(view: &View<'_>) -> Result<Self, ReadError> {
        Ok(Self(view.nodes()?.into_iter().map(|node| (node.id, node.name)).collect()))
    }

    fn node(&self, id: NodeId) -> String {
        self.0.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }
}

/// The event as the API shows it.
pub(crate) fn wire(event: Event, names: &Names) -> wire::Event {
    wire::Event {
        id: EventId { index: event.index, seq: event.seq },
        at: event.at.into(),
        actor: match event.actor {
            Actor::Local { node, uid } => wire::Actor::Local { node: names.node(node), uid },
            Actor::Token(id) => wire::Actor::Token { id },
            Actor::Node(node) => wire::Actor::Node { node: names.node(node) },
        },
        subject: event.subject.into(),
        kind: event.kind,
        changes: event.changes.into_iter().map(|change| named(change, names)).collect(),
    }
}

/// The log keeps a node's id, people want its name.
fn named(change: Change, names: &Names) -> wire::Change {
    let Change { field, old, new } = change;
    if !matches!(field.as_str(), "node" | "origin") {
        return wire::Change { field, old, new };
    }
    let name = |text: String| text.parse().map_or(text, |id| names.node(id));
    wire::Change { field, old: old.map(name), new: new.map(name) }
}

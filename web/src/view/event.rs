//! Events, with the names of the nodes that acted; and selectors, with names turned into what events are kept under.

use std::collections::BTreeMap;
use waifud_api::{
    event::{self as wire, EventsQuery, Since},
    select::{ActorSelector, Kinds, SubjectSelector},
};
use waifud_consensus::state::{ByActor, BySubject, EventQuery, ReadError, SubjectKey, View};
use waifud_model::{
    command::Actor,
    event::{Change, Event, Place, SubjectKind},
    ids::NodeId,
    name::NodeName,
    scope::Scope,
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
        id: event.place().into(),
        at: event.at.into(),
        actor: actor(event.actor, names),
        command: event.command,
        subject: event.subject.into(),
        kind: event.kind,
        changes: changes(event.changes, names),
    }
}

/// Who acted, as the API shows it.
pub(super) fn actor(actor: Actor, names: &Names) -> wire::Actor {
    match actor {
        Actor::Local { node, uid } => wire::Actor::Local { node: names.node(node), uid },
        Actor::Token(id) => wire::Actor::Token { id },
        Actor::Node(node) => wire::Actor::Node { node: names.node(node) },
    }
}

/// What changed, as the API shows it.
pub(super) fn changes(changes: Vec<Change>, names: &Names) -> Vec<wire::Change> {
    changes.into_iter().map(|change| named(change, names)).collect()
}

/// Which events a request of somebody with this scope wants. Without `since` a list ends with the newest.
pub(crate) fn query(view: &View<'_>, scope: Scope, query: EventsQuery, limit: u32) -> Result<EventQuery, ReadError> {
    let EventsQuery { since, before, limit: _, kind, subject, actor } = query;
    Ok(EventQuery {
        after: since.map(|since| place(view, since)).transpose()?,
        before: before.map(|before| place_before(view, before)).transpose()?,
        subject: subject.map(by_subject),
        actor: actor.map(|actor| by_actor(view, actor)).transpose()?,
        kinds: kind.map_or_else(Vec::new, |Kinds(kinds)| kinds),
        scope,
        limit,
        newest: since.is_none(),
    })
}

/// The last event that is not wanted.
pub(super) fn place(view: &View<'_>, since: Since) -> Result<Place, ReadError> {
    match since {
        Since::Event(id) => Ok(id.into()),
        Since::Time(at) => view.event_before(at.0),
    }
}

/// The first event that is not wanted any more.
pub(super) fn place_before(view: &View<'_>, before: Since) -> Result<Place, ReadError> {
    match before {
        // All events of an index are before the next one, not after it: `before=812` leaves those of 812 out.
        Since::Event(id) if id.seq == u32::MAX => Ok(Place { index: id.index, seq: 0 }),
        Since::Event(id) => Ok(id.into()),
        Since::Time(at) => {
            let Place { index, seq } = view.event_before(at.0)?;
            Ok(Place { index, seq: seq.saturating_add(1) })
        }
    }
}

pub(super) fn by_subject(SubjectSelector { kind, name }: SubjectSelector) -> BySubject {
    match name {
        Some(name) => BySubject::Name(kind, name),
        None => BySubject::Kind(kind),
    }
}

/// A name of a node stands for all nodes that ever had it, gone ones too.
pub(super) fn by_actor(view: &View<'_>, actor: ActorSelector) -> Result<ByActor, ReadError> {
    Ok(match actor {
        ActorSelector::People => ByActor::People,
        ActorSelector::Nodes => ByActor::Nodes,
        ActorSelector::Token(id) => ByActor::Is(vec![Actor::Token(id)]),
        ActorSelector::Uid { uid, node: None } => ByActor::Uid(uid),
        ActorSelector::Uid { uid, node: Some(name) } => {
            ByActor::Is(node_ids(view, &name)?.into_iter().map(|node| Actor::Local { node, uid }).collect())
        }
        ActorSelector::Node(name) => ByActor::Is(node_ids(view, &name)?.into_iter().map(Actor::Node).collect()),
    })
}

fn node_ids(view: &View<'_>, name: &str) -> Result<Vec<NodeId>, ReadError> {
    let mut ids: Vec<NodeId> = name.parse().ok().into_iter().collect();
    if let Ok(name) = NodeName::new(name) {
        ids.extend(view.node_by_name(&name)?.map(|node| node.id));
    }
    let past = view.named(SubjectKind::Node, name)?;
    ids.extend(past.into_iter().filter_map(|key| if let SubjectKey::Node(id) = key { Some(id) } else { None }));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
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

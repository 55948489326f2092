//! What became of a name, and who did what: events, put together by object and by command.
//!
//! In: pages of events. Out: the lives of all objects that had a name, told apart by id, and where the name itself is the
//! identity (templates, peers) by where one ended and the next began.

use super::event::{self, Names};
use std::collections::BTreeSet;
use waifud_api::{
    history::{AuditEntry, AuditQuery, Effect, History, ObjectHistory},
    select::ObjectName,
};
use waifud_consensus::state::{BySubject, EventQuery, ReadError, SubjectKey, View};
use waifud_model::{
    event::{Event, EventKind, Place, Subject, SubjectKind},
    ids::TokenId,
    name::{NodeName, PeerName, TemplateName, VmName},
    scope::Scope,
};

/// The history of a name: of its newest `limit` events before a place. None where there is no such object and never was, as
/// far as is remembered, or none that somebody with this scope may know of.
pub(crate) fn history(
    view: &View<'_>,
    scope: &Scope,
    object: &ObjectName,
    before: Option<waifud_api::event::Since>,
    limit: u32,
) -> Result<Option<History>, ReadError> {
    let living = living(view, object)?;
    let mut known: BTreeSet<SubjectKey> = view.named(object.kind(), object.name())?.into_iter().collect();
    known.extend(living.as_ref().map(SubjectKey::from));
    let mut keys = Vec::new();
    for key in known {
        if view.sees(scope, &key)? {
            keys.push(key);
        }
    }
    let living = living.filter(|subject| keys.contains(&subject.into()));
    if keys.is_empty() {
        return Ok(None);
    }
    let query = EventQuery {
        subject: Some(BySubject::Keys(keys)),
        before: before.map(|before| event::place_before(view, before)).transpose()?,
        // One more tells whether there are more.
        ..EventQuery::last(limit + 1)
    };
    let mut events = view.events(&query)?;
    let surplus = events.len().saturating_sub(limit as usize);
    events.drain(..surplus);
    let more = events.first().map(Event::place).filter(|_| surplus > 0).map(Into::into);
    let names = Names::read(view)?;
    let mut lives = lives(events);
    if let Some(subject) = living.filter(|_| lives.is_empty() && query.before.is_none()) {
        lives.push((subject, Vec::new()));
    }
    let objects = lives.into_iter().map(|(subject, events)| life(subject, events, &names)).collect();
    Ok(Some(History { objects, more }))
}

/// The object that has the name now.
fn living(view: &View<'_>, object: &ObjectName) -> Result<Option<Subject>, ReadError> {
    let name = object.name();
    Ok(match object.kind() {
        SubjectKind::Cluster => (name == SubjectKind::Cluster.as_str()).then_some(Subject::Cluster),
        SubjectKind::Vm => match VmName::new(name) {
            Ok(name) => view.vm_by_name(&name)?.map(|vm| Subject::Vm(vm.id, vm.name)),
            Err(_) => None,
        },
        SubjectKind::Node => match NodeName::new(name) {
            Ok(name) => view.node_by_name(&name)?.map(|node| Subject::Node(node.id, node.name)),
            Err(_) => None,
        },
        SubjectKind::Template => match TemplateName::new(name) {
            Ok(name) => view.newest_version(&name)?.map(|version| Subject::Template(version.template)),
            Err(_) => None,
        },
        SubjectKind::Peer => match PeerName::new(name) {
            Ok(name) => view.net_peer(&name)?.map(|peer| Subject::Peer(peer.name)),
            Err(_) => None,
        },
        SubjectKind::Token => match name.parse::<TokenId>() {
            Ok(id) => {
                let there = view.api_token(id)?.is_some() || view.join_token(id)?.is_some();
                there.then_some(Subject::Token(id))
            }
            Err(_) => None,
        },
    })
}

/// Events by object, in the order in which the objects first appear.
fn lives(events: Vec<Event>) -> Vec<(Subject, Vec<Event>)> {
    let mut lives: Vec<(Subject, Vec<Event>)> = Vec::new();
    for event in events {
        let key = SubjectKey::from(&event.subject);
        let its = lives.iter_mut().rev().find(|(subject, _)| SubjectKey::from(subject) == key);
        match its.filter(|_| event.kind != EventKind::Created) {
            Some((subject, events)) => {
                subject.clone_from(&event.subject);
                events.push(event);
            }
            None => lives.push((event.subject.clone(), vec![event])),
        }
    }
    lives
}

fn life(subject: Subject, events: Vec<Event>, names: &Names) -> ObjectHistory {
    let at = |kind| events.iter().find(|event| event.kind == kind).map(|event| event.at.into());
    let (created_at, deleted_at) = (at(EventKind::Created), at(EventKind::Deleted));
    let events = events.into_iter().map(|event| event::wire(event, names)).collect();
    ObjectHistory { subject: subject.into(), created_at, deleted_at, events }
}

/// What people did, oldest first.
pub(crate) fn audit(view: &View<'_>, query: AuditQuery, limit: u32) -> Result<Vec<AuditEntry>, ReadError> {
    let AuditQuery { since, before, limit: _, actor, subject } = query;
    let query = EventQuery {
        after: since.map(|since| event::place(view, since)).transpose()?,
        before: before.map(|before| event::place_before(view, before)).transpose()?,
        subject: subject.map(event::by_subject),
        actor: actor.map(|actor| event::by_actor(view, actor)).transpose()?,
        kinds: Vec::new(),
        // Admins have none.
        scope: Scope::default(),
        limit,
        newest: since.is_none(),
    };
    let names = Names::read(view)?;
    Ok(view.commands(&query)?.into_iter().filter_map(|events| entry(events, &names)).collect())
}

/// One command. None for no events, and for a node's, which the view leaves out.
fn entry(events: Vec<Event>, names: &Names) -> Option<AuditEntry> {
    let first = events.first()?;
    let (Place { index, .. }, at) = (first.place(), first.at.into());
    let (actor, command) = (event::actor(first.actor.clone(), names), first.command.clone());
    let authority = first.authority.clone()?;
    let effects = events.into_iter().map(|event| Effect {
        subject: event.subject.into(),
        kind: event.kind,
        changes: event::changes(event.changes, names),
    });
    let effects = effects.collect();
    Some(AuditEntry { index, at, actor, role: authority.role, token: authority.token, command, effects })
}

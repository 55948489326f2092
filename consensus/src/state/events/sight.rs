//! What of the events somebody may know of whose token is for some VMs only.
//!
//! A VM that is there is judged by its labels now, whatever they were at the time. One that is gone is judged by those it had
//! last, which its events tell. Nodes, templates, peers and the cluster are everybody's; tokens are not.

use super::{
    super::{read::ReadError, rows::vm, view::View},
    BySubject, EventQuery, SubjectKey,
};
use std::collections::BTreeMap;
use waifud_model::{
    event::{EventKind, Subject},
    ids::VmId,
    labels::Labels,
    scope::Scope,
};

/// Judges many events, and each object once.
pub(super) struct Sight<'a> {
    view: View<'a>,
    scope: &'a Scope,
    judged: BTreeMap<SubjectKey, bool>,
}

impl<'a> Sight<'a> {
    pub(super) fn of(view: View<'a>, scope: &'a Scope) -> Self {
        Self { view, scope, judged: BTreeMap::new() }
    }

    /// May somebody with this scope know of the object?
    pub(super) fn has(&mut self, subject: &Subject) -> Result<bool, ReadError> {
        if self.scope.is_whole() {
            return Ok(true);
        }
        let key = SubjectKey::from(subject);
        if let Some(known) = self.judged.get(&key) {
            return Ok(*known);
        }
        let sees = sees(self.view, self.scope, &key)?;
        self.judged.insert(key, sees);
        Ok(sees)
    }
}

/// See [`View::sees`].
pub(in crate::state) fn sees(view: View<'_>, scope: &Scope, key: &SubjectKey) -> Result<bool, ReadError> {
    Ok(match key {
        _ if scope.is_whole() => true,
        SubjectKey::Vm(id) => labels(view, *id)?.is_some_and(|labels| scope.has(&labels)),
        SubjectKey::Token(_) => false,
        SubjectKey::Cluster | SubjectKey::Node(_) | SubjectKey::Template(_) | SubjectKey::Peer(_) => true,
    })
}

/// A VM's labels, or those it had last. None where nobody can tell: its beginning is not remembered any more.
fn labels(view: View<'_>, id: VmId) -> Result<Option<Labels>, ReadError> {
    let sql = format!("SELECT {} FROM vms WHERE id = ?1", vm::BRIEF_COLUMNS);
    if let Some(brief) = view.one(&sql, [id.as_bytes()], vm::read_brief)? {
        return Ok(Some(brief.vm.spec.labels));
    }
    let its = BySubject::Keys(vec![SubjectKey::Vm(id)]);
    let events = view.events(&EventQuery { subject: Some(its), ..EventQuery::first(u32::MAX) })?;
    if events.first().is_none_or(|first| first.kind != EventKind::Created) {
        return Ok(None);
    }
    let mut labels = BTreeMap::new();
    for change in events.into_iter().flat_map(|event| event.changes) {
        let Some(key) = change.field.strip_prefix("labels.") else { continue };
        match change.new {
            Some(value) => labels.insert(key.to_owned(), value),
            None => labels.remove(key),
        };
    }
    // They were let in as labels, each of them.
    Ok(labels.try_into().ok())
}

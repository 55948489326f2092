//! The live event stream: what is in the log, and what is only seen.
//!
//! In: the applied index and the observer's picture, each as a level to wait on. Out: server-sent events. Log events carry
//! their id and are never missed: the stream pulls them from the replica after a cursor, so a slow reader costs nothing but
//! its own time, and `Last-Event-ID` resumes on any node. Observations carry no id; those between two looks are folded into one.
//!
//! ```text
//!   ┌─> log events after the cursor? ── yes ─> send, move the cursor ─┐
//!   │        │ no                                                     │
//!   │   another picture? ── yes ─> send what differs ─────────────────┤
//!   │        │ no                                                     │
//!   └── wait for either <─────────────────────────────────────────────┘
//! ```

use crate::{
    app::App,
    ports::{Clock, Observed},
    view::{self, EventNames},
};
use axum::response::sse::Event as Frame;
use futures::{Stream, stream};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};
use tokio::sync::watch;
use waifud_api::event::{EventId, Forgotten, Observed as Seen, STREAM_EVENT, STREAM_FORGOTTEN, STREAM_OBSERVED};
use waifud_consensus::{
    Applied, Handle,
    state::{self, EventQuery, View},
};
use waifud_model::{
    command::Actor,
    event::Place,
    ids::{NodeId, VmId},
    scope::Scope,
    time::Timestamp,
};

/// Events read at once: a few hundred kilobytes at the most.
const BATCH: u32 = 256;

/// If more VMs than this differ between two pictures, the reader had better read the list again.
const SEEN_MAX: usize = 200;

/// Where a stream begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Begin {
    /// After an event that the reader has had, from whichever node. This one may not have applied as much yet: then it
    /// waits until it has, and sends nothing twice.
    Resume(Place),
    /// After this place, which the reader does not know: it is told, so that it can resume before the first event comes.
    At(Place),
}

/// All events after `begin` that the filter lets through, for as long as the reader stays and may look.
pub(crate) fn feed(
    app: &App,
    reader: Actor,
    begin: Begin,
    filter: EventQuery,
) -> impl Stream<Item = Result<Frame, FeedError>> + use<> {
    let observed = app.observer.observed();
    let shown = observed.borrow().clone();
    let (cursor, ready) = match begin {
        Begin::Resume(place) => (place, VecDeque::new()),
        Begin::At(place) => (place, VecDeque::from([Frame::default().id(EventId::from(place).to_string())])),
    };
    let feed = Feed {
        reader,
        clock: app.clock.clone(),
        consensus: app.consensus.clone(),
        applied: app.consensus.applied(),
        observed,
        shown,
        filter: EventQuery { newest: false, limit: BATCH, ..filter },
        cursor,
        begun: false,
        ready,
    };
    stream::try_unfold(feed, Feed::next)
}

/// Why a stream ended. The reader connects again, and resumes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// The replica cannot be read.
    #[error("the state cannot be read")]
    Read(#[from] waifud_consensus::ReadError),
    /// An event cannot be written.
    #[error("the event cannot be written")]
    Write(#[from] axum::Error),
}

struct Feed {
    reader: Actor,
    clock: Arc<dyn Clock>,
    consensus: Handle,
    applied: watch::Receiver<Applied>,
    observed: watch::Receiver<Arc<Observed>>,
    /// The picture the reader knows.
    shown: Arc<Observed>,
    /// What the reader wants of the log's events.
    filter: EventQuery,
    /// Everything up to here was sent, or is not what the reader wants.
    cursor: Place,
    /// Was it looked whether what is wanted is still kept?
    begun: bool,
    ready: VecDeque<Frame>,
}

impl Feed {
    async fn next(mut self) -> Result<Option<(Frame, Self)>, FeedError> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Ok(Some((frame, self)));
            }
            // Marked as seen before looking, so that nothing that comes meanwhile is slept through.
            self.applied.mark_unchanged();
            self.observed.mark_unchanged();
            if !self.take_events().await? {
                return Ok(None);
            }
            if self.ready.is_empty() {
                self.take_observations().await?;
            }
            if !self.ready.is_empty() {
                continue;
            }
            let changed = tokio::select! {
                changed = self.applied.changed() => changed,
                changed = self.observed.changed() => changed,
            };
            // The node is shutting down.
            if changed.is_err() {
                return Ok(None);
            }
        }
    }

    /// False: the reader may not look any more.
    async fn take_events(&mut self) -> Result<bool, FeedError> {
        let (reader, now, query) = (self.reader.clone(), self.clock.now(), self.filter.clone().after(self.cursor));
        let read = move |view: &View<'_>| {
            if !may_look(view, &reader, now)? {
                return Ok(None);
            }
            let edges = (view.newest_event()?, view.events_forgotten()?);
            Ok(Some((view.events(&query)?, edges, EventNames::read(view)?)))
        };
        let Some((events, (newest, forgotten), names)) = self.consensus.read(read).await? else { return Ok(false) };
        if !std::mem::replace(&mut self.begun, true)
            && let Some(edge) = forgotten.filter(|edge| self.cursor < *edge)
        {
            let forgotten = Forgotten { before: edge.into() };
            self.ready.push_back(Frame::default().event(STREAM_FORGOTTEN).json_data(forgotten)?);
        }
        let whole = events.len() < BATCH as usize;
        for event in events {
            self.cursor = event.place();
            let event = view::event(event, &names);
            self.ready.push_back(Frame::default().id(event.id.to_string()).event(STREAM_EVENT).json_data(event)?);
        }
        // What the filter left out need not be looked at again, by this stream or by the one that resumes it.
        if let Some(newest) = newest.filter(|newest| whole && self.cursor < *newest) {
            self.cursor = newest;
            self.ready.push_back(Frame::default().id(EventId::from(newest).to_string()));
        }
        Ok(true)
    }

    async fn take_observations(&mut self) -> Result<(), FeedError> {
        let now = self.observed.borrow().clone();
        let before = std::mem::replace(&mut self.shown, now.clone());
        let difference = difference(&before, &now);
        if difference.is_empty() {
            return Ok(());
        }
        let scope = self.filter.scope.clone();
        for seen in self.consensus.read(move |view| name(view, &scope, &difference, &now)).await? {
            self.ready.push_back(Frame::default().event(STREAM_OBSERVED).json_data(seen)?);
        }
        Ok(())
    }
}

/// A stream outlives the moment at which its reader was let in. Revoking a token is an event, so it ends the stream at once.
pub(crate) fn may_look(view: &View<'_>, reader: &Actor, now: Timestamp) -> Result<bool, state::ReadError> {
    match reader {
        Actor::Token(id) => {
            Ok(view.api_token(*id)?.is_some_and(|token| token.expires_at.is_none_or(|until| now < until)))
        }
        Actor::Local { .. } | Actor::Node(_) => Ok(true),
    }
}

/// What differs between two pictures.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    nodes: BTreeSet<NodeId>,
    vms: BTreeSet<(NodeId, VmId)>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.vms.is_empty()
    }
}

fn difference(before: &Observed, now: &Observed) -> Difference {
    let mut found = Difference::default();
    let ids: BTreeSet<NodeId> = before.nodes.keys().chain(now.nodes.keys()).copied().collect();
    for id in ids {
        let (was, is) = (before.nodes.get(&id), now.nodes.get(&id));
        if was.zip(is).is_some_and(|(was, is)| Arc::ptr_eq(was, is)) {
            continue;
        }
        if was.is_some_and(|seen| seen.alive) != is.is_some_and(|seen| seen.alive) {
            found.nodes.insert(id);
        }
        // A VM that is no longer told of has an event of its own in the log.
        let told = is.into_iter().flat_map(|seen| &seen.vms);
        let news = told.filter(|(vm, told)| was.and_then(|seen| seen.vms.get(vm)) != Some(told));
        found.vms.extend(news.map(|(vm, _)| (id, *vm)));
    }
    found
}

/// The difference with names. What the replica does not know (any more) is left out, and so is what the reader may not know.
fn name(
    view: &View<'_>,
    scope: &Scope,
    difference: &Difference,
    now: &Observed,
) -> Result<Vec<Seen>, state::ReadError> {
    let mut seen = Vec::new();
    for id in &difference.nodes {
        if let Some(node) = view.node(*id)? {
            seen.push(Seen::Node { id: *id, name: node.name, alive: now.alive(*id).is_some() });
        }
    }
    if difference.vms.len() > SEEN_MAX {
        seen.push(Seen::Skipped);
        return Ok(seen);
    }
    for (owner, id) in &difference.vms {
        if let Some(vm) = view.vm(*id)?.filter(|vm| vm.node == *owner && scope.has(&vm.spec.labels)) {
            let status = view::vm_status(&vm, now.seen(*owner));
            seen.push(Seen::Vm { id: *id, name: vm.name, status: status.into() });
        }
    }
    Ok(seen)
}

//! The list of all VMs, kept until something about it changes: a page that is open on many screens asks for the same list
//! again and again.
//!
//! ```text
//!   records   as they were at an applied index        read again when the replica has moved on
//!   json      of these records, and one picture       written again when either is another
//! ```
//!
//! In: the replica and the observer's picture. Out: the same bytes as if both were read for each request: both are levels
//! that every change replaces, and what is kept is at least as new as the index it is kept under. Must not keep anything
//! that depends on who asks or when. About 2 KiB a VM are held from the first list on.

use super::vm::{merge_brief, node_names};
use crate::{conditional::Whole, ports::Observed, problem::Failure};
use bytes::Bytes;
use serde::Serializer as _;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::Mutex;
use waifud_api::{
    filter::Filter,
    page::{Page, PageQuery},
    vm as wire,
};
use waifud_consensus::{
    Handle,
    state::{ReadError, View, VmBrief},
};
use waifud_model::{
    ids::NodeId,
    name::{NodeName, VmName},
    scope::Scope,
    vm::Vm,
};

/// All VMs by name, and their owners' names.
#[derive(Debug)]
pub(crate) struct Records {
    vms: Vec<VmBrief>,
    nodes: BTreeMap<NodeId, NodeName>,
}

impl Records {
    /// All VMs by name.
    pub(crate) fn vms(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter().map(|brief| &brief.vm)
    }

    fn read(view: &View<'_>) -> Result<Self, ReadError> {
        Ok(Self { vms: view.vms_brief()?, nodes: node_names(view)? })
    }

    fn shown<'a>(&'a self, observed: &'a Observed) -> impl Iterator<Item = wire::Vm> {
        self.vms.iter().filter_map(|vm| Some(merge_brief(vm, self.nodes.get(&vm.vm.node)?.clone(), observed)))
    }
}

/// The last list.
#[derive(Debug, Default)]
pub(crate) struct VmList(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    index: u64,
    records: Arc<Records>,
    json: Option<(Arc<Observed>, Bytes, Whole)>,
}

impl VmList {
    /// The records, read now or kept since the last change.
    pub(crate) async fn records(&self, consensus: &Handle) -> Result<Arc<Records>, Failure> {
        let mut kept = self.0.lock().await;
        Ok(current(&mut kept, consensus).await?.records.clone())
    }

    /// All VMs in JSON, and the tag of that: to digest ten thousand takes longer than all else about a kept answer.
    pub(crate) async fn json(&self, consensus: &Handle, observed: Arc<Observed>) -> Result<(Bytes, Whole), Failure> {
        // Held while reading and writing: those who ask meanwhile want the same.
        let mut kept = self.0.lock().await;
        let kept = current(&mut kept, consensus).await?;
        if let Some((of, json, tag)) = &kept.json
            && Arc::ptr_eq(of, &observed)
        {
            return Ok((json.clone(), tag.clone()));
        }
        let mut json = Vec::new();
        let written = serde_json::Serializer::new(&mut json).collect_seq(kept.records.shown(&observed));
        written.map_err(|_| Failure::Internal("a list cannot be written"))?;
        let tag = Whole::of(&json);
        let json = Bytes::from(json);
        kept.json = Some((observed, json.clone(), tag.clone()));
        Ok((json, tag))
    }

    /// The VMs of a scope that match, by name: the part that is wanted.
    pub(crate) async fn matching(
        &self,
        consensus: &Handle,
        observed: &Observed,
        scope: &Scope,
        filter: &Filter,
        page: &PageQuery<VmName>,
    ) -> Result<Page<wire::Vm>, Failure> {
        let records = self.records(consensus).await?;
        Ok(Page::of(records.shown(observed).filter(|vm| scope.has(&vm.labels) && filter.matches(vm)), page))
    }
}

/// What is kept, after it was read again if the replica has moved on.
async fn current<'a>(kept: &'a mut Option<Kept>, consensus: &Handle) -> Result<&'a mut Kept, Failure> {
    // Taken before the state is read, which may be newer: then it is read once too often, and never too seldom.
    let index = consensus.applied().borrow().index;
    let now = match kept.take().filter(|kept| kept.index == index) {
        Some(kept) => kept,
        None => {
            let records = consensus.read(Records::read).await?;
            Kept { index, records: Arc::new(records), json: None }
        }
    };
    Ok(kept.insert(now))
}

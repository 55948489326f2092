//! What the client asked for and what it was told: the measure of what must be true.
//!
//! In: each try and its answer. Out: facts for the invariants. It knows nothing of nodes or states.

use super::{dice::Dice, verbs::Verb};
use std::collections::{BTreeMap, BTreeSet};
use waifud_consensus::{Committed, ProposeError};
use waifud_model::{
    command::{Reply, RequestKey},
    ids::{Generation, NodeId, VmId},
    labels::LabelPatch,
    name::{NodeName, TemplateName, VmName},
    template::TemplateVersion,
    vm::{Desired, RestartPolicy, Vm},
};
use waifud_node::daemon::Override;

/// What a request wants.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// A VM.
    Create {
        name: VmName,
        template: TemplateName,
        cpus: u32,
        pin: Option<NodeName>,
        desired: Desired,
        restart: RestartPolicy,
    },
    /// Something done with a VM, perhaps only if nobody else has since it was last seen.
    Do { vm: VmId, verb: Verb, expect: Option<Generation> },
    /// A VM gone.
    Delete { vm: VmId },
    /// A template version.
    Template(Box<TemplateVersion>),
    /// A node in or out of placement.
    Cordon { node: NodeId, cordoned: bool },
    /// A node with other labels.
    Label { node: NodeId, labels: LabelPatch },
}

/// What the client knows of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not answered yet, or with an error that promises nothing.
    Open,
    /// Answered: nothing was written, and nothing will be.
    Never,
    /// Answered: done.
    Done,
}

/// An id that was minted for a VM.
#[derive(Debug, Clone)]
pub(crate) struct Minted {
    pub(crate) request: usize,
    /// Where it was placed.
    pub(crate) node: NodeId,
    pub(crate) fate: Fate,
}

/// One request, under one key, in one or more tries.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) key: RequestKey,
    pub(crate) wish: Wish,
    /// Where it is in the log and what it gave, once that was told.
    pub(crate) accepted: Option<(u64, Reply)>,
}

/// All that was asked and told.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) requests: Vec<Request>,
    pub(crate) minted: BTreeMap<VmId, Minted>,
    /// VMs somebody tried to delete, and where in the log that was accepted.
    pub(crate) deletes: BTreeMap<VmId, Option<u64>>,
    /// The last accepted change of each VM, by its place in the log.
    pub(crate) changes: BTreeMap<VmId, (u64, Vm)>,
    /// The last thing that each VM's owner promised to do without the cluster.
    pub(crate) promises: BTreeMap<VmId, Override>,
    /// VMs somebody tried to give another name.
    pub(crate) renamed: BTreeSet<VmId>,
    /// Answers that contradict each other.
    pub(crate) contradictions: Vec<String>,
    /// Tries that are under way.
    pub(crate) open: u64,
    pub(crate) writes: u64,
    pub(crate) refused: u64,
    pub(crate) unanswered: u64,
    /// Promises to do something without the cluster.
    pub(crate) alone: u64,
}

impl Oracle {
    /// A new request.
    pub(crate) fn ask(&mut self, key: RequestKey, wish: Wish) -> usize {
        self.requests.push(Request { key, wish, accepted: None });
        self.requests.len() - 1
    }

    /// A try begins. For a VM to be made: its id and where it was placed.
    pub(crate) fn tries(&mut self, request: usize, minted: Option<(VmId, NodeId)>) {
        self.open += 1;
        if let Some((vm, node)) = minted {
            self.minted.insert(vm, Minted { request, node, fate: Fate::Open });
        }
        match self.requests[request].wish {
            Wish::Delete { vm } => {
                self.deletes.entry(vm).or_insert(None);
            }
            Wish::Do { vm, verb: Verb::Rename(_), .. } => {
                self.renamed.insert(vm);
            }
            _ => {}
        }
    }

    /// A try was answered.
    pub(crate) fn told(&mut self, request: usize, minted: Option<VmId>, answer: &Result<Committed, ProposeError>) {
        self.open -= 1;
        let fate = match answer {
            Ok(committed) => {
                self.writes += 1;
                self.accepted(request, committed);
                Fate::Done
            }
            // A refusal is remembered nowhere: a try of the same request that is still on its way may yet be accepted.
            Err(ProposeError::Rejected { .. }) => {
                self.refused += 1;
                Fate::Open
            }
            Err(ProposeError::Unknown) => {
                self.unanswered += 1;
                Fate::Open
            }
            Err(
                ProposeError::NoLeaderYet
                | ProposeError::NoQuorum { .. }
                | ProposeError::ClockSkew { .. }
                | ProposeError::Halted(_),
            ) => {
                self.unanswered += 1;
                Fate::Never
            }
        };
        if let Some(minted) = minted.and_then(|vm| self.minted.get_mut(&vm)) {
            minted.fate = fate;
        }
    }

    /// The VM's owner promised to do it without the cluster.
    pub(crate) fn alone(&mut self, vm: VmId, wish: Override) {
        self.alone += 1;
        self.promises.insert(vm, wish);
    }

    fn accepted(&mut self, request: usize, committed: &Committed) {
        let Committed { index, reply, .. } = committed;
        let known = &mut self.requests[request];
        match &known.accepted {
            Some((_, first)) if first != reply => {
                let key = &known.key.key;
                self.contradictions.push(format!("request {key} was answered with {first:?}, then with {reply:?}"));
            }
            // The earlier place may be that of a repetition too; whichever is earlier binds earlier.
            Some((first, _)) if first <= index => {}
            _ => known.accepted = Some((*index, reply.clone())),
        }
        match (&known.wish, reply) {
            (Wish::Delete { vm }, _) => {
                let at = self.deletes.entry(*vm).or_insert(None);
                *at = Some(at.map_or(*index, |first| first.min(*index)));
            }
            (Wish::Do { vm, .. }, Reply::Vm(record)) => {
                let newer = self.changes.get(vm).is_none_or(|(_, known)| known.generation < record.generation);
                if newer {
                    self.changes.insert(*vm, (*index, (**record).clone()));
                }
            }
            _ => {}
        }
    }

    /// What somebody careful takes a VM's generation to be: the last that was told.
    pub(crate) fn generation(&self, vm: VmId, dice: &mut Dice) -> Option<Generation> {
        let told = self.changes.get(&vm).map(|(_, record)| record.generation);
        dice.permille(250).then_some(told.unwrap_or(Generation(1)))
    }

    /// The VMs that were made for the client, and where in the log.
    pub(crate) fn created(&self) -> impl Iterator<Item = (u64, &Vm)> {
        self.requests.iter().filter_map(|request| match (&request.wish, &request.accepted) {
            (Wish::Create { .. }, Some((index, Reply::Vm(vm)))) => Some((*index, &**vm)),
            _ => None,
        })
    }

    /// The template versions that were added for the client, and where in the log.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (u64, &TemplateVersion)> {
        self.requests.iter().filter_map(|request| match &request.accepted {
            Some((index, Reply::Template(version))) => Some((*index, &**version)),
            _ => None,
        })
    }
}

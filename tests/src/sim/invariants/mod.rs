//! What must be true after every step, one rule a file. A rule may remember; it never changes anything.

mod acknowledged;
mod addresses;
mod agreement;
mod election;
mod foreign;
mod gone;
mod once;
mod one_runner;
mod owners;
mod rules;
mod standing;

use super::{host::Host, oracle::Oracle};
use std::{fmt::Debug, sync::Arc};
use waifud_model::{digest::Blake3, ids::NodeId, state::ClusterState};

/// A running node's replica.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) node: NodeId,
    /// How far it has applied the log.
    pub(crate) index: u64,
    pub(crate) digest: Blake3,
    pub(crate) state: Arc<ClusterState>,
    /// The term in which it leads, if it thinks so.
    pub(crate) leads: Option<u64>,
    /// Why it takes no part any more.
    pub(crate) halted: Option<String>,
}

/// Everything that can be looked at, at one moment.
#[derive(Debug)]
pub(crate) struct Moment<'a> {
    pub(crate) replicas: &'a [Replica],
    pub(crate) hosts: &'a [Host],
    pub(crate) oracle: &'a Oracle,
}

/// A rule.
pub(crate) trait Invariant: Debug {
    /// Its name, for reports.
    fn name(&self) -> &'static str;

    /// Looks.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&mut self, moment: &Moment<'_>) -> Result<(), String>;
}

/// All rules.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(standing::Standing),
        Box::new(election::Election::default()),
        Box::new(agreement::Agreement::default()),
        Box::new(rules::Rules),
        Box::new(acknowledged::Acknowledged::default()),
        Box::new(once::Once::default()),
        Box::new(addresses::Addresses::default()),
        Box::new(one_runner::OneRunner),
        Box::new(owners::Owners),
        Box::new(foreign::Foreign),
        Box::new(gone::Gone::default()),
    ]
}

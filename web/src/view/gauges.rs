//! The state at the moment of a scrape, counted for `/metrics`.

use super::list::VmList;
use crate::{app::App, metrics::Gauges, problem::Failure, standing, view};
use waifud_consensus::Role;
use waifud_model::observed::VmState;

/// Counts.
pub(crate) async fn gauges(app: &App, list: &VmList) -> Result<Gauges, Failure> {
    let observed = app.observed();
    let records = list.records(&app.consensus).await?;
    let nodes = app.consensus.read(|view| view.nodes()).await?;
    let status = app.consensus.status().borrow().clone();
    let standing = standing::of(&status, &observed, app.clock.now());
    let counted = app.consensus.metrics();
    let mut gauges = Gauges {
        version: app.version.to_owned(),
        node: app.name.to_string(),
        applied: status.applied,
        last_log: status.last_log,
        log_commits: counted.log_commits,
        proposals: counted.proposals,
        term: status.term,
        leads: status.role == Role::Leader,
        quorum: standing.quorum,
        ..Gauges::default()
    };
    for vm in records.vms() {
        let seen = view::vm_status(vm, observed.seen(vm.node));
        let state = if seen.silent.is_some() { VmState::Unknown } else { seen.state };
        *gauges.vms.entry(state.to_string()).or_default() += 1;
    }
    for node in &nodes {
        let heard = node.id == app.node || observed.alive(node.id).is_some();
        *gauges.nodes.entry(if heard { "alive" } else { "silent" }).or_default() += 1;
    }
    Ok(gauges)
}

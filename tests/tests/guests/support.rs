//! A cluster of three with the tiny template, and ways to ask it.

use anyhow::{Context, Result, ensure};
use waifud_api::{client::Client, event::EventsQuery, event::Subject, vm::Vm};
use waifud_model::{event::EventKind, observed::VmState};
use waifud_tests::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Lab, tiny_image},
};

/// Three daemons that run guests, and the template `tiny`, added on n1.
pub(crate) async fn three_with_tiny() -> Result<Cluster> {
    let image = tiny_image()?;
    let cluster = Cluster::start(Lab::new(3)?, WITH_GUESTS).await?;
    ctl(&cluster, 1, &["template", "add", "tiny", "--file", image.to_str().context("a path that is text")?])?;
    Ok(cluster)
}

/// Runs `waifuctl` against a node and gives what it printed.
pub(crate) fn ctl(cluster: &Cluster, node: usize, arguments: &[&str]) -> Result<String> {
    let output = cluster.waifuctl(node, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "waifuctl {} failed ({}): {said}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Waits until a node says that the VM is in this state, of its latest definition and heard from its owner.
pub(crate) async fn until(client: &Client, name: &str, state: VmState) -> Result<Vm> {
    let known = name.parse()?;
    wait(&format!("{name} to be {state}"), async || {
        let vm = client.vm(&known).await.ok()?.value;
        (vm.status.state == state && vm.status.silent.is_none() && !vm.status.pending).then_some(vm)
    })
    .await
}

/// What the cluster's history says happened to the VM's guest, oldest first.
pub(crate) async fn happened(client: &Client, name: &str) -> Result<Vec<EventKind>> {
    let events = client.events(EventsQuery::default()).await?.value;
    let of_guest = [EventKind::Started, EventKind::Stopped, EventKind::Crashed, EventKind::Failed];
    let about = |subject: &Subject| matches!(subject, Subject::Vm { name: vm, .. } if vm.as_str() == name);
    let kinds = events.into_iter().filter(|event| about(&event.subject)).map(|event| event.kind);
    Ok(kinds.filter(|kind| of_guest.contains(kind)).collect())
}

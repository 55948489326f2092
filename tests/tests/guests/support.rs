//! A cluster of three with the tiny template, and ways to ask it.

use super::guest::Guest;
use anyhow::{Context, Result, ensure};
use waifud_api::{client::Client, event::EventsQuery, event::Subject, vm::Vm};
use waifud_model::{event::EventKind, observed::VmState};
use waifud_tests::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Lab, tiny_image},
};

/// Three daemons that run guests, and the template `tiny`, added on n1.
pub(crate) async fn three_with_tiny() -> Result<Cluster> {
    three_of(Lab::new(3)?, "").await
}

/// The same on the first three hosts of a lab, with more settings.
pub(crate) async fn three_of(lab: Lab, settings: &str) -> Result<Cluster> {
    let image = tiny_image()?;
    let cluster = Cluster::start_on(lab, 3, &format!("{WITH_GUESTS}{settings}")).await?;
    ctl(&cluster, 1, &["template", "add", "tiny", "--file", image.to_str().context("a path that is text")?])?;
    Ok(cluster)
}

/// A guest on this node, asked of n1 with `more` words, and waited for until it serves its page.
pub(crate) async fn tiny(cluster: &Cluster, name: &str, node: &str, more: &[&str]) -> Result<Guest> {
    let words = [&["create", "-t", "tiny", "-n", name, "-m", "256M", "-N", node, "--no-wait"], more].concat();
    ctl(cluster, 1, &words)?;
    let guest = Guest::of(cluster, &until(&cluster.client(1), name, VmState::Running).await?)?;
    guest.serves(cluster).await?;
    Ok(guest)
}

/// Runs `waifuctl` against a node and gives what it printed.
pub(crate) fn ctl(cluster: &Cluster, node: usize, arguments: &[&str]) -> Result<String> {
    let output = cluster.waifuctl(node, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "waifuctl {} failed ({}): {said}", arguments.join(" "), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Says what was measured. Nothing is made of it here: how long things take is another machine's business.
#[expect(clippy::print_stdout, reason = "for whoever runs the test to see it, with --nocapture")]
pub(crate) fn measured(what: &str) {
    println!("{what}");
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

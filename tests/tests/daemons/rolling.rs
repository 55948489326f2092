//! An upgrade, one node after the other, under people's hands: nobody who has all nodes' addresses sees an error.
//!
//! What a client does by itself is allowed: ask the next node, send a write again with the same key. What it cannot do by
//! itself would be an error that somebody sees.

use super::support::{key, small, three_with_template};
use anyhow::{Context, Result, ensure};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use waifud_api::client::{Client, Config, Endpoint};
use waifud_model::{ids::VmId, name::VmName};
use waifud_tests::cluster::{Cluster, wait};

/// Two writers begin at each node.
const WRITERS: usize = 6;
/// Between two writes of a writer. Without it thousands of VMs would come and go, and the tests beside this one would wait.
const PACE: Duration = Duration::from_millis(50);
/// A node has three seconds for requests under way; then it must be gone.
const STOP: Duration = Duration::from_secs(20);
/// Writes that must be acknowledged while a node is away, and while all are there, before the next step is taken.
const PROGRESS: usize = 30;

/// What the writers share.
#[derive(Debug, Default)]
struct Board {
    acknowledged: AtomicUsize,
    enough: AtomicBool,
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_upgraded_one_after_the_other_and_nobody_sees_an_error() -> Result<()> {
    let mut cluster = three_with_template().await?;
    let board = Arc::new(Board::default());
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let mut endpoints: Vec<Endpoint> = (1..=3).map(|index| cluster.endpoint(index)).collect();
        endpoints.rotate_left(number % 3);
        writers.spawn(write(number, Client::new(Config::new(endpoints))?, Arc::clone(&board)));
    }
    // The leader last: then leadership changes hands as often as it can, for the others may get it from each other.
    let leader = cluster.leader(1).await?;
    let order = (1..=3).filter(|index| *index != leader).chain([leader]);
    for index in order {
        progress(&board, &mut writers).await?;
        let status = cluster.daemon(index).terminate(STOP)?;
        ensure!(status.success(), "n{index} ended with {status}: {}", cluster.daemon(index).log());
        progress(&board, &mut writers).await?;
        cluster.start_daemon(index)?;
        whole(&cluster).await?;
    }
    progress(&board, &mut writers).await?;
    board.enough.store(true, Ordering::Relaxed);

    let mut left = BTreeSet::new();
    while let Some(writer) = writers.join_next().await {
        left.extend(writer??);
    }
    for index in 1..=3 {
        let client = cluster.client(index);
        wait(&format!("what was acknowledged, and nothing else, on n{index}"), async || {
            let vms = client.vms(&Default::default()).await.ok()?.value;
            let there: BTreeSet<_> = vms.into_iter().map(|vm| (vm.name, vm.id)).collect();
            (there == left).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// Makes VMs and takes them away again until there was enough of it. Gives those that must be there at the end.
async fn write(number: usize, client: Client, board: Arc<Board>) -> Result<Vec<(VmName, VmId)>> {
    let mut pace = tokio::time::interval(PACE);
    let mut last: Option<(VmName, VmId)> = None;
    for round in 0usize.. {
        pace.tick().await;
        let name = format!("w{number}-{round}");
        let made = client.create_vm(&small(&name), &key(&name)).await.with_context(|| format!("create {name}"))?;
        let vm = made.value.vm;
        // What was written is read again, whichever node answers now.
        let read = client.vm(&vm.name).await.with_context(|| format!("show {name}"))?.value;
        ensure!(read.id == vm.id, "{name} is {} and was made as {}", read.id, vm.id);
        if let Some((before, _)) = last.replace((vm.name, vm.id)) {
            client.delete_vm(&before).await.with_context(|| format!("delete {before}"))?;
        }
        board.acknowledged.fetch_add(1, Ordering::Relaxed);
        if board.enough.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(last.into_iter().collect())
}

/// Waits until more was acknowledged. A writer that has ended has seen an error, and says which.
async fn progress(board: &Board, writers: &mut JoinSet<Result<Vec<(VmName, VmId)>>>) -> Result<()> {
    let goal = board.acknowledged.load(Ordering::Relaxed) + PROGRESS;
    let advanced =
        wait("writes to be acknowledged", async || (board.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()));
    tokio::select! {
        biased;
        Some(ended) = writers.join_next() => { ended??; anyhow::bail!("a writer has ended before its time") }
        advanced = advanced => advanced,
    }
}

/// Waits until every node says that all are there and that somebody leads: then the next one may go.
async fn whole(cluster: &Cluster) -> Result<()> {
    for index in 1..=3 {
        let client = cluster.client(index);
        wait(&format!("n{index} to see all nodes"), async || {
            let status = client.cluster().await.ok()?.value;
            let alive = status.members.iter().filter(|member| member.alive).count();
            (alive == 3 && status.quorum && status.leader.is_some()).then_some(())
        })
        .await?;
    }
    Ok(())
}

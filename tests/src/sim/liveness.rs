//! After the bad time: all is mended, and within bounded time there is a leader, writes are accepted everywhere, and what
//! is there is what is wanted.

use super::{
    fabric::Quality, host::Host, invariants::Replica, lock, node::Node, oracle::Wish, settled, weather, world::World,
};
use anyhow::Result;
use std::{collections::BTreeSet, time::Duration};
use tokio::time::{Instant, sleep};
use waifud_model::{
    command::Reply,
    ids::{NodeId, VmId},
    vm::Phase,
};

/// A leader is elected in a second or two, and a proposal is tried for one.
const WRITABLE: Duration = Duration::from_secs(20);

/// Reconcile waits a minute at most before it tries again; a guest that died often waits up to five.
const SETTLED: Duration = Duration::from_secs(400);

const LOOK: Duration = Duration::from_secs(1);

/// Mends everything and waits; what did not come right.
pub(super) async fn check(world: &mut World) -> Result<Option<String>> {
    mend(world).await?;
    for node in world.running() {
        if let Some(problem) = writable(world, node).await? {
            return Ok(Some(problem));
        }
    }
    let deadline = Instant::now() + SETTLED;
    loop {
        if let Some(violation) = world.check().await? {
            return Ok(Some(violation));
        }
        let Some(unsettled) = unsettled(world).await? else { break };
        if Instant::now() >= deadline {
            return Ok(Some(format!("it does not come right: {unsettled}")));
        }
        sleep(LOOK).await;
    }
    again(world).await
}

async fn mend(world: &mut World) -> Result<()> {
    world.trace.line(format_args!("all is mended"));
    world.fabric.join();
    world.fabric.set_quality(Quality::GOOD);
    for host in &world.hosts.clone() {
        weather::mend(host);
        host.clock.set_off(0);
        if !world.nodes.contains_key(&host.id) {
            world.start(host).await?;
        }
    }
    Ok(())
}

/// A write through this node is accepted soon.
async fn writable(world: &mut World, node: NodeId) -> Result<Option<String>> {
    let deadline = Instant::now() + WRITABLE;
    let mut dice = world.dice.fork();
    let request = world.client.brings(&mut dice, &world.names())?;
    loop {
        let ask = world.client.clone().ask(request, world.door(node)?, dice.fork());
        if ask.await.is_some() {
            return world.check().await;
        }
        if Instant::now() >= deadline {
            return Ok(Some(format!(
                "no write is accepted through {node}: {:?}",
                *world.handle(node)?.status().borrow()
            )));
        }
        sleep(LOOK).await;
    }
}

/// What is not yet as it should be.
async fn unsettled(world: &mut World) -> Result<Option<String>> {
    let open = lock(&world.client.oracle).open;
    if open > 0 {
        return Ok(Some(format!("{open} requests are not answered")));
    }
    let wishes = |node: &Node| node.overrides.all();
    if let Some((node, wishes)) =
        world.nodes.iter().map(|(id, node)| (id, wishes(node))).find(|(_, all)| !all.is_empty())
    {
        return Ok(Some(format!("{node} keeps wishes that were given without the cluster: {wishes:?}")));
    }
    let replicas = world.replicas().await?;
    let indexes: BTreeSet<_> = replicas.iter().map(|replica| replica.index).collect();
    let Some(replica) = replicas.first().filter(|_| indexes.len() == 1 && replicas.len() == world.hosts.len()) else {
        return Ok(Some(format!("the replicas are at {indexes:?}")));
    };
    let minted: Vec<VmId> = lock(&world.client.oracle).minted.keys().copied().collect();
    for host in &world.hosts {
        if let Some(wrong) = wrong(world, host, replica, &minted).await? {
            return Ok(Some(wrong));
        }
    }
    Ok(forgotten(world, replica).or_else(|| untold(world, replica)))
}

/// What on a host is not as the replica wants it.
async fn wrong(world: &World, host: &Host, replica: &Replica, minted: &[VmId]) -> Result<Option<String>> {
    for id in minted {
        let record = replica.state.vms.get(id).filter(|vm| vm.node == host.id);
        let told = world.gossip.sees(host.id, host.id, *id).map(|seen| seen.waits).unwrap_or_default();
        if let Some(wrong) = settled::wrong(host, *id, record, told).await? {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

/// What was promised without the cluster stands, unless somebody decided otherwise: that makes a generation.
fn forgotten(world: &World, replica: &Replica) -> Option<String> {
    lock(&world.client.oracle).promises.iter().find_map(|(id, wish)| {
        let vm = replica.state.vms.get(id)?;
        let is_lost = vm.phase == Phase::Live && vm.generation == wish.base && vm.desired != wish.desired;
        is_lost.then(|| format!("{wish:?} of VM {id} was forgotten: {vm:?}"))
    })
}

/// What the others have not heard of: every node sees every VM at its present generation.
fn untold(world: &World, replica: &Replica) -> Option<String> {
    replica.state.vms.values().find_map(|vm| {
        world.running().into_iter().find_map(|node| {
            let seen = world.gossip.sees(node, vm.node, vm.id);
            let known = seen.is_some_and(|seen| seen.generation == vm.generation);
            (!known).then(|| format!("{node} sees VM {} as {seen:?}, wanted {vm:?}", vm.id))
        })
    })
}

/// Every create that was acknowledged is asked for once more, through another node: the answer is the same.
async fn again(world: &mut World) -> Result<Option<String>> {
    let acknowledged: Vec<(usize, VmId)> = {
        let oracle = lock(&world.client.oracle);
        let all = oracle.requests.iter().enumerate();
        let created =
            all.filter(|(_, request)| matches!(request.wish, Wish::Create { .. }) && request.accepted.is_some());
        created
            .filter_map(|(n, request)| match &request.accepted {
                Some((_, Reply::Vm(vm))) => Some((n, vm.id)),
                _ => None,
            })
            .collect()
    };
    let running = world.running();
    for (request, vm) in acknowledged {
        let mut dice = world.dice.fork();
        let Some(node) = dice.pick(&running).copied() else { break };
        let answer = world.client.clone().ask(request, world.door(node)?, dice).await;
        // A node that has no room refuses before it asks; the key is looked up later then.
        if let Some(committed) = answer
            && !committed.replayed
        {
            return Ok(Some(format!("VM {vm} was made a second time by a repetition: {committed:?}")));
        }
    }
    world.check().await
}

//! Three hosts, the daemons that happen to run on them, and everything between: what the scenario acts on, and where the
//! invariants are checked.

use super::{
    Run,
    client::{Client, Door, TOKEN},
    clock::WallClock,
    dice::Dice,
    fabric::Fabric,
    gossip::{self, Gossip},
    host::Host,
    invariants::{self, Invariant, Moment, Replica},
    lock,
    node::Node,
    panics,
    planted::Planted,
    tally::Tally,
    trace::Trace,
};
use anyhow::{Context, Result, anyhow};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};
use waifud_consensus::{Handle, Proposal, Role};
use waifud_model::{
    command::{Actor, AddNode, Command, InitCluster, Origin, RequestKey},
    digest::Blake3,
    ids::{ClusterId, NodeId, TokenId, VmId},
    name::NodeName,
    scope::Scope,
    time::Timestamp,
    token::{ApiToken, JoinToken, Role as Rights},
};

/// How many nodes there are.
const NODES: u8 = 3;

/// A cluster on a good network is together long before.
const TOGETHER: Duration = Duration::from_secs(30);

/// The world of one run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) dice: Dice,
    pub(crate) fabric: Fabric,
    pub(crate) gossip: Gossip,
    pub(crate) hosts: Vec<Host>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) client: Client,
    pub(crate) planted: Option<Planted>,
    pub(crate) tally: Tally,
    invariants: Vec<Box<dyn Invariant>>,
    known: BTreeMap<NodeId, Replica>,
    began: Instant,
    rounds: AbortHandle,
}

impl World {
    /// Three machines with nothing on them but a foreign domain each.
    pub(crate) fn new(run: Run) -> Result<Self> {
        let began = Instant::now();
        let trace = Trace::new(run.echo);
        let mut dice = Dice::new(run.seed);
        let fabric = Fabric::new(dice.fork(), trace.clone());
        let gossip = Gossip::default();
        let mut hosts = Vec::new();
        for number in 1..=NODES {
            let foreign = VmId::from_random(dice.bytes());
            hosts.push(Host::new(number, run.dir.join(format!("n{number}")), WallClock::new(began), foreign)?);
        }
        let rounds = tokio::spawn(rounds(gossip.clone(), fabric.clone(), hosts.clone())).abort_handle();
        Ok(Self {
            client: Client::new(trace.clone(), run.planted),
            trace,
            dice,
            fabric,
            gossip,
            hosts,
            nodes: BTreeMap::new(),
            planted: run.planted,
            tally: Tally::default(),
            invariants: invariants::all(),
            known: BTreeMap::new(),
            began,
            rounds,
        })
    }

    /// Makes the machines a cluster.
    pub(crate) async fn found(&mut self) -> Result<()> {
        let hosts = self.hosts.clone();
        let founder = hosts.first().context("there are no hosts")?;
        self.start(founder).await?;
        self.handle(founder.id)?.bootstrap().await?;
        let init = Command::InitCluster(Box::new(InitCluster {
            cluster: ClusterId::from_random(self.dice.bytes()),
            ca_cert: b"certificate".to_vec(),
            ca_key: b"key".to_vec(),
            cidr: waifud_model::network::DEFAULT_CIDR,
            // The smallest: thirteen guests a node, so that addresses are used again.
            subnet_prefix: 28,
            node: founder.joins(),
        }));
        self.as_root(founder.id, "init", init).await?;
        let later = Timestamp(u64::MAX >> 1);
        let token = TokenId::from_random(1);
        let join = JoinToken { id: token, key: [1; 32], expires_at: later, uses_left: 100, created_at: Timestamp(0) };
        self.as_root(founder.id, "join-token", Command::CreateJoinToken(join)).await?;
        let api = ApiToken {
            id: TokenId::from_random(TOKEN),
            description: "the client".to_owned(),
            hash: Blake3::of(b"secret"),
            role: Rights::Admin,
            expires_at: None,
            created_at: Timestamp(0),
            scope: Scope::default(),
        };
        self.as_root(founder.id, "api-token", Command::CreateApiToken(Box::new(api))).await?;
        for host in &hosts[1..] {
            self.start(host).await?;
            let add = Command::AddNode(Box::new(AddNode { node: host.joins(), token }));
            self.as_root(founder.id, &format!("add-{}", host.name), add).await?;
        }
        let voters = hosts.len();
        let mut status = self.handle(founder.id)?.status();
        let together = status.wait_for(|status| status.voters.len() == voters && !status.membership_changing);
        tokio::time::timeout(TOGETHER, together).await.context("the nodes do not become voters")??;
        Ok(())
    }

    async fn as_root(&self, node: NodeId, key: &str, command: Command) -> Result<()> {
        let request = RequestKey { key: key.to_owned(), body: Blake3::of(key.as_bytes()), origin: Origin::Client };
        let actor = Actor::Local { node, uid: 0 };
        self.handle(node)?.propose(Proposal { request, actor, command, request_id: None }).await?;
        Ok(())
    }

    /// Starts the daemon of a host.
    pub(crate) async fn start(&mut self, host: &Host) -> Result<()> {
        let boot = self.dice.number();
        let node = Node::start(host, &self.fabric, &self.gossip, boot, self.planted).await?;
        self.trace.line(format_args!("{} starts", host.name));
        self.nodes.insert(host.id, node);
        Ok(())
    }

    /// A way in through a node that runs.
    pub(crate) fn door(&self, node: NodeId) -> Result<Door> {
        let running = self.nodes.get(&node).ok_or_else(|| anyhow!("node {node} does not run"))?;
        let host = self.hosts.iter().find(|host| host.id == node).context("a node without a host")?;
        Ok(Door {
            handle: running.handle.clone(),
            node,
            hears: self.gossip.hears(node),
            overrides: running.overrides.clone(),
            clock: host.clock.clone(),
        })
    }

    pub(crate) fn handle(&self, node: NodeId) -> Result<&Handle> {
        self.nodes.get(&node).map(|node| &node.handle).ok_or_else(|| anyhow!("node {node} does not run"))
    }

    /// All nodes, running or not.
    pub(crate) fn names(&self) -> Vec<(NodeId, NodeName)> {
        self.hosts.iter().map(|host| (host.id, host.name.clone())).collect()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// All replicas, as they are.
    pub(crate) async fn replicas(&mut self) -> Result<Vec<Replica>> {
        let mut replicas = Vec::new();
        for (id, node) in &self.nodes {
            let status = node.handle.status().borrow().clone();
            let leads = (status.role == Role::Leader).then_some(status.term);
            let halted = status.halted;
            self.tally.terms = self.tally.terms.max(status.term);
            let index = node.handle.applied().borrow().index;
            let replica = match self.known.remove(id) {
                Some(known) if known.index == index => Replica { leads, halted, ..known },
                _ => Replica { leads, halted, ..read(*id, &node.handle).await? },
            };
            replicas.push(replica);
        }
        self.known = replicas.iter().map(|replica| (replica.node, replica.clone())).collect();
        Ok(replicas)
    }

    /// Checks all invariants; none if all hold.
    pub(crate) async fn check(&mut self) -> Result<Option<String>> {
        if let Some(panic) = panics::take() {
            return Ok(Some(format!("a panic: {panic}")));
        }
        let replicas = self.replicas().await?;
        for Replica { node, index, digest, leads, .. } in &replicas {
            let leads = leads.map_or(String::new(), |term| format!(", leads term {term}"));
            self.trace.line(format_args!("{node} at {index} {}{leads}", digest.short()));
        }
        self.tally.steps += 1;
        let oracle = lock(&self.client.oracle);
        let moment = Moment { replicas: &replicas, hosts: &self.hosts, oracle: &oracle };
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.check(&moment) {
                return Ok(Some(format!("{}: {what}", invariant.name())));
            }
        }
        Ok(None)
    }

    /// What happened, counted.
    pub(crate) fn count(&mut self) -> Tally {
        let oracle = lock(&self.client.oracle);
        (self.tally.messages, self.tally.snapshots) = self.fabric.counts();
        self.tally.writes = oracle.writes;
        self.tally.refused = oracle.refused;
        self.tally.unanswered = oracle.unanswered;
        self.tally.alone = oracle.alone;
        self.tally.vms = oracle.created().count() as u64;
        self.tally.millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tally
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.rounds.abort();
    }
}

/// One replica at one moment: what was read between two applied entries is read again.
async fn read(node: NodeId, handle: &Handle) -> Result<Replica> {
    loop {
        let (index, digest) = handle.state_digest().await?;
        let (state, same) = handle.read(|view| Ok((view.whole()?, view.digest()?))).await?;
        if same == digest {
            return Ok(Replica { node, index, digest, state: Arc::new(state), leads: None, halted: None });
        }
    }
}

async fn rounds(gossip: Gossip, fabric: Fabric, hosts: Vec<Host>) {
    loop {
        gossip.round(&fabric, &hosts);
        sleep(gossip::ROUND).await;
    }
}

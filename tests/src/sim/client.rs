//! People and their scripts: they make VMs, do with them what can be done, delete them, add templates, and try again when they
//! got no answer, through whichever node they happen to know.
//!
//! In: dice, a node's handle. Out: proposals as the web makes them, and what was told, in the [`Oracle`].

use super::{
    clock::WallClock,
    dice::Dice,
    lock,
    oracle::{Oracle, Wish},
    planted::Planted,
    trace::Trace,
    verbs::Verb,
};
use anyhow::Result;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};
use waifud_consensus::{Committed, Handle, Proposal, ProposeError};
use waifud_model::{
    command::{Actor, Command, CreateVm, Origin, Reply, RequestKey},
    digest::{Blake3, Sha256},
    ids::{NodeId, TokenId, VmId},
    labels::{LabelPatch, Labels},
    name::{NodeName, TemplateName, VmName},
    placement::{self, Candidate, Spread, place},
    size::ByteSize,
    template::{ImageFormat, Source, TemplateVersion},
    time::Timestamp,
    vm::{Desired, ImageRef, RestartPolicy, VmSpec},
};
use waifud_node::daemon::Overrides;

/// The client's token: its requests are the same person's, whichever node they come through.
pub(crate) const TOKEN: u64 = 4711;

/// So few that names clash.
const NAMES: u64 = 16;
const TEMPLATES: u64 = 2;

/// A way in: a node that answers, and whom it hears.
pub(crate) struct Door {
    pub(crate) handle: Handle,
    pub(crate) node: NodeId,
    pub(crate) hears: BTreeSet<NodeId>,
    /// What it does without the cluster, and when that is.
    pub(crate) overrides: Arc<Overrides>,
    pub(crate) clock: WallClock,
}

/// The client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) oracle: Arc<Mutex<Oracle>>,
    trace: Trace,
    planted: Option<Planted>,
}

impl Client {
    pub(crate) fn new(trace: Trace, planted: Option<Planted>) -> Self {
        Self { oracle: Arc::default(), trace, planted }
    }

    /// Thinks of something to ask for: something new, or something asked for before, as after an answer that was lost.
    pub(crate) fn think(&self, dice: &mut Dice, nodes: &[(NodeId, NodeName)]) -> Result<usize> {
        let mut oracle = lock(&self.oracle);
        let made: Vec<VmId> = oracle.created().map(|(_, vm)| vm.id).collect();
        let again: Vec<usize> = (0..oracle.requests.len()).collect();
        let wish = match dice.within(0..100) {
            0..25 => create(dice, nodes)?,
            25..68 => match dice.pick(&made) {
                Some(vm) if dice.permille(200) => Wish::Delete { vm: *vm },
                Some(vm) => Wish::Do { vm: *vm, verb: verb(dice)?, expect: oracle.generation(*vm, dice) },
                None => create(dice, nodes)?,
            },
            68..73 => template(dice, nodes)?,
            73..78 => match dice.pick(nodes) {
                Some((node, _)) if dice.permille(500) => Wish::Cordon { node: *node, cordoned: dice.permille(300) },
                Some((node, _)) => {
                    let labels = BTreeMap::from([("rack".to_owned(), Some(dice.within(0..3).to_string()))]);
                    Wish::Label { node: *node, labels: LabelPatch(labels) }
                }
                None => template(dice, nodes)?,
            },
            _ => match dice.pick(&again) {
                Some(request) => return Ok(*request),
                None => template(dice, nodes)?,
            },
        };
        Ok(oracle.ask(key(dice, &wish), wish))
    }

    /// Thinks of a template to bring.
    pub(crate) fn brings(&self, dice: &mut Dice, nodes: &[(NodeId, NodeName)]) -> Result<usize> {
        let wish = template(dice, nodes)?;
        Ok(lock(&self.oracle).ask(key(dice, &wish), wish))
    }

    /// Asks, and notes what was told. Gives what came of it.
    pub(crate) async fn ask(self, request: usize, door: Door, mut dice: Dice) -> Option<Committed> {
        let (key, wish) = {
            let oracle = lock(&self.oracle);
            let known = &oracle.requests[request];
            (known.key.clone(), known.wish.clone())
        };
        let key = self.perhaps_fresh(key, &mut dice);
        let command = command(&wish, &door, &mut dice).await?;
        let minted = match &command {
            Command::CreateVm(create) => Some((create.id, create.node)),
            _ => None,
        };
        lock(&self.oracle).tries(request, minted);
        self.trace.line(format_args!("ask {request} at {}: {command:?}", door.node));
        let answer = self.propose(&door, key, command).await;
        self.trace.line(format_args!("told {request}: {answer:?}"));
        lock(&self.oracle).told(request, minted.map(|(vm, _)| vm), &answer);
        if let (Wish::Do { vm, verb, expect }, Err(error)) = (&wish, &answer)
            && matches!(error, ProposeError::NoQuorum { .. } | ProposeError::NoLeaderYet | ProposeError::Unknown)
        {
            let alone = verb.alone(*vm, *expect, &door).await;
            self.trace.line(format_args!("{} alone does {request}: {alone:?}", door.node));
            if let Ok(Some(wish)) = alone {
                lock(&self.oracle).alone(*vm, wish);
            }
        }
        answer.ok()
    }

    async fn propose(&self, door: &Door, request: RequestKey, command: Command) -> Result<Committed, ProposeError> {
        let proposal =
            Proposal { request, actor: Actor::Token(TokenId::from_random(TOKEN)), command, request_id: None };
        match (self.planted, &proposal.command) {
            (Some(Planted::EarlyAck), Command::CreateVm(create)) => {
                let told = presumably(create, door.handle.status().borrow().last_log + 1);
                let handle = door.handle.clone();
                tokio::spawn(async move { handle.propose(proposal).await });
                Ok(told)
            }
            _ => door.handle.propose(proposal).await,
        }
    }

    /// The same key for the same request, unless there is a bug.
    fn perhaps_fresh(&self, key: RequestKey, dice: &mut Dice) -> RequestKey {
        match self.planted {
            Some(Planted::FreshKeys) => RequestKey { key: format!("{}-{}", key.key, dice.number()), ..key },
            _ => key,
        }
    }
}

fn key(dice: &mut Dice, wish: &Wish) -> RequestKey {
    let body = Blake3::of(format!("{wish:?}").as_bytes());
    RequestKey { key: format!("{:016x}", dice.number()), body, origin: Origin::Client }
}

fn vm_name(dice: &mut Dice) -> Result<VmName> {
    Ok(VmName::new(format!("guest-{}", dice.within(0..NAMES)))?)
}

fn verb(dice: &mut Dice) -> Result<Verb> {
    let (name, template) = (vm_name(dice)?, template_name(dice)?);
    Verb::think(dice, name, template)
}

fn template_name(dice: &mut Dice) -> Result<TemplateName> {
    Ok(TemplateName::new(format!("tiny-{}", dice.within(0..TEMPLATES)))?)
}

fn create(dice: &mut Dice, nodes: &[(NodeId, NodeName)]) -> Result<Wish> {
    let restarts = [RestartPolicy::OnFailure, RestartPolicy::OnFailure, RestartPolicy::Always, RestartPolicy::Never];
    Ok(Wish::Create {
        name: vm_name(dice)?,
        template: template_name(dice)?,
        cpus: u32::try_from(dice.within(1..6))?,
        pin: if dice.permille(200) { dice.pick(nodes).map(|(_, name)| name.clone()) } else { None },
        desired: if dice.permille(800) { Desired::Running } else { Desired::Stopped },
        restart: dice.pick(&restarts).copied().unwrap_or_default(),
    })
}

/// A template version that a client brought to one of the nodes.
pub(crate) fn template(dice: &mut Dice, nodes: &[(NodeId, NodeName)]) -> Result<Wish> {
    let bytes = dice.bytes();
    Ok(Wish::Template(Box::new(TemplateVersion {
        template: template_name(dice)?,
        version: Blake3::of(&bytes),
        sha256: Sha256([bytes[0]; 32]),
        size: ByteSize::mib(50),
        virtual_size: ByteSize::gib(dice.within(1..4)),
        format: ImageFormat::Qcow2,
        source: Source::Upload,
        origin: dice.pick(nodes).map(|(node, _)| *node).unwrap_or_default(),
        added_at: Timestamp(0),
    })))
}

/// The command for a wish, as the web at that node would make it. None if the node refuses by itself, without asking
/// the others.
async fn command(wish: &Wish, door: &Door, dice: &mut Dice) -> Option<Command> {
    match wish.clone() {
        Wish::Create { name, template, cpus, pin, desired, restart } => {
            let spec = Spec { template, cpus, pin, restart };
            let (node, spec) = placed(spec, door).await?;
            Some(Command::CreateVm(Box::new(CreateVm {
                id: VmId::from_random(dice.bytes()),
                name,
                node,
                spec,
                desired,
            })))
        }
        Wish::Do { vm, verb, expect } => verb.command(vm, expect, door).await,
        Wish::Delete { vm } => Some(Command::DeleteVm { vm, expect: None }),
        Wish::Template(version) => Some(Command::AddTemplateVersion(version)),
        Wish::Cordon { node, cordoned } => Some(Command::SetCordon { node, cordoned }),
        Wish::Label { node, labels } => Some(Command::SetNodeLabels { node, labels }),
    }
}

struct Spec {
    template: TemplateName,
    cpus: u32,
    pin: Option<NodeName>,
    restart: RestartPolicy,
}

/// Where the VM goes, as far as this node can tell.
async fn placed(wanted: Spec, door: &Door) -> Option<(NodeId, VmSpec)> {
    let template = wanted.template.clone();
    let read =
        door.handle.read(move |view| Ok((view.newest_version(&template)?, view.nodes()?, view.reserved_by_node()?)));
    let (version, nodes, reserved) = read.await.ok()?;
    let version = version?;
    let request = placement::Request {
        cpus: wanted.cpus,
        memory: ByteSize::mib(512),
        disk: ByteSize::gib(4),
        arch: None,
        pin: wanted.pin,
        node_labels: Labels::default(),
        bridges: Vec::new(),
        spread: Spread::Prefer,
    };
    let candidate = |node: &waifud_model::node::Node| Candidate {
        id: node.id,
        name: node.name.clone(),
        alive: door.hears.contains(&node.id),
        cordoned: node.cordoned,
        capacity: node.capacity.clone(),
        reserved: reserved.get(&node.id).copied().unwrap_or_default(),
        labels: node.labels.clone(),
        has_template: node.id == version.origin,
        group_count: 0,
    };
    let candidates: Vec<Candidate> = nodes.iter().map(candidate).collect();
    let decision = place(&request, &candidates).ok()?;
    let image = ImageRef { template: version.template.clone(), version: version.version };
    let spec = VmSpec { restart: wanted.restart, ..VmSpec::new(request.cpus, request.memory, request.disk, image) };
    Some((decision.node, spec))
}

/// What a careless server would answer at once: see [`Planted::EarlyAck`].
fn presumably(create: &CreateVm, index: u64) -> Committed {
    let vm = create.record([10, 77, 0, 2].into(), Timestamp(0));
    Committed { index, reply: Reply::Vm(Box::new(vm)), replayed: false }
}

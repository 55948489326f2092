//! The same rules, told plainly: maps, loops and no database. It shares nothing with apply but the vocabulary.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};
use waifud_model::{
    command::{Actor, Command, Envelope, NewNode, Origin, Reply, VmReport},
    digest::Blake3,
    event::{EventKind, Subject},
    ids::{Generation, NodeId, TokenId, VmId},
    name::TemplateName,
    node::Node,
    reject::{Reject, Resource},
    size::ByteSize,
    state::{ClusterInfo, ClusterState},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::{Desired, Mac, Phase, RestartPolicy, Vm},
};

/// What an event is checked for: index, place, subject, kind, and the names of the fields that changed.
pub(crate) type Trace = (u64, u32, Subject, EventKind);

#[derive(Debug, Clone, Default)]
pub(crate) struct Reference {
    pub(crate) state: ClusterState,
    pub(crate) events: Vec<Trace>,
    /// Nodes that once reported less than before: they alone may be overbooked.
    pub(crate) shrunk: BTreeSet<NodeId>,
    requests: BTreeMap<(String, String), Remembered>,
    added: BTreeMap<(TemplateName, Blake3), u64>,
    last_subnet: u32,
    last_host: BTreeMap<NodeId, u32>,
    /// The index of the command at hand.
    index: u64,
}

#[derive(Debug, Clone)]
struct Remembered {
    body: Blake3,
    reply: Reply,
    until: Timestamp,
}

#[derive(Clone, Copy)]
enum Who {
    Person(Role),
    Node(NodeId),
}

fn bad(field: &str) -> Reject {
    Reject::BadSpec { field: field.to_owned(), why: String::new() }
}

/// Refusals of values are compared by field: their wording is not a rule.
pub(crate) fn plain(reject: Reject) -> Reject {
    match reject {
        Reject::BadSpec { field, .. } => bad(&field),
        other => other,
    }
}

impl Reference {
    pub(crate) fn apply(&mut self, index: u64, envelope: &Envelope) -> Result<(Reply, bool), Reject> {
        let mut next = self.clone();
        next.index = index;
        let outcome = next.attempt(envelope)?;
        *self = next;
        Ok(outcome)
    }

    fn attempt(&mut self, envelope: &Envelope) -> Result<(Reply, bool), Reject> {
        let Envelope { request, actor, at, command } = envelope;
        let now = self.state.log_time.max(*at);
        self.state.log_time = now;
        let who = self.who(actor, command)?;
        self.requests.retain(|_, remembered| now < remembered.until);
        let key = (actor.to_string(), request.key.clone());
        if let Some(known) = self.requests.get(&key) {
            return if known.body == request.body { Ok((known.reply.clone(), true)) } else { Err(Reject::KeyReused) };
        }
        let reply = self.command(who, command)?;
        let lifetime = match request.origin {
            Origin::Client => Duration::from_hours(24),
            Origin::Internal => Duration::from_mins(10),
        };
        self.requests.insert(key, Remembered { body: request.body, reply: reply.clone(), until: now.plus(lifetime) });
        Ok((reply, false))
    }

    fn who(&self, actor: &Actor, command: &Command) -> Result<Who, Reject> {
        let Some(_) = self.state.cluster else {
            let Command::InitCluster(init) = command else { return Err(Reject::NotInitialised) };
            return match actor {
                Actor::Local { node, .. } if *node == init.node.id => Ok(Who::Person(Role::Admin)),
                Actor::Node(node) if *node == init.node.id => Ok(Who::Node(*node)),
                _ => Err(Reject::UnknownActor),
            };
        };
        match actor {
            Actor::Local { node, .. } if self.state.nodes.contains_key(node) => Ok(Who::Person(Role::Admin)),
            Actor::Node(node) if self.state.nodes.contains_key(node) => Ok(Who::Node(*node)),
            Actor::Token(id) => match self.state.api_tokens.get(id) {
                Some(ApiToken { expires_at: Some(end), .. }) if self.state.log_time >= *end => {
                    Err(Reject::UnknownActor)
                }
                Some(token) => Ok(Who::Person(token.role)),
                None => Err(Reject::UnknownActor),
            },
            _ => Err(Reject::UnknownActor),
        }
    }

    fn command(&mut self, who: Who, command: &Command) -> Result<Reply, Reject> {
        if self.state.cluster.is_some() {
            self.may(who, command)?;
        }
        let now = self.state.log_time;
        match command {
            Command::InitCluster(init) => {
                if self.state.cluster.is_some() {
                    return Err(Reject::AlreadyInitialised);
                }
                self.state.cluster = Some(ClusterInfo {
                    id: init.cluster,
                    ca_cert: init.ca_cert.clone(),
                    ca_key: init.ca_key.clone(),
                    cidr: init.cidr,
                    subnet_prefix: init.subnet_prefix,
                    feature_level: 1,
                });
                self.event(Subject::Cluster, EventKind::Created);
                Ok(self.admit(&init.node, 0))
            }
            Command::AddNode(add) => self.add_node(&add.node, add.token),
            Command::UpdateNode { node, advertise, capacity } => {
                let old = self.node(*node)?;
                if let Some(other) = self.state.nodes.values().find(|n| n.id != *node && n.advertise == *advertise) {
                    return Err(Reject::NodeTaken { what: "address".into(), holder: other.id });
                }
                let was = &old.capacity;
                if capacity.cpus < was.cpus || capacity.memory < was.memory || capacity.disk < was.disk {
                    self.shrunk.insert(*node);
                }
                Ok(self.changed(Node { advertise: *advertise, capacity: capacity.clone(), ..old }))
            }
            Command::RotateNodeKey { node, fingerprint } => {
                let old = self.node(*node)?;
                if let Some(other) = self.state.nodes.values().find(|n| n.id != *node && n.fingerprint == *fingerprint)
                {
                    return Err(Reject::NodeTaken { what: "key".into(), holder: other.id });
                }
                Ok(self.changed(Node { fingerprint: *fingerprint, ..old }))
            }
            Command::SetCordon { node, cordoned } => {
                let old = self.node(*node)?;
                Ok(self.changed(Node { cordoned: *cordoned, ..old }))
            }
            Command::RemoveNode { node, force } => self.remove_node(*node, *force),
            Command::CreateJoinToken(token) => {
                if token.uses_left == 0 {
                    return Err(bad("uses"));
                }
                self.check_token(token.id, Some(token.expires_at))?;
                self.state.join_tokens.insert(token.id, JoinToken { created_at: now, ..token.clone() });
                Ok(self.done(Subject::Token(token.id), EventKind::Created))
            }
            Command::CreateApiToken(token) => {
                self.check_token(token.id, token.expires_at)?;
                self.state.api_tokens.insert(token.id, ApiToken { created_at: now, ..(**token).clone() });
                Ok(self.done(Subject::Token(token.id), EventKind::Created))
            }
            Command::RevokeJoinToken(id) => match self.state.join_tokens.remove(id) {
                Some(_) => Ok(self.done(Subject::Token(*id), EventKind::Deleted)),
                None => Err(Reject::NoSuchToken(*id)),
            },
            Command::RevokeApiToken(id) => match self.state.api_tokens.remove(id) {
                Some(_) => Ok(self.done(Subject::Token(*id), EventKind::Deleted)),
                None => Err(Reject::NoSuchToken(*id)),
            },
            Command::CreateVm(create) => self.create_vm(create),
            Command::SetPower { vm, desired, expect } => {
                let mut vm = self.vm(*vm)?;
                if vm.phase == Phase::Deleting {
                    return Err(Reject::VmDeleting(vm.id));
                }
                generation(&vm, *expect)?;
                if vm.desired != *desired {
                    vm.desired = *desired;
                    vm.generation = Generation(vm.generation.0 + 1);
                }
                Ok(self.put(vm, EventKind::Changed))
            }
            Command::DeleteVm { vm, expect } => {
                let vm = self.vm(*vm)?;
                generation(&vm, *expect)?;
                Ok(self.put(Vm { phase: Phase::Deleting, ..vm }, EventKind::Deleting))
            }
            Command::ConfirmVmGone { vm } => {
                let vm = self.vm(*vm)?;
                if vm.phase != Phase::Deleting {
                    return Err(Reject::NotDeleting(vm.id));
                }
                self.state.vms.remove(&vm.id);
                Ok(self.done(Subject::Vm(vm.id, vm.name), EventKind::Deleted))
            }
            Command::AddTemplateVersion(version) => {
                if !self.state.nodes.contains_key(&version.origin) {
                    return Err(Reject::NoSuchNode(version.origin));
                }
                let key = (version.template.clone(), version.version);
                if self.state.templates.contains_key(&key) {
                    return Err(Reject::VersionExists { template: key.0, version: key.1 });
                }
                let first = self.versions(&version.template).is_empty();
                let mut version = (**version).clone();
                version.added_at = now;
                self.state.templates.insert(key.clone(), version.clone());
                self.added.insert(key, self.index);
                let kind = if first { EventKind::Created } else { EventKind::Changed };
                self.event(Subject::Template(version.template.clone()), kind);
                Ok(Reply::Template(Box::new(version)))
            }
            Command::DeleteTemplate { template, version } => self.delete_template(template, *version),
            Command::ReportVmEvents(reports) => self.reports(who, reports),
            Command::RaiseFeatureLevel(wanted) => {
                // The builds that this is compared with know level 1 only; what halts them is tested by itself.
                Err(Reject::BadFeatureLevel { wanted: *wanted, current: 1 })
            }
        }
    }

    /// Who may do what, as one table.
    fn may(&self, who: Who, command: &Command) -> Result<(), Reject> {
        let (role, owner) = match command {
            Command::InitCluster(_) => return Ok(()),
            Command::AddNode(_) => match who {
                Who::Node(_) => return Ok(()),
                Who::Person(_) => (Some(Role::Admin), None),
            },
            Command::RaiseFeatureLevel(_) | Command::ReportVmEvents(_) => match who {
                Who::Node(_) => return Ok(()),
                Who::Person(_) => (None, None),
            },
            Command::UpdateNode { node, .. } | Command::RotateNodeKey { node, .. } => (None, Some(*node)),
            Command::SetCordon { node, .. } | Command::RemoveNode { node, .. } => (Some(Role::Admin), Some(*node)),
            Command::CreateJoinToken(_)
            | Command::RevokeJoinToken(_)
            | Command::CreateApiToken(_)
            | Command::RevokeApiToken(_) => (Some(Role::Admin), None),
            Command::CreateVm(_) | Command::DeleteVm { .. } | Command::DeleteTemplate { .. } => {
                (Some(Role::Operator), None)
            }
            Command::AddTemplateVersion(version) => (Some(Role::Operator), Some(version.origin)),
            Command::SetPower { vm, .. } => match (who, self.vm(*vm)) {
                (Who::Node(_), vm) => (Some(Role::Operator), Some(vm?.node)),
                (Who::Person(_), _) => (Some(Role::Operator), None),
            },
            Command::ConfirmVmGone { vm } => match who {
                Who::Node(_) => (None, Some(self.vm(*vm)?.node)),
                Who::Person(_) => (None, None),
            },
        };
        match (who, role, owner) {
            (Who::Person(has), Some(needed), _) if has >= needed => Ok(()),
            (Who::Person(_), Some(needed), _) => Err(Reject::NotAllowed { needed }),
            (Who::Person(_), None, _) => Err(Reject::NodesOnly),
            (Who::Node(node), _, Some(owner)) if node == owner => Ok(()),
            (Who::Node(node), _, Some(_)) => Err(Reject::NotYours(node)),
            (Who::Node(_), Some(needed), None) => Err(Reject::NotAllowed { needed }),
            (Who::Node(_), None, None) => Ok(()),
        }
    }

    fn add_node(&mut self, new: &NewNode, token: TokenId) -> Result<Reply, Reject> {
        if let Some(known) = self.state.nodes.get(&new.id).cloned()
            && known.name == new.name
            && known.fingerprint == new.fingerprint
        {
            return Ok(self.changed(known));
        }
        let now = self.state.log_time;
        let refuse = |why: &str| Err(Reject::BadJoinToken { id: token, why: why.to_owned() });
        match self.state.join_tokens.get_mut(&token) {
            None => return refuse("unknown"),
            Some(found) if found.expires_at <= now => return refuse("expired"),
            Some(found) if found.uses_left == 0 => return refuse("used up"),
            Some(found) => found.uses_left -= 1,
        }
        let holder = |has: &dyn Fn(&Node) -> bool| {
            let mut nodes: Vec<&Node> = self.state.nodes.values().collect();
            nodes.sort_by_key(|node| node.name.clone());
            nodes.into_iter().find(|node| has(node)).map(|node| node.id)
        };
        let taken = |what: &str, holder| Reject::NodeTaken { what: what.to_owned(), holder };
        if let Some(holder) = holder(&|n| n.id == new.id) {
            return Err(taken("id", holder));
        }
        if let Some(holder) = holder(&|n| n.name == new.name) {
            return Err(Reject::NodeNameTaken { name: new.name.clone(), holder });
        }
        if let Some(holder) = holder(&|n| n.fingerprint == new.fingerprint) {
            return Err(taken("key", holder));
        }
        if let Some(holder) = holder(&|n| n.advertise == new.advertise) {
            return Err(taken("address", holder));
        }
        // Four subnets of sixteen addresses.
        let taken: BTreeSet<u32> =
            self.state.nodes.values().map(|n| (n.subnet.network().to_bits() & 0x3f) / 16).collect();
        let free = (1..=4).map(|step| (self.last_subnet + step) % 4).find(|n| !taken.contains(n));
        Ok(self.admit(new, free.ok_or(Reject::NoSubnet)?))
    }

    fn admit(&mut self, new: &NewNode, subnet: u32) -> Reply {
        self.last_subnet = subnet;
        // What a former member of the same id was given is forgotten with it.
        self.last_host.remove(&new.id);
        let node = Node {
            id: new.id,
            name: new.name.clone(),
            advertise: new.advertise,
            fingerprint: new.fingerprint,
            labels: Default::default(),
            cordoned: false,
            capacity: new.capacity.clone(),
            subnet: format!("10.77.0.{}/28", subnet * 16).parse().unwrap(),
            joined_at: self.state.log_time,
        };
        self.event(Subject::Node(node.id, node.name.clone()), EventKind::Created);
        self.state.nodes.insert(node.id, node.clone());
        Reply::Node(Box::new(node))
    }

    fn remove_node(&mut self, id: NodeId, force: bool) -> Result<Reply, Reject> {
        let node = self.node(id)?;
        if self.state.nodes.len() == 1 {
            return Err(Reject::LastNode);
        }
        let mut vms: Vec<Vm> = self.state.vms.values().filter(|vm| vm.node == id).cloned().collect();
        if !vms.is_empty() && !force {
            return Err(Reject::NodeHasVms { node: id, count: vms.len() as u32 });
        }
        vms.sort_by_key(|vm| vm.name.clone());
        for vm in vms {
            self.state.vms.remove(&vm.id);
            self.event(Subject::Vm(vm.id, vm.name), EventKind::Deleted);
        }
        self.state.nodes.remove(&id);
        self.shrunk.remove(&id);
        Ok(self.done(Subject::Node(id, node.name), EventKind::Deleted))
    }

    fn check_token(&self, id: TokenId, end: Option<Timestamp>) -> Result<(), Reject> {
        if end.is_some_and(|end| end <= self.state.log_time) {
            return Err(bad("expires_at"));
        }
        if self.state.join_tokens.contains_key(&id) || self.state.api_tokens.contains_key(&id) {
            return Err(Reject::IdTaken(id.to_string()));
        }
        Ok(())
    }

    fn create_vm(&mut self, create: &waifud_model::command::CreateVm) -> Result<Reply, Reject> {
        if self.state.vms.contains_key(&create.id) {
            return Err(Reject::IdTaken(create.id.to_string()));
        }
        if let Some(holder) = self.state.vms.values().find(|vm| vm.name == create.name) {
            return Err(Reject::VmNameTaken { name: create.name.clone(), holder: holder.id, node: holder.node });
        }
        let node = self.node(create.node)?;
        let spec = &create.spec;
        if node.cordoned {
            return Err(Reject::Cordoned(node.id));
        }
        if spec.cpus < 1 || spec.cpus > node.capacity.threads {
            return Err(bad("cpus"));
        }
        if spec.memory < ByteSize::mib(64) || !spec.memory.as_bytes().is_multiple_of(1 << 20) {
            return Err(bad("memory"));
        }
        if spec.disk == ByteSize::ZERO || !spec.disk.as_bytes().is_multiple_of(512) {
            return Err(bad("disk"));
        }
        let image = (spec.image.template.clone(), spec.image.version);
        let least = match self.state.templates.get(&image) {
            Some(version) => version.virtual_size,
            None if self.versions(&image.0).is_empty() => return Err(Reject::NoSuchTemplate(image.0)),
            None => return Err(Reject::NoSuchVersion { template: image.0, version: image.1 }),
        };
        if spec.disk < least {
            return Err(Reject::DiskTooSmall { wanted: spec.disk, least });
        }
        let there: Vec<&Vm> = self.state.vms.values().filter(|vm| vm.node == node.id).collect();
        let sum = |amount: &dyn Fn(&Vm) -> u64| there.iter().map(|vm| amount(vm)).sum::<u64>();
        for (resource, has, used, wanted) in [
            (Resource::Cpus, node.capacity.cpus.into(), sum(&|vm| vm.spec.cpus.into()), spec.cpus.into()),
            (
                Resource::Memory,
                node.capacity.memory.as_bytes(),
                sum(&|vm| vm.spec.memory.as_bytes()),
                spec.memory.as_bytes(),
            ),
            (Resource::Disk, node.capacity.disk.as_bytes(), sum(&|vm| vm.spec.disk.as_bytes()), spec.disk.as_bytes()),
        ] {
            let free = u64::saturating_sub(has, used);
            if wanted > free {
                return Err(Reject::DoesNotFit { node: node.id, resource, wanted, free });
            }
        }
        // Guests are the hosts 2 to 14 of sixteen.
        let base = node.subnet.network().to_bits();
        let taken: BTreeSet<u32> = there.iter().map(|vm| vm.ip.to_bits() - base).collect();
        let last = self.last_host.get(&node.id).copied().unwrap_or(14);
        let free = (1..=13).map(|step| (last - 2 + step) % 13 + 2).find(|host| !taken.contains(host));
        let host = free.ok_or(Reject::NoAddress(node.id))?;
        self.last_host.insert(node.id, host);
        let ip = Ipv4Addr::from_bits(base + host);
        let [a, b, c, d] = ip.octets();
        let vm = Vm {
            id: create.id,
            name: create.name.clone(),
            node: create.node,
            spec: spec.clone(),
            desired: create.desired,
            phase: Phase::Live,
            ip,
            mac: Mac([0x52, 0x54, a, b, c, d]),
            generation: Generation(1),
            created_at: self.state.log_time,
        };
        Ok(self.put(vm, EventKind::Created))
    }

    fn versions(&self, template: &TemplateName) -> BTreeSet<Blake3> {
        self.state.templates.keys().filter(|(name, _)| name == template).map(|(_, version)| *version).collect()
    }

    /// The version that a template's name stands for.
    pub(crate) fn newest(&self, template: &TemplateName) -> Option<Blake3> {
        let of_it = self.added.iter().filter(|(key, _)| key.0 == *template && self.state.templates.contains_key(*key));
        of_it.max_by_key(|(_, index)| **index).map(|(key, _)| key.1)
    }

    fn delete_template(&mut self, template: &TemplateName, version: Option<Blake3>) -> Result<Reply, Reject> {
        let all = self.versions(template);
        if all.is_empty() {
            return Err(Reject::NoSuchTemplate(template.clone()));
        }
        let doomed: BTreeSet<Blake3> = version.map_or(all.clone(), |version| [version].into());
        if let Some(version) = version.filter(|version| !all.contains(version)) {
            return Err(Reject::NoSuchVersion { template: template.clone(), version });
        }
        let images = self.state.vms.values().map(|vm| &vm.spec.image);
        let count = images.filter(|image| image.template == *template && doomed.contains(&image.version)).count();
        if count > 0 {
            return Err(Reject::TemplateInUse { template: template.clone(), count: count as u32 });
        }
        self.state.templates.retain(|(name, version), _| name != template || !doomed.contains(version));
        let kind = if doomed == all { EventKind::Deleted } else { EventKind::Changed };
        Ok(self.done(Subject::Template(template.clone()), kind))
    }

    fn reports(&mut self, who: Who, reports: &[VmReport]) -> Result<Reply, Reject> {
        let Who::Node(node) = who else { return Err(Reject::NodesOnly) };
        if reports.is_empty() {
            return Err(bad("reports"));
        }
        let odd = [EventKind::Created, EventKind::Changed, EventKind::Deleting, EventKind::Deleted];
        if reports.iter().any(|report| odd.contains(&report.kind)) {
            return Err(bad("kind"));
        }
        for report in reports {
            let Some(mut vm) = self.state.vms.get(&report.vm).cloned() else { continue };
            if vm.node != node {
                return Err(Reject::NotYours(node));
            }
            let off = report.by_guest && report.kind == EventKind::Stopped && vm.spec.restart != RestartPolicy::Always;
            let fresh = report.generation == vm.generation && vm.phase == Phase::Live;
            if off && fresh && vm.desired == Desired::Running {
                vm.desired = Desired::Stopped;
                vm.generation = Generation(vm.generation.0 + 1);
            }
            self.put(vm, report.kind);
        }
        Ok(Reply::Done)
    }

    fn node(&self, id: NodeId) -> Result<Node, Reject> {
        self.state.nodes.get(&id).cloned().ok_or(Reject::NoSuchNode(id))
    }

    fn vm(&self, id: VmId) -> Result<Vm, Reject> {
        self.state.vms.get(&id).cloned().ok_or(Reject::NoSuchVm(id))
    }

    fn changed(&mut self, node: Node) -> Reply {
        self.event(Subject::Node(node.id, node.name.clone()), EventKind::Changed);
        self.state.nodes.insert(node.id, node.clone());
        Reply::Node(Box::new(node))
    }

    fn put(&mut self, vm: Vm, kind: EventKind) -> Reply {
        self.event(Subject::Vm(vm.id, vm.name.clone()), kind);
        self.state.vms.insert(vm.id, vm.clone());
        Reply::Vm(Box::new(vm))
    }

    fn done(&mut self, subject: Subject, kind: EventKind) -> Reply {
        self.event(subject, kind);
        Reply::Done
    }

    fn event(&mut self, subject: Subject, kind: EventKind) {
        let seq = self.events.iter().filter(|(index, ..)| *index == self.index).count();
        self.events.push((self.index, seq as u32, subject, kind));
    }
}

fn generation(vm: &Vm, expect: Option<Generation>) -> Result<(), Reject> {
    match expect {
        Some(expected) if expected != vm.generation => {
            Err(Reject::Stale { vm: vm.id, expected, actual: vm.generation })
        }
        _ => Ok(()),
    }
}

//! The same rules, told plainly: maps, loops and no database. It shares nothing with apply but the vocabulary.

mod changes;
mod net_peers;
mod nodes;
mod scope;
mod vms;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use waifud_model::{
    cloud_init::{CloudDefaults, Datasource, Imds},
    command::{Actor, Command, Envelope, Origin, Reply},
    digest::Blake3,
    event::{EventKind, Subject},
    ids::{Generation, NodeId, TokenId, VmId},
    name::TemplateName,
    node::Node,
    reject::Reject,
    scope::Scope,
    state::{ClusterInfo, ClusterState},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::{Phase, Vm},
};

/// What an event is checked for: index, place, subject and kind.
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
    last_peer: Option<u32>,
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

#[derive(Clone)]
enum Who {
    /// And which VMs they may know of.
    Person(Role, Scope),
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
        let key = (actor.requester(), request.key.clone());
        if let Some(known) = self.requests.get(&key) {
            return if known.body == request.body { Ok((known.reply.clone(), true)) } else { Err(Reject::KeyReused) };
        }
        self.before(&who, command)?;
        let reply = self.command(who.clone(), command)?;
        scope::after(&who, &reply)?;
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
                Actor::Local { node, .. } if *node == init.node.id => Ok(Who::Person(Role::Admin, Scope::default())),
                Actor::Node(node) if *node == init.node.id => Ok(Who::Node(*node)),
                _ => Err(Reject::UnknownActor),
            };
        };
        match actor {
            Actor::Local { node, .. } if self.state.nodes.contains_key(node) => {
                Ok(Who::Person(Role::Admin, Scope::default()))
            }
            Actor::Node(node) if self.state.nodes.contains_key(node) => Ok(Who::Node(*node)),
            Actor::Token(id) => match self.state.api_tokens.get(id) {
                Some(ApiToken { expires_at: Some(end), .. }) if self.state.log_time >= *end => {
                    Err(Reject::UnknownActor)
                }
                Some(token) => Ok(Who::Person(token.role, token.scope.clone())),
                None => Err(Reject::UnknownActor),
            },
            _ => Err(Reject::UnknownActor),
        }
    }

    fn command(&mut self, who: Who, command: &Command) -> Result<Reply, Reject> {
        if self.state.cluster.is_some() {
            self.may(&who, command)?;
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
            Command::SetMeshEnd { node, end } => {
                let old = self.node(*node)?;
                if let Some(holder) = self.key_holder(end.key).filter(|_| old.mesh.is_none_or(|m| m.key != end.key)) {
                    return Err(Reject::PeerTaken { what: "key".into(), holder });
                }
                Ok(self.changed(Node { mesh: Some(*end), ..old }))
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
                if token.role == Role::Admin && !token.scope.labels().is_empty() {
                    return Err(bad("scope"));
                }
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
            Command::SetPower { vm, desired, grace, expect } => self.set_power(*vm, *desired, *grace, *expect),
            Command::RebootVm { vm, grace, expect } => self.reboot(*vm, *grace, *expect),
            Command::ChangeVm { vm, change, expect } => self.change_vm(*vm, change, *expect),
            Command::RenameVm { vm, name, expect } => self.rename(*vm, name, *expect),
            Command::ReinitVm { vm, image, expect } => self.reinit(*vm, image, *expect),
            Command::SetNodeLabels { node, labels } => {
                let old = self.node(*node)?;
                Ok(self.changed(Node { labels: labels.applied(&old.labels).unwrap(), ..old }))
            }
            Command::SetCloudInit(set) => {
                let told = &set.cloud_init;
                if told.network_config.is_some() && told.datasource != Datasource::NoCloud {
                    return Err(bad("network_config"));
                }
                if told.imds == Imds::V2 && told.datasource != Datasource::Ec2 {
                    return Err(bad("imds"));
                }
                if told.ssh_keys.iter().any(String::is_empty) {
                    return Err(bad("ssh_keys"));
                }
                let mut vm = self.vm(set.vm)?;
                if vm.phase == Phase::Deleting {
                    return Err(Reject::VmDeleting(vm.id));
                }
                generation(&vm, set.expect)?;
                let before = vm.clone();
                vm.instance += u32::from(set.rerun);
                vm.spec.cloud_init = set.cloud_init.clone();
                if vm != before {
                    vm.generation = Generation(vm.generation.0 + 1);
                }
                Ok(self.put(vm, EventKind::Changed))
            }
            Command::SetCloudDefaults(set) => {
                let actual = self.state.cloud_defaults.generation;
                if let Some(expected) = set.expect.filter(|expected| *expected != actual) {
                    return Err(Reject::StaleDefaults { expected, actual });
                }
                self.state.cloud_defaults = CloudDefaults {
                    user_data: set.user_data.clone(),
                    vendor_data: set.vendor_data.clone(),
                    generation: Generation(actual.0 + 1),
                };
                self.event(Subject::Cluster, EventKind::Changed);
                Ok(Reply::CloudDefaults(Box::new(self.state.cloud_defaults.clone())))
            }
            Command::AddNetPeer { name, key } => self.add_net_peer(name, *key),
            Command::RemoveNetPeer(name) => match self.state.net_peers.remove(name) {
                Some(_) => Ok(self.done(Subject::Peer(name.clone()), EventKind::Deleted)),
                None => Err(Reject::NoSuchPeer(name.clone())),
            },
            Command::DeleteVm { vm, expect } => {
                let vm = self.vm(*vm)?;
                generation(&vm, *expect)?;
                if vm.spec.protected {
                    return Err(Reject::Protected(vm.id));
                }
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
            Command::OpenConsole { vm, .. } => {
                let vm = self.vm(*vm)?;
                Ok(self.put(vm, EventKind::Opened))
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
    fn may(&self, who: &Who, command: &Command) -> Result<(), Reject> {
        let (role, owner) = match command {
            Command::InitCluster(_) => return Ok(()),
            Command::AddNode(_) => match who {
                Who::Node(_) => return Ok(()),
                Who::Person(..) => (Some(Role::Admin), None),
            },
            Command::RaiseFeatureLevel(_) | Command::ReportVmEvents(_) => match who {
                Who::Node(_) => return Ok(()),
                Who::Person(..) => (None, None),
            },
            Command::UpdateNode { node, .. }
            | Command::RotateNodeKey { node, .. }
            | Command::SetMeshEnd { node, .. } => (None, Some(*node)),
            Command::SetCordon { node, .. }
            | Command::SetNodeLabels { node, .. }
            | Command::RemoveNode { node, .. } => (Some(Role::Admin), Some(*node)),
            Command::CreateJoinToken(_)
            | Command::RevokeJoinToken(_)
            | Command::CreateApiToken(_)
            | Command::RevokeApiToken(_)
            | Command::SetCloudDefaults(_)
            | Command::AddNetPeer { .. }
            | Command::RemoveNetPeer(_) => (Some(Role::Admin), None),
            Command::CreateVm(_)
            | Command::ChangeVm { .. }
            | Command::RenameVm { .. }
            | Command::ReinitVm { .. }
            | Command::SetCloudInit(_)
            | Command::DeleteVm { .. }
            | Command::OpenConsole { .. }
            | Command::DeleteTemplate { .. } => (Some(Role::Operator), None),
            Command::AddTemplateVersion(version) => (Some(Role::Operator), Some(version.origin)),
            Command::SetPower { vm, .. } | Command::RebootVm { vm, .. } => match (who, self.vm(*vm)) {
                (Who::Node(_), vm) => (Some(Role::Operator), Some(vm?.node)),
                (Who::Person(..), _) => (Some(Role::Operator), None),
            },
            Command::ConfirmVmGone { vm } => match who {
                Who::Node(_) => (None, Some(self.vm(*vm)?.node)),
                Who::Person(..) => (None, None),
            },
        };
        match (who, role, owner) {
            (Who::Person(has, _), Some(needed), _) if *has >= needed => Ok(()),
            (Who::Person(..), Some(needed), _) => Err(Reject::NotAllowed { needed }),
            (Who::Person(..), None, _) => Err(Reject::NodesOnly),
            (Who::Node(node), _, Some(owner)) if *node == owner => Ok(()),
            (Who::Node(node), _, Some(_)) => Err(Reject::NotYours(*node)),
            (Who::Node(_), Some(needed), None) => Err(Reject::NotAllowed { needed }),
            (Who::Node(_), None, None) => Ok(()),
        }
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

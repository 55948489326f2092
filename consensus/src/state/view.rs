//! Reading the state. Every list is ordered, so that all nodes show the same.

use super::{
    brief::VmBrief,
    digest,
    events::{self, EventQuery, SubjectKey},
    read::ReadError,
    requests,
    rows::{Cells, cloud_defaults, cluster, net_peer, node, template, token, vm},
    stop::{Halt, Stop},
};
use rusqlite::{Connection, Params, Row, params};
use std::{collections::BTreeMap, net::Ipv4Addr};
use waifud_model::{
    change::VmChange,
    cloud_init::CloudDefaults,
    command::{Actor, CreateVm, Reply, RequestKey},
    digest::Blake3,
    event::{Change, Event, Place, SubjectKind},
    ids::{NodeId, TokenId, VmId},
    mesh::NetPeer,
    name::{NodeName, PeerName, TemplateName, VmName},
    node::Node,
    placement::Reserved,
    reject::Reject,
    scope::Scope,
    state::{ClusterInfo, ClusterState},
    template::TemplateVersion,
    time::Timestamp,
    token::{ApiToken, JoinToken},
    vm::{Vm, VmSpec},
};

/// The state as one connection sees it. Inside a read transaction all answers are of one moment.
///
/// Every method fails alike: with [`ReadError`], if SQLite fails or a row holds what apply never wrote.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    db: &'a Connection,
}

impl<'a> View<'a> {
    /// Reads through `db`, which has `state.db` open.
    #[must_use]
    pub const fn new(db: &'a Connection) -> Self {
        Self { db }
    }

    /// What the cluster is; none before it is initialised.
    pub fn cluster(&self) -> Result<Option<ClusterInfo>, ReadError> {
        self.one(&format!("SELECT {} FROM cluster", cluster::COLUMNS), [], cluster::read)
    }

    /// The last accepted command's time; zero before the first.
    pub fn log_time(&self) -> Result<Timestamp, ReadError> {
        let time = self.one("SELECT log_time FROM clock", [], |row| Cells::of("clock", row).time())?;
        Ok(time.unwrap_or_default())
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> Result<Option<Node>, ReadError> {
        self.one(&format!("SELECT {} FROM nodes WHERE id = ?1", node::COLUMNS), [node::key(id)], node::read)
    }

    /// One node, by name.
    pub fn node_by_name(&self, name: &NodeName) -> Result<Option<Node>, ReadError> {
        self.one(&format!("SELECT {} FROM nodes WHERE name = ?1", node::COLUMNS), [name.as_str()], node::read)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Result<Vec<Node>, ReadError> {
        self.many(&format!("SELECT {} FROM nodes ORDER BY name", node::COLUMNS), [], node::read)
    }

    /// All machines that are no nodes and may reach the guests, by name.
    pub fn net_peers(&self) -> Result<Vec<NetPeer>, ReadError> {
        self.many(&format!("SELECT {} FROM net_peers ORDER BY name", net_peer::COLUMNS), [], net_peer::read)
    }

    /// One such machine.
    pub fn net_peer(&self, name: &PeerName) -> Result<Option<NetPeer>, ReadError> {
        let sql = format!("SELECT {} FROM net_peers WHERE name = ?1", net_peer::COLUMNS);
        self.one(&sql, [name.as_str()], net_peer::read)
    }

    /// What every guest is told; nothing before that is first set.
    pub fn cloud_defaults(&self) -> Result<CloudDefaults, ReadError> {
        let sql = format!("SELECT {} FROM cloud_defaults", cloud_defaults::COLUMNS);
        Ok(self.one(&sql, [], cloud_defaults::read)?.unwrap_or_default())
    }

    /// One VM.
    pub fn vm(&self, id: VmId) -> Result<Option<Vm>, ReadError> {
        self.one(&format!("SELECT {} FROM vms WHERE id = ?1", vm::COLUMNS), [id.as_bytes()], vm::read)
    }

    /// One VM, by name.
    pub fn vm_by_name(&self, name: &VmName) -> Result<Option<Vm>, ReadError> {
        self.one(&format!("SELECT {} FROM vms WHERE name = ?1", vm::COLUMNS), [name.as_str()], vm::read)
    }

    /// One VM, by address: how a guest is told from another.
    pub fn vm_by_ip(&self, ip: Ipv4Addr) -> Result<Option<Vm>, ReadError> {
        self.one(&format!("SELECT {} FROM vms WHERE ip = ?1", vm::COLUMNS), [ip.to_bits()], vm::read)
    }

    /// All VMs, those being deleted too, by name.
    pub fn vms(&self) -> Result<Vec<Vm>, ReadError> {
        // Ordered here: SQLite would go through the index of names and jump to each row.
        let mut vms = self.many(&format!("SELECT {} FROM vms", vm::COLUMNS), [], vm::read)?;
        vms.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(vms)
    }

    /// The same, without their guests' documents: what a list shows.
    pub fn vms_brief(&self) -> Result<Vec<VmBrief>, ReadError> {
        let mut vms = self.many(&format!("SELECT {} FROM vms", vm::BRIEF_COLUMNS), [], vm::read_brief)?;
        vms.sort_unstable_by(|a, b| a.vm.name.cmp(&b.vm.name));
        Ok(vms)
    }

    /// The names of all VMs, with their owners.
    pub fn vm_names(&self) -> Result<Vec<(VmName, NodeId)>, ReadError> {
        self.many("SELECT name, node FROM vms ORDER BY name", [], vm::read_name)
    }

    /// Whose the guests' addresses are: each with its VM's owner, in the order of the addresses.
    pub fn addresses(&self) -> Result<Vec<(Ipv4Addr, NodeId)>, ReadError> {
        self.many("SELECT ip, node FROM vms ORDER BY ip", [], |row| {
            let mut cells = Cells::of("vms", row);
            Ok((Ipv4Addr::from_bits(cells.plain()?), cells.id("node", NodeId::new)?))
        })
    }

    /// A node's VMs, those being deleted too, by name.
    pub fn vms_on(&self, id: NodeId) -> Result<Vec<Vm>, ReadError> {
        let sql = format!("SELECT {} FROM vms WHERE node = ?1 ORDER BY name", vm::COLUMNS);
        self.many(&sql, [node::key(id)], vm::read)
    }

    /// All template versions, by template, the newest of each first.
    pub fn templates(&self) -> Result<Vec<TemplateVersion>, ReadError> {
        let sql = format!("SELECT {} FROM template_versions ORDER BY template, added_index DESC", template::COLUMNS);
        self.many(&sql, [], template::read)
    }

    /// A template's versions, the newest first; none if there is no such template.
    pub fn template_versions(&self, name: &TemplateName) -> Result<Vec<TemplateVersion>, ReadError> {
        let sql = format!(
            "SELECT {} FROM template_versions WHERE template = ?1 ORDER BY added_index DESC",
            template::COLUMNS
        );
        self.many(&sql, [name.as_str()], template::read)
    }

    /// One version of a template.
    pub fn template_version(&self, name: &TemplateName, version: Blake3) -> Result<Option<TemplateVersion>, ReadError> {
        let sql = format!("SELECT {} FROM template_versions WHERE template = ?1 AND version = ?2", template::COLUMNS);
        self.one(&sql, params![name.as_str(), version.0], template::read)
    }

    /// What a template's name stands for.
    pub fn newest_version(&self, name: &TemplateName) -> Result<Option<TemplateVersion>, ReadError> {
        let sql = format!(
            "SELECT {} FROM template_versions WHERE template = ?1 ORDER BY added_index DESC LIMIT 1",
            template::COLUMNS
        );
        self.one(&sql, [name.as_str()], template::read)
    }

    /// How many VMs stand on a template, or on one version of it.
    pub fn vms_from(&self, name: &TemplateName, version: Option<Blake3>) -> Result<u32, ReadError> {
        let count = |row: &Row<'_>| Cells::of("vms", row).plain();
        let found = match version {
            None => self.one(
                "SELECT count(*) FROM (SELECT id FROM vms WHERE template = ?1 UNION SELECT id FROM vms WHERE cd_template = ?1)",
                [name.as_str()],
                count,
            ),
            Some(version) => self.one(
                "SELECT count(*) FROM (SELECT id FROM vms WHERE template = ?1 AND version = ?2
                 UNION SELECT id FROM vms WHERE cd_template = ?1 AND cd_version = ?2)",
                params![name.as_str(), version.0],
                count,
            ),
        }?;
        Ok(found.unwrap_or(0))
    }

    /// What would come of a change to a VM at this point of the log, and what would be different: by the rules of apply, and
    /// without committing anything.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn try_change(&self, vm: &Vm, change: &VmChange) -> Result<Result<(VmSpec, Vec<Change>), Reject>, ReadError> {
        let outcome = super::apply::outcome(*self, vm, change);
        trial(outcome.map(|(spec, changes)| (spec, changes.into_inner())))
    }

    /// Why a VM could not be made at this point of the log, by the rules of apply.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn try_create(&self, create: &CreateVm) -> Result<Result<(), Reject>, ReadError> {
        trial(super::apply::settled(*self, create).map(drop))
    }

    /// The VMs that would go with a member, or why it cannot be removed.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn try_remove_node(&self, node: NodeId, force: bool) -> Result<Result<Vec<Vm>, Reject>, ReadError> {
        super::apply::removable(*self, node, force)
    }

    /// Why a template that is there, or that version of it, cannot be deleted.
    ///
    /// # Errors
    /// If the state cannot be read.
    pub fn try_delete_template(
        &self,
        template: &TemplateName,
        version: Option<Blake3>,
    ) -> Result<Result<(), Reject>, ReadError> {
        super::apply::unused(*self, template, version)
    }

    /// All join tokens, used up and expired ones too, by id.
    pub fn join_tokens(&self) -> Result<Vec<JoinToken>, ReadError> {
        let sql = format!("SELECT {} FROM join_tokens ORDER BY id", token::JOIN_COLUMNS);
        self.many(&sql, [], token::read_join)
    }

    /// One join token.
    pub fn join_token(&self, id: TokenId) -> Result<Option<JoinToken>, ReadError> {
        let sql = format!("SELECT {} FROM join_tokens WHERE id = ?1", token::JOIN_COLUMNS);
        self.one(&sql, [token::key(id)], token::read_join)
    }

    /// All API tokens, expired ones too, by id.
    pub fn api_tokens(&self) -> Result<Vec<ApiToken>, ReadError> {
        let sql = format!("SELECT {} FROM api_tokens ORDER BY id", token::API_COLUMNS);
        self.many(&sql, [], token::read_api)
    }

    /// One API token.
    pub fn api_token(&self, id: TokenId) -> Result<Option<ApiToken>, ReadError> {
        let sql = format!("SELECT {} FROM api_tokens WHERE id = ?1", token::API_COLUMNS);
        self.one(&sql, [token::key(id)], token::read_api)
    }

    /// The events that match, in order.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Event>, ReadError> {
        events::find(*self, query)
    }

    /// The commands of people that match, each with its events; the oldest first. The query's limit counts commands.
    pub fn commands(&self, query: &EventQuery) -> Result<Vec<Vec<Event>>, ReadError> {
        events::commands(*self, query)
    }

    /// All objects that ever had a name, as far as events remember.
    pub fn named(&self, kind: SubjectKind, name: &str) -> Result<Vec<SubjectKey>, ReadError> {
        events::named(*self, kind, name)
    }

    /// May somebody with this scope know of the object? A VM that is gone is judged by the labels it had last, as far as its
    /// events are remembered; where they are not, nobody with a scope may.
    pub fn sees(&self, scope: &Scope, key: &SubjectKey) -> Result<bool, ReadError> {
        events::sees(*self, scope, key)
    }

    /// The newest event.
    pub fn newest_event(&self) -> Result<Option<Place>, ReadError> {
        events::newest(*self)
    }

    /// The place before which some events are not kept any more; none while all there ever were are.
    pub fn events_forgotten(&self) -> Result<Option<Place>, ReadError> {
        events::forgotten(*self)
    }

    /// The last place before all events of this moment and later.
    pub fn event_before(&self, at: Timestamp) -> Result<Place, ReadError> {
        events::before(*self, at)
    }

    /// What a node has promised to its VMs; those being deleted count until they are gone.
    pub fn reserved(&self, id: NodeId) -> Result<Reserved, ReadError> {
        let sql = format!("SELECT {} FROM nodes WHERE id = ?1", node::RESERVED_COLUMNS);
        Ok(self.one(&sql, [node::key(id)], node::read_reserved)?.map(|(_, reserved)| reserved).unwrap_or_default())
    }

    /// What each node has promised to its VMs.
    pub fn reserved_by_node(&self) -> Result<BTreeMap<NodeId, Reserved>, ReadError> {
        let sql = format!("SELECT {} FROM nodes ORDER BY id", node::RESERVED_COLUMNS);
        Ok(self.many(&sql, [], node::read_reserved)?.into_iter().collect())
    }

    /// What became of an earlier request with the same key, if it is remembered: its reply, or that the key was another's.
    pub fn remembered(&self, actor: &Actor, request: &RequestKey) -> Result<Option<Result<Reply, Reject>>, ReadError> {
        requests::find(*self, &actor.requester(), request)
    }

    /// Everything but events and remembered requests.
    pub fn whole(&self) -> Result<ClusterState, ReadError> {
        Ok(ClusterState {
            cluster: self.cluster()?,
            nodes: self.nodes()?.into_iter().map(|node| (node.id, node)).collect(),
            vms: self.vms()?.into_iter().map(|vm| (vm.id, vm)).collect(),
            templates: self.templates()?.into_iter().map(|t| ((t.template.clone(), t.version), t)).collect(),
            cloud_defaults: self.cloud_defaults()?,
            net_peers: self.net_peers()?.into_iter().map(|peer| (peer.name.clone(), peer)).collect(),
            join_tokens: self.join_tokens()?.into_iter().map(|token| (token.id, token)).collect(),
            api_tokens: self.api_tokens()?.into_iter().map(|token| (token.id, token)).collect(),
            log_time: self.log_time()?,
        })
    }

    /// BLAKE3 over everything replicated, events and remembered requests too. Reads all rows.
    pub fn digest(&self) -> Result<Blake3, ReadError> {
        digest::digest(self.db)
    }

    /// True when the query finds anything.
    pub(super) fn any(&self, sql: &str, params: impl Params) -> Result<bool, ReadError> {
        Ok(self.db.prepare_cached(sql)?.exists(params)?)
    }

    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    /// Reads row after row, until `take` has enough.
    pub(super) fn each(
        &self,
        sql: &str,
        params: impl Params,
        mut take: impl FnMut(&Row<'_>) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            if !take(row)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn many<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}

/// What work came to of which nothing was to be written.
fn trial<T>(outcome: Result<T, Stop>) -> Result<Result<T, Reject>, ReadError> {
    match outcome {
        Ok(found) => Ok(Ok(found)),
        Err(Stop::Reject(reject)) => Ok(Err(reject)),
        Err(Stop::Halt(Halt::Read(error))) => Err(error),
        Err(Stop::Halt(other)) => Err(ReadError::Corrupt { table: "vms", source: other.into() }),
    }
}

//! What values are let into the state. Each refusal names the field and the limit.

use super::changes;
use waifud_model::{
    cloud_init::{CloudInit, Contradiction},
    command::{InitCluster, NewNode, VmReport},
    event::EventKind,
    ids::{NodeId, TokenId, VmId},
    network,
    node::{Capacity, Node},
    reject::Reject,
    scope::Scope,
    size::ByteSize,
    template::{Source, TemplateVersion},
    time::Timestamp,
    token::{ApiToken, JoinToken, Role},
    vm::VmSpec,
};

/// Below this no Linux kernel with a distribution's initrd boots; small unikernels do.
const MEMORY_MIN: ByteSize = ByteSize::mib(64);
/// QEMU's block layer counts in sectors.
const SECTOR: u64 = 512;
/// As many as any person has.
const SSH_KEYS_MAX: usize = 64;
/// RSA keys of 16,384 bits take 2.8 KB; comments are short.
const SSH_KEY_MAX: usize = 8 << 10;
/// All keys of a VM; they are in every document of its metadata.
const SSH_KEYS_BYTES: usize = 64 << 10;
/// A CA's certificate or key takes less than 1 KiB.
const DER_MAX: usize = 16 << 10;
/// What a token is for, in a line.
const DESCRIPTION_MAX: usize = 256;
/// As many labels as tell teams, projects and stages apart; they travel with each request that a node passes on.
const SCOPE_LABELS_MAX: usize = 8;
/// What an event still shows as it is: whether a VM that is gone had a label is known from its events alone.
const SCOPE_VALUE_MAX: usize = 256;
/// What browsers and proxies take.
const URL_MAX: usize = 4096;
/// Nodes send what piled up in pieces of at most this many reports.
const REPORTS_MAX: usize = 1000;

fn bad<T>(field: &str, why: impl Into<String>) -> Result<T, Reject> {
    Err(Reject::BadSpec { field: field.to_owned(), why: why.into() })
}

/// Checks what a new VM is made of; `owner` is where it is to be.
pub(super) fn vm(id: VmId, spec: &VmSpec, owner: &Node) -> Result<(), Reject> {
    if VmId::from_bytes(*id.as_bytes()) != Some(id) {
        return bad("id", "is not a VM id");
    }
    let threads = owner.capacity.threads;
    if !(1..=threads).contains(&spec.cpus) {
        return bad("cpus", format!("{} given; 1 to {threads} are possible on node {}", spec.cpus, owner.name));
    }
    if spec.memory < MEMORY_MIN || !spec.memory.as_bytes().is_multiple_of(ByteSize::mib(1).as_bytes()) {
        return bad("memory", format!("{} given; at least {MEMORY_MIN}, in whole MiB", spec.memory));
    }
    if spec.disk == ByteSize::ZERO || !spec.disk.as_bytes().is_multiple_of(SECTOR) {
        return bad("disk", format!("{} bytes given; a multiple of {SECTOR} is needed", spec.disk.as_bytes()));
    }
    changes::bridges(spec, owner)?;
    cloud_init(&spec.cloud_init)
}

/// Checks what a guest is told. Documents have a bound of their own, in their type.
pub(super) fn cloud_init(told: &CloudInit) -> Result<(), Reject> {
    if let Err(Contradiction { field, why }) = told.check() {
        return bad(field, why);
    }
    ssh_keys(&told.ssh_keys)
}

fn ssh_keys(keys: &[String]) -> Result<(), Reject> {
    if keys.len() > SSH_KEYS_MAX {
        return bad("ssh_keys", format!("{} given; at most {SSH_KEYS_MAX}", keys.len()));
    }
    if keys.iter().any(|key| key.trim().is_empty() || key.len() > SSH_KEY_MAX || key.chars().any(char::is_control)) {
        return bad("ssh_keys", format!("each is one line of at most {SSH_KEY_MAX} bytes"));
    }
    if keys.iter().map(String::len).sum::<usize>() > SSH_KEYS_BYTES {
        return bad("ssh_keys", format!("at most {SSH_KEYS_BYTES} bytes in all"));
    }
    Ok(())
}

/// Checks what the first command says of the cluster.
pub(super) fn cluster(init: &InitCluster) -> Result<(), Reject> {
    if let Err(error) = network::check(init.cidr, init.subnet_prefix) {
        return bad("cidr", error.to_string());
    }
    for (field, der) in [("ca_cert", &init.ca_cert), ("ca_key", &init.ca_key)] {
        if !(1..=DER_MAX).contains(&der.len()) {
            return bad(field, format!("has {} bytes; 1 to {DER_MAX} are possible", der.len()));
        }
    }
    Ok(())
}

/// Checks what a machine says of itself.
pub(super) fn node(node: &NewNode) -> Result<(), Reject> {
    if NodeId::new(node.id.get()) != Some(node.id) {
        return bad("id", "is not a node id");
    }
    capacity(&node.capacity)
}

/// Checks what a node says it can give.
pub(super) fn capacity(capacity: &Capacity) -> Result<(), Reject> {
    for (field, size) in [("memory", capacity.memory), ("disk", capacity.disk)] {
        if i64::try_from(size.as_bytes()).is_err() {
            return bad(field, format!("{size} is more than can be counted"));
        }
    }
    Ok(())
}

/// Checks a new join token.
pub(super) fn join_token(token: &JoinToken, now: Timestamp) -> Result<(), Reject> {
    token_id(token.id)?;
    if token.uses_left == 0 {
        return bad("uses", "at least 1");
    }
    expiry(token.expires_at, now)
}

/// Checks a new API token.
pub(super) fn api_token(token: &ApiToken, now: Timestamp) -> Result<(), Reject> {
    token_id(token.id)?;
    if token.description.len() > DESCRIPTION_MAX || token.description.chars().any(char::is_control) {
        return bad("description", format!("one line of at most {DESCRIPTION_MAX} bytes"));
    }
    scope(&token.scope, token.role)?;
    token.expires_at.map_or(Ok(()), |end| expiry(end, now))
}

fn scope(scope: &Scope, role: Role) -> Result<(), Reject> {
    if role == Role::Admin && !scope.is_whole() {
        return bad("scope", "an admin may make tokens without one; give a scope to the role operator or viewer");
    }
    let count = scope.labels().iter().count();
    if count > SCOPE_LABELS_MAX {
        return bad("scope", format!("{count} labels given; at most {SCOPE_LABELS_MAX}"));
    }
    match scope.labels().iter().find(|(_, value)| value.len() > SCOPE_VALUE_MAX) {
        Some((key, value)) => {
            bad("scope", format!("the value of {key} has {} bytes; at most {SCOPE_VALUE_MAX}", value.len()))
        }
        None => Ok(()),
    }
}

fn token_id(id: TokenId) -> Result<(), Reject> {
    if TokenId::new(id.get()) == Some(id) { Ok(()) } else { bad("id", "is not a token id") }
}

fn expiry(end: Timestamp, now: Timestamp) -> Result<(), Reject> {
    if end > now { Ok(()) } else { bad("expires_at", "is in the past") }
}

/// Checks a new template version.
pub(super) fn template(version: &TemplateVersion) -> Result<(), Reject> {
    if version.size == ByteSize::ZERO {
        return bad("size", "the image is empty");
    }
    if version.virtual_size == ByteSize::ZERO || !version.virtual_size.as_bytes().is_multiple_of(SECTOR) {
        return bad("virtual_size", format!("a multiple of {SECTOR} bytes is needed"));
    }
    if let Source::Url(url) = &version.source
        && (url.len() > URL_MAX || url.chars().any(char::is_control))
    {
        return bad("source", format!("an URL has at most {URL_MAX} bytes and no control characters"));
    }
    Ok(())
}

/// Checks a batch of reports.
pub(super) fn reports(reports: &[VmReport]) -> Result<(), Reject> {
    if !(1..=REPORTS_MAX).contains(&reports.len()) {
        return bad("reports", format!("{} given; 1 to {REPORTS_MAX}", reports.len()));
    }
    let observed =
        |kind| matches!(kind, EventKind::Started | EventKind::Stopped | EventKind::Crashed | EventKind::Failed);
    match reports.iter().find(|report| !observed(report.kind)) {
        Some(report) => bad("kind", format!("{:?} is not something that an owner observes", report.kind)),
        None => Ok(()),
    }
}

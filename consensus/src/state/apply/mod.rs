//! Applying one command. Everything is checked here again, whatever the proposer checked: only the log's order decides.
//!
//! It must not look at anything but the command, its index and the tables.

mod actor;
mod changes;
mod cloud_init;
mod cluster;
mod limits;
mod net_peers;
mod nodes;
mod power;
mod reports;
mod scope;
mod templates;
mod tokens;
mod vms;

use super::{
    events::{Author, Trail},
    ledger::{Known, Ledger},
    requests,
    stop::{Halt, Stop},
    view::View,
};
use actor::Standing;
use rusqlite::Connection;
use waifud_model::{
    command::{Command, Envelope, Reply},
    reject::Reject,
    time::Timestamp,
};
pub(super) use {changes::outcome, nodes::removable, templates::unused, vms::settled};

/// The highest feature level that this build knows. A leader must not propose a higher one.
pub const FEATURE_LEVEL: u32 = 1;

/// A command was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// What it gives back.
    pub reply: Reply,
    /// True when it was accepted before, and nothing was done now.
    pub replayed: bool,
}

/// What a command works with.
struct Work<'a> {
    db: &'a Connection,
    view: View<'a>,
    /// The command's index in the log.
    index: i64,
    /// Log time.
    now: Timestamp,
    standing: Standing,
    trail: Trail<'a>,
}

/// Applies one committed command within the caller's transaction. Whoever does not commit that drops the ledger too.
///
/// A reject leaves the state as it was, log time included: the work is done in a savepoint of its own.
///
/// # Errors
/// A halt: this node must not apply anything more, and the transaction must not be committed.
pub fn apply(
    db: &Connection,
    ledger: &mut Ledger,
    index: u64,
    envelope: &Envelope,
) -> Result<Result<Accepted, Reject>, Halt> {
    let index = i64::try_from(index).map_err(|_| Halt::Index(index))?;
    let run = |sql: &str| db.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(Halt::Write);
    let mut known = ledger.known(View::new(db))?;
    run("SAVEPOINT command")?;
    match attempt(db, &mut known, index, envelope) {
        Ok(accepted) => {
            run("RELEASE command")?;
            ledger.accept(known);
            Ok(Ok(accepted))
        }
        Err(Stop::Reject(reject)) => {
            run("ROLLBACK TO command")?;
            run("RELEASE command")?;
            Ok(Err(reject))
        }
        Err(Stop::Halt(halt)) => Err(halt),
    }
}

fn attempt(db: &Connection, known: &mut Known, index: i64, envelope: &Envelope) -> Result<Accepted, Stop> {
    let view = View::new(db);
    let Envelope { request, actor, at, command } = envelope;
    let founded = known.founded;
    let now = known.tick(db, *at)?;
    let standing = match command {
        _ if founded => Standing::of(view, actor, now)?,
        Command::InitCluster(init) => Standing::founder(actor, init.node.id)?,
        _ => return Err(Reject::NotInitialised.into()),
    };
    requests::check(request)?;
    requests::forget(db, &mut known.requests, now)?;
    let who = actor.requester();
    if let Some(reply) = requests::recall(view, &who, request)? {
        return Ok(Accepted { reply, replayed: true });
    }
    let author = Author { actor, authority: standing.authority().cloned(), command: command.verb() };
    let trail = Trail::new(db, &mut known.events, index, now, author);
    let mut work = Work { db, view, index, now, standing, trail };
    scope::before(&work, command)?;
    let reply = match command {
        Command::InitCluster(init) if !founded => cluster::init(&mut work, init)?,
        _ => dispatch(&mut work, command)?,
    };
    scope::after(&work, &reply)?;
    work.trail.trim()?;
    requests::remember(db, &mut known.requests, &who, request, &reply, now)?;
    known.founded = true;
    Ok(Accepted { reply, replayed: false })
}

fn dispatch(work: &mut Work<'_>, command: &Command) -> Result<Reply, Stop> {
    match command {
        Command::InitCluster(_) => Err(Reject::AlreadyInitialised.into()),
        Command::RaiseFeatureLevel(level) => cluster::raise(work, *level),
        Command::AddNode(add) => nodes::add(work, add),
        Command::UpdateNode { node, advertise, capacity } => nodes::update(work, *node, *advertise, capacity),
        Command::RotateNodeKey { node, fingerprint } => nodes::rotate_key(work, *node, *fingerprint),
        Command::SetMeshEnd { node, end } => nodes::set_mesh_end(work, *node, *end),
        Command::SetCordon { node, cordoned } => nodes::set_cordon(work, *node, *cordoned),
        Command::RemoveNode { node, force } => nodes::remove(work, *node, *force),
        Command::CreateJoinToken(token) => tokens::create_join(work, token),
        Command::RevokeJoinToken(id) => tokens::revoke_join(work, *id),
        Command::CreateApiToken(token) => tokens::create_api(work, token),
        Command::RevokeApiToken(id) => tokens::revoke_api(work, *id),
        Command::CreateVm(create) => vms::create(work, create),
        Command::SetPower { vm, desired, grace, expect } => power::set(work, *vm, *desired, *grace, *expect),
        Command::RebootVm { vm, grace, expect } => power::reboot(work, *vm, *grace, *expect),
        Command::ChangeVm { vm, change, expect } => changes::change(work, *vm, change, *expect),
        Command::RenameVm { vm, name, expect } => changes::rename(work, *vm, name, *expect),
        Command::ReinitVm { vm, image, expect } => changes::reinit(work, *vm, image, *expect),
        Command::SetNodeLabels { node, labels } => nodes::set_labels(work, *node, labels),
        Command::SetCloudInit(set) => cloud_init::set(work, set),
        Command::SetCloudDefaults(set) => cloud_init::set_defaults(work, set),
        Command::AddNetPeer { name, key } => net_peers::add(work, name, *key),
        Command::RemoveNetPeer(name) => net_peers::remove(work, name),
        Command::DeleteVm { vm, expect } => vms::delete(work, *vm, *expect),
        Command::ConfirmVmGone { vm } => vms::confirm_gone(work, *vm),
        Command::OpenConsole { vm, console } => vms::open_console(work, *vm, *console),
        Command::AddTemplateVersion(version) => templates::add(work, version),
        Command::DeleteTemplate { template, version } => templates::delete(work, template, *version),
        Command::ReportVmEvents(reports) => reports::take(work, reports),
    }
}

//! `history` and `audit`: what became of a name, and who did what.

use super::events::moment;
use crate::{complete, context::Context, exit::Failure, output::now, views::history::life};
use waifud_api::{
    event::{Event, Since},
    history::{AuditEntry, AuditQuery, HistoryQuery, ObjectHistory},
    select::{ActorSelector, ObjectName, ObjectNameError, SubjectSelector},
};

/// The arguments of `history`.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl history web-1
  waifuctl history template/debian-12 --limit 20
  waifuctl history node/n2 -o json")]
pub(crate) struct Args {
    /// What: a VM's name, or node/NAME, template/NAME, token/ID, peer/NAME, vm/NAME, cluster
    #[arg(value_name = "NAME|KIND/NAME", add = complete::subjects(), value_parser = object)]
    object: ObjectName,
    /// Only what happened before: a time, a span before now (1h), or an event (812.0)
    #[arg(long, value_name = "WHEN")]
    before: Option<String>,
    /// How many events at most, the newest of them [default: 100]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

/// The arguments of `audit`.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  waifuctl audit --since 1d
  waifuctl audit --to vm/web-1
  waifuctl audit --by uid:1000@n1 -o csv",
    after_help = "What people did, on whatever node: what they changed, and whose console or screen they opened."
)]
pub(crate) struct AuditArgs {
    /// From when on: a time, a span before now (1h), or an event (812.0)
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only what was done before
    #[arg(long, value_name = "WHEN")]
    before: Option<String>,
    /// By whom: uid:1000, uid:1000@n1, token:ID
    #[arg(long, value_name = "ACTOR")]
    by: Option<ActorSelector>,
    /// To what: vm, vm/web-1
    #[arg(long, value_name = "KIND[/NAME]", add = complete::subjects())]
    to: Option<SubjectSelector>,
    /// How many at most [default: 100]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
}

/// A name alone is a VM's.
fn object(text: &str) -> Result<ObjectName, ObjectNameError> {
    if text.contains('/') || text == "cluster" { text.parse() } else { format!("vm/{text}").parse() }
}

fn read(text: Option<&str>) -> Result<Option<Since>, Failure> {
    text.map(|text| moment(text, now())).transpose()
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    context.out.check::<Event>()?;
    let query = HistoryQuery { before: read(args.before.as_deref())?, limit: args.limit };
    let found = context.fresh(context.client.history(&args.object, query).await?);
    if context.terminal.out && !context.out.has_format() {
        // A name that was given again has had several objects; what is shown says which.
        let several = found.objects.len() > 1;
        for object in found.objects.iter().filter(|_| several) {
            context.hint(&life(object));
        }
    }
    let events: Vec<_> =
        found.objects.iter().flat_map(|object: &ObjectHistory| object.events.iter().cloned()).collect();
    context.out.parts(&found, &events)?;
    if let Some(more) = found.more {
        context.hint(&format!("earlier: waifuctl history {} --before {more}", args.object));
    }
    Ok(())
}

pub(crate) async fn audit(context: &Context, args: &AuditArgs) -> Result<(), Failure> {
    context.out.check::<AuditEntry>()?;
    let query = AuditQuery {
        since: read(args.since.as_deref())?,
        before: read(args.before.as_deref())?,
        limit: args.limit,
        actor: args.by.clone(),
        subject: args.to.clone(),
    };
    let entries = context.fresh(context.client.audit(query).await?);
    context.out.list(&entries)
}

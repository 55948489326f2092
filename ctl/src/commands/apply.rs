//! `apply`: the cluster as files describe it.

use super::delete::together;
use crate::{
    apply::{execute, plan::Action, read, show, survey},
    confirm,
    context::Context,
    exit::Failure,
    output,
};
use std::path::PathBuf;
use waifud_api::exit::Exit;
use waifud_model::labels::Label;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  waifuctl apply -f web.yaml --dry-run
  waifuctl apply -f cluster/
  waifuctl apply -f shop/ --prune -l app=shop
  waifuctl export --all | waifuctl apply -f -",
    after_help = "A file describes VMs, templates and labels of nodes:

  kind: vm
  name: web-1
  template: debian-12
  cpus: 2
  memory: 4G
  disks: {data: 20G}
  labels: {app: shop}
  user_data:
    packages: [nginx]

What a document does not name is left as it is; a new VM gets the default. All fields: waifuctl apply --schema"
)]
pub(crate) struct Args {
    /// A file, a directory with .yaml, .yml and .toml files, or - for stdin; may be given several times
    #[arg(short, long, value_name = "FILE", required_unless_present = "schema")]
    file: Vec<PathBuf>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Delete the VMs that have the label of -l and are in no file
    #[arg(long, requires = "label")]
    prune: bool,
    /// Which VMs --prune may delete; of several labels a VM must have all
    #[arg(short, long, value_name = "KEY=VALUE", requires = "prune")]
    label: Vec<Label>,
    /// Print the JSON Schema of the files, for editors
    #[arg(long, exclusive = true)]
    pub(crate) schema: bool,
}

/// Prints the schema; no cluster is asked.
pub(crate) fn schema() -> Result<(), Failure> {
    let schema = waifud_api::document::json_schema();
    output::stdout(&format!("{schema:#}\n"))
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let wanted = read::read(&args.file).map_err(|faults| {
        for fault in &faults {
            let mark = output::Tone::Bad.paint("error:", context.terminal.colour_err);
            output::stderr(&format!("{mark} {}\n", output::printable(&fault.to_string())));
        }
        Failure::Told(Exit::Usage)
    })?;
    let prune = if args.prune { args.label.as_slice() } else { &[] };
    let plan = survey::survey(context, wanted, prune).await?;
    let refused = plan.steps.iter().map(|step| match step.action {
        Action::Cannot { exit, .. } => exit,
        _ => Exit::Done,
    });
    let refused = together(&refused.collect::<Vec<_>>());
    if args.dry_run {
        context.out.whole(&plan.rows(), |look| show::plan(&plan, look.colour))?;
        return if refused == Exit::Done { Ok(()) } else { Err(Failure::Told(refused)) };
    }
    if !context.quiet {
        output::stderr(&show::plan(&plan, context.terminal.colour_err));
    }
    if let Some(question) = plan.question() {
        confirm::agree(context, &question).await?;
    }
    let (outcomes, ends) = execute::carry_out(context, plan).await;
    if context.out.is_for_programs() {
        context.out.list(&outcomes)?;
    }
    match together(&ends) {
        Exit::Done => Ok(()),
        other => Err(Failure::Told(other)),
    }
}

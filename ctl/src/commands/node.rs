//! `node`: list, show, cordon, uncordon, remove.

use crate::{complete, confirm, context::Context, exit::Failure, output::Select, views::node::details, wait};
use waifud_api::filter::{Filter, Term};
use waifud_model::name::NodeName;

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the nodes
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl node list
  waifuctl node list role=voter label.zone=a -o wide")]
    List(Select),
    /// Show all that is known of a node
    #[command(before_help = "Examples:
  waifuctl node show n1
  waifuctl node show n1 -o yaml")]
    Show {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
    },
    /// No new VMs on this node; what runs, runs on
    #[command(before_help = "Examples:
  waifuctl node cordon n1")]
    Cordon {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
    },
    /// New VMs on this node again
    #[command(before_help = "Examples:
  waifuctl node uncordon n1")]
    Uncordon {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
    },
    /// Remove a node from the cluster for good
    #[command(before_help = "Examples:
  waifuctl node remove n3 --dry-run
  waifuctl node remove n3
  waifuctl node remove n3 --force")]
    Remove {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
        /// Even though VMs are placed on it: they are lost with it
        #[arg(long)]
        force: bool,
        /// Only say what would be lost
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(select) => {
            let nodes = context.fresh(context.client.nodes().await?);
            context.out.list(&select.keep(nodes)?)
        }
        Command::Show { name } => {
            let node = context.fresh(context.client.node(&name).await?);
            context.out.one(&node, |look| details(&node, look))
        }
        Command::Cordon { name } => cordon(context, &name, true).await,
        Command::Uncordon { name } => cordon(context, &name, false).await,
        Command::Remove { name, force, dry_run } => remove(context, &name, force, dry_run).await,
    }
}

async fn cordon(context: &Context, name: &NodeName, cordoned: bool) -> Result<(), Failure> {
    context.fresh(wait::accepted(context.client.cordon_node(name, cordoned)).await?);
    let what = if cordoned { "takes no new VMs" } else { "takes new VMs again" };
    context.progress.done(&format!("{name} {what}"), "");
    Ok(())
}

async fn remove(context: &Context, name: &NodeName, force: bool, dry_run: bool) -> Result<(), Failure> {
    let node = context.fresh(context.client.node(name).await?);
    let lost = match (node.vms, force) {
        (0, _) => "no VM is placed on it".to_owned(),
        (1, true) => "the VM on it is lost".to_owned(),
        (count, true) => format!("the {count} VMs on it are lost"),
        (count, false) => format!("it is refused if it still holds VMs, {count} now"),
    };
    if dry_run {
        let vms = context.fresh(context.client.vms(&Filter::default().and(Term::Node(name.clone()))).await?);
        context.hint(&format!("would remove {name} from the cluster: {lost}"));
        return context.out.list(&vms);
    }
    confirm::agree(context, &format!("Remove {name} from the cluster ({lost})? To come back it must join again."))
        .await?;
    context.fresh(wait::accepted(context.client.remove_node(name, force)).await?);
    context.progress.done(&format!("{name} is removed"), "");
    Ok(())
}

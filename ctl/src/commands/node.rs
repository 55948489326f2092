//! `node`: list, show, cordon, uncordon, remove.

use crate::{confirm, context::Context, exit::Failure, views::node::details, wait};
use waifud_model::name::NodeName;

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the nodes
    #[command(visible_alias = "ls")]
    List,
    /// Show all that is known of a node
    Show {
        /// The node
        name: NodeName,
    },
    /// No new VMs on this node; what runs, runs on
    Cordon {
        /// The node
        name: NodeName,
    },
    /// New VMs on this node again
    Uncordon {
        /// The node
        name: NodeName,
    },
    /// Remove a node from the cluster for good
    Remove {
        /// The node
        name: NodeName,
        /// Even though VMs are placed on it: they are lost with it
        #[arg(long)]
        force: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let nodes = context.fresh(context.client.nodes().await?);
            context.out.list(&nodes)
        }
        Command::Show { name } => {
            let node = context.fresh(context.client.node(&name).await?);
            context.out.one(&node, |look| details(&node, look))
        }
        Command::Cordon { name } => cordon(context, &name, true).await,
        Command::Uncordon { name } => cordon(context, &name, false).await,
        Command::Remove { name, force } => remove(context, &name, force).await,
    }
}

async fn cordon(context: &Context, name: &NodeName, cordoned: bool) -> Result<(), Failure> {
    context.fresh(wait::accepted(context.client.cordon_node(name, cordoned)).await?);
    let what = if cordoned { "takes no new VMs" } else { "takes new VMs again" };
    context.progress.done(&format!("{name} {what}"), "");
    Ok(())
}

async fn remove(context: &Context, name: &NodeName, force: bool) -> Result<(), Failure> {
    let node = context.fresh(context.client.node(name).await?);
    let lost = match (node.vms, force) {
        (0, _) => "no VM is placed on it".to_owned(),
        (1, true) => "the VM on it is lost".to_owned(),
        (count, true) => format!("the {count} VMs on it are lost"),
        (count, false) => format!("it is refused if it still holds VMs, {count} now"),
    };
    confirm::agree(context, &format!("Remove {name} from the cluster ({lost})? To come back it must join again."))
        .await?;
    context.fresh(wait::accepted(context.client.remove_node(name, force)).await?);
    context.progress.done(&format!("{name} is removed"), "");
    Ok(())
}

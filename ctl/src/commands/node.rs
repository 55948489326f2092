//! `node`: list, show, label, cordon, uncordon, remove.

use super::change::{LabelChange, patch};
use crate::{complete, confirm, context::Context, exit::Failure, output::Select, views::node::details, wait};
use waifud_api::{
    filter::{Filter, Term},
    node::{Node, NodeUpdate},
};
use waifud_model::{labels::Label, name::NodeName};

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the nodes
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl node list
  waifuctl node list role=voter -l zone=a
  waifuctl node list --columns name,status,labels")]
    List {
        /// Which rows
        #[command(flatten)]
        select: Select,
        /// Only nodes with this label; may be given several times
        #[arg(short, long, value_name = "KEY=VALUE")]
        label: Vec<Label>,
    },
    /// Show all that is known of a node
    #[command(before_help = "Examples:
  waifuctl node show n1
  waifuctl node show n1 -o yaml")]
    Show {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
    },
    /// Change the labels of a node
    #[command(before_help = "Examples:
  waifuctl node label n1 zone=attic disk=nvme
  waifuctl node label n1 disk-")]
    Label {
        /// The node
        #[arg(add = complete::nodes())]
        name: NodeName,
        /// KEY=VALUE sets a label, KEY- takes it away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        labels: Vec<LabelChange>,
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
    #[command(visible_alias = "rm")]
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
        /// Only say whether it could leave, and list the VMs on it
        #[arg(long)]
        dry_run: bool,
    },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { select, label } => {
            let mut nodes = context.fresh(context.client.nodes().await?);
            nodes.retain(|node| label.iter().all(|label| node.labels.get(&label.key) == Some(&*label.value)));
            context.out.list(&select.keep(nodes)?)
        }
        Command::Show { name } => {
            let node = context.fresh(context.client.node(&name).await?);
            context.out.one(&node, |look| details(&node, look))
        }
        Command::Label { name, labels } => label(context, &name, &labels).await,
        Command::Cordon { name } => cordon(context, &name, true).await,
        Command::Uncordon { name } => cordon(context, &name, false).await,
        Command::Remove { name, force, dry_run } => remove(context, &name, force, dry_run).await,
    }
}

async fn label(context: &Context, name: &NodeName, labels: &[LabelChange]) -> Result<(), Failure> {
    let update = NodeUpdate { labels: patch(labels) };
    let node: Node = context.fresh(wait::accepted(context.client.update_node(name, &update)).await?);
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let labels = if labels.is_empty() { "it has no labels".to_owned() } else { labels.join(", ") };
    context.progress.done(&format!("{name} is labelled"), &labels);
    Ok(())
}

async fn cordon(context: &Context, name: &NodeName, cordoned: bool) -> Result<(), Failure> {
    context.fresh(wait::accepted(context.client.cordon_node(name, cordoned)).await?);
    let what = if cordoned { "takes no new VMs" } else { "takes new VMs again" };
    context.progress.done(&format!("{name} {what}"), "");
    Ok(())
}

async fn remove(context: &Context, name: &NodeName, force: bool, dry_run: bool) -> Result<(), Failure> {
    let node = context.fresh(context.client.node(name).await?);
    let lost = match node.vms {
        0 => "no VM is placed on it".to_owned(),
        1 => "the VM on it is lost".to_owned(),
        count => format!("the {count} VMs on it are lost"),
    };
    if dry_run {
        let vms = context.fresh(context.client.vms(&Filter::default().and(Term::Node(name.clone()))).await?);
        context.out.list(&vms)?;
    }
    // What would be refused is told before anything is asked.
    context.fresh(context.client.preview_remove_node(name, force).await?);
    if dry_run {
        context.hint(&format!("would remove {name} from the cluster: {lost}"));
        return Ok(());
    }
    confirm::agree(context, &format!("Remove {name} from the cluster ({lost})? To come back it must join again."))
        .await?;
    context.fresh(wait::accepted(context.client.remove_node(name, force)).await?);
    context.progress.done(&format!("{name} is removed"), "");
    Ok(())
}

//! `list`: the VMs of the cluster.

use crate::{
    complete,
    context::Context,
    exit::Failure,
    watch::{self, Seen},
};
use waifud_api::{
    filter::{Filter, Term},
    vm::Vm,
};
use waifud_model::{labels::Label, name::NodeName, observed::VmState};

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl list
  waifuctl list --node n1 --status running
  waifuctl list -l env=prod web -o json
  waifuctl list --watch
  waifuctl list --columns name,ip,labels")]
pub(crate) struct Args {
    /// Only VMs that match: see waifuctl help filters
    pub(crate) filter: Vec<String>,
    /// Only VMs on this node
    #[arg(short = 'N', long, add = complete::nodes())]
    node: Option<NodeName>,
    /// Only VMs with this label; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// Only VMs in this state
    #[arg(long, value_parser = state)]
    status: Option<VmState>,
    /// Go on, and show what changes: in place on a terminal, else a line for each change
    #[arg(short, long)]
    watch: bool,
}

fn state(text: &str) -> Result<VmState, String> {
    text.parse().map_err(|_| format!("there are {}", VmState::words().join(", ")))
}

impl Args {
    fn filter(&self) -> Result<Filter, Failure> {
        let typed: Filter = self
            .filter
            .join(" ")
            .parse()
            .map_err(|e: waifud_api::filter::FilterError| Failure::Usage(e.to_string()))?;
        let node = self.node.iter().cloned().map(Term::Node);
        let labels = self.label.iter().cloned().map(Term::Label);
        let status = self.status.iter().copied().map(Term::Status);
        Ok(node.chain(labels).chain(status).fold(typed, Filter::and))
    }
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let filter = args.filter()?;
    context.out.check::<Vm>()?;
    if args.watch {
        let look = async || {
            let answer = context.client.vms(&filter).await?;
            context.heed(&answer.freshness);
            let note = context.staleness(&answer.freshness);
            Ok(Seen { vms: answer.value, note, last: false })
        };
        return watch::vms(context, look, |out, vms| out.list_text(vms)).await;
    }
    let vms = context.fresh(context.client.vms(&filter).await?);
    if let (true, Some(node)) = (vms.is_empty(), &args.node) {
        // None on it, or no such node?
        context.client.node(node).await?;
    }
    if vms.is_empty() && context.terminal.out {
        context.hint(if filter.is_empty() {
            "There are no VMs yet: waifuctl create -t TEMPLATE"
        } else {
            "No VM matches"
        });
    }
    context.out.list(&vms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn options_and_terms_are_one_filter() {
        let args = ["list", "web", "label.a=\"x y\"", "--node", "n1", "--label", "env=prod", "--status", "running"];
        let filter = Only::try_parse_from(args).unwrap().args.filter().unwrap();
        assert_eq!(filter.to_string(), "web label.a=\"x y\" node=n1 label.env=prod status=running");
        let bad = Only::try_parse_from(["list", "colour=red"]).unwrap().args.filter().unwrap_err();
        assert_eq!(bad.exit(), waifud_api::exit::Exit::Usage);
    }
}

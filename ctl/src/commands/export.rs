//! `export`: what is there, as files that `apply` takes.

use crate::{apply::export, complete, context::Context, exit::Failure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::str::FromStr;
use waifud_api::{
    document::Document,
    filter::{Filter, Term},
    node::Node,
    vm::Vm,
};
use waifud_model::{
    labels::Label,
    name::{NameError, NodeName, VmName},
    vm::Phase,
};

/// How many documents for guests are asked for at once.
const AT_ONCE: usize = 8;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl export vm/web-1
  waifuctl export -l app=shop > shop.yaml
  waifuctl export --all --with-user-data > cluster.yaml
  waifuctl export --all --toml
  waifuctl export node/n1")]
#[command(group = clap::ArgGroup::new("which").required(true).args(["names", "label", "all"]).multiple(false))]
pub(crate) struct Args {
    /// VMs, and nodes with their labels
    #[arg(value_name = "vm/NAME|node/NAME", add = complete::exportable())]
    names: Vec<Named>,
    /// All VMs with this label; of several a VM must have all
    #[arg(short, long, value_name = "KEY=VALUE")]
    label: Vec<Label>,
    /// All VMs, all templates that came from the web, and all nodes that have labels
    #[arg(long)]
    all: bool,
    /// With what guests are told (user-data, network-config), which may hold secrets; for operators
    #[arg(long)]
    with_user_data: bool,
    /// As TOML
    #[arg(long)]
    toml: bool,
}

/// `vm/web-1`, or the name alone; `node/n1`.
#[derive(Debug, Clone)]
enum Named {
    Vm(VmName),
    Node(NodeName),
}

impl FromStr for Named {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("node/") {
            Some(name) => NodeName::new(name).map(Self::Node),
            None => VmName::new(text.strip_prefix("vm/").unwrap_or(text)).map(Self::Vm),
        }
    }
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let vms = chosen(context, args).await?;
    let templates = context.fresh(context.client.templates().await?);
    let mut documents = Vec::new();
    if args.all {
        for template in &templates {
            match export::template(template) {
                Some(document) => documents.push(Document::Template(document)),
                None => context.hint(&format!(
                    "template {} is left out: it came from a file, which only whoever has it can name",
                    template.name
                )),
            }
        }
    }
    documents.extend(nodes(context, args).await?.iter().map(|node| Document::Node(export::node(node))));
    let described = stream::iter(vms).map(|vm| {
        let templates = &templates;
        async move {
            let has_documents = vm.user_data.is_some() || vm.network_config.is_some();
            let told = if args.with_user_data && has_documents {
                Some(context.fresh(context.client.cloud_init(&vm.name).await?).0)
            } else {
                None
            };
            let hidden = has_documents && told.is_none();
            Ok::<_, Failure>((Document::Vm(Box::new(export::vm(&vm, told, templates))), hidden))
        }
    });
    let described: Vec<_> = described.buffered(AT_ONCE).try_collect().await?;
    let hidden = described.iter().filter(|(_, hidden)| *hidden).count();
    if hidden > 0 {
        let guests = if hidden == 1 { "one guest is".to_owned() } else { format!("{hidden} guests are") };
        context.hint(&format!("what {guests} told is left out, because it may hold secrets: --with-user-data"));
    }
    documents.extend(described.into_iter().map(|(document, _)| document));
    let text = if args.toml { export::toml(&documents)? } else { export::yaml(&documents)? };
    // As a structure it is a list of the same documents, which apply takes too.
    context.out.whole(&documents, |_| text)
}

async fn chosen(context: &Context, args: &Args) -> Result<Vec<Vm>, Failure> {
    if args.names.is_empty() {
        let filter: Filter = args.label.iter().cloned().map(Term::Label).collect();
        let mut vms = context.fresh(context.client.vms(&filter).await?);
        vms.retain(|vm| vm.phase == Phase::Live);
        return Ok(vms);
    }
    let mut vms = Vec::new();
    for name in &args.names {
        if let Named::Vm(name) = name {
            vms.push(context.fresh(context.client.vm(name).await?));
        }
    }
    Ok(vms)
}

/// Those that are named, or all of which somebody said something.
async fn nodes(context: &Context, args: &Args) -> Result<Vec<Node>, Failure> {
    if args.all {
        let mut nodes = context.fresh(context.client.nodes().await?);
        nodes.retain(|node| !node.labels.is_empty());
        return Ok(nodes);
    }
    let mut nodes = Vec::new();
    for name in &args.names {
        if let Named::Node(name) = name {
            nodes.push(context.fresh(context.client.node(name).await?));
        }
    }
    Ok(nodes)
}

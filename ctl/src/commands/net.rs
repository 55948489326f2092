//! `net`: the cluster's network, and the machines that are no nodes and may reach the guests.

use super::delete::together;
use crate::{
    complete,
    context::Context,
    exit::{self, Failure},
    output::{self, Select},
    peer::{PrivateKey, WgQuick, code, without_comments},
    views::net::{routes, summary},
    wait,
};
use serde::Serialize;
use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use waifud_api::{
    client::IdempotencyKey,
    exit::Exit,
    net::{Net, NetPeer, NetPeerCreate},
};
use waifud_model::{mesh::MeshKey, name::PeerName};

/// See the module.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the nodes' subnets, gateways and ends of the mesh
    #[command(
        visible_alias = "ls",
        before_help = "Examples:
  waifuctl net list
  waifuctl net list --routes | ssh router sh"
    )]
    List {
        /// Print what a Linux router of a plain LAN is to be told
        #[arg(long)]
        routes: bool,
    },
    /// Machines that are no nodes and may reach the guests: laptops, telephones, routers
    #[command(subcommand)]
    Peer(Peer),
}

/// The commands of `net peer`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Peer {
    /// Let a machine in, and print its WireGuard configuration; it is not shown again
    #[command(before_help = "Examples:
  waifuctl net peer add laptop --output-file waifu.conf && sudo wg-quick up ./waifu.conf
  waifuctl net peer add phone --qr > /dev/null
  waifuctl net peer add router --key \"$(ssh router wg pubkey < wg.key)\"")]
    Add(Add),
    /// List the machines
    #[command(visible_alias = "ls")]
    #[command(before_help = "Examples:
  waifuctl net peer list
  waifuctl net peer list laptop -o wide")]
    List(Select),
    /// Machines may no longer reach the guests
    #[command(visible_alias = "rm")]
    #[command(before_help = "Examples:
  waifuctl net peer delete laptop
  waifuctl net peer delete laptop --dry-run")]
    Delete {
        /// The machines
        #[arg(required = true, add = complete::peers())]
        names: Vec<PeerName>,
        /// Only say which they are
        #[arg(long)]
        dry_run: bool,
    },
}

/// The arguments of `net peer add`.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// What the machine is to be called
    name: PeerName,
    /// Its public key, if it has one: the private key then stays with it, and its place in the configuration is free
    #[arg(long, value_name = "PUBLIC_KEY", conflicts_with = "qr")]
    key: Option<MeshKey>,
    /// A new file for the configuration, for its owner's eyes only, in place of stdout
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
    /// Show a QR code for a telephone on stderr [default: if that is a terminal]
    #[arg(long, overrides_with = "no_qr")]
    qr: bool,
    /// Show no QR code
    #[arg(long)]
    no_qr: bool,
}

/// A machine that was let in, and its configuration: for programs.
#[derive(Debug, Serialize)]
struct Added<'a> {
    #[serde(flatten)]
    peer: &'a NetPeer,
    config: &'a str,
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List { routes } => list(context, routes).await,
        Command::Peer(Peer::Add(args)) => add(context, args).await,
        Command::Peer(Peer::List(select)) => {
            let peers = context.fresh(context.client.net_peers().await?);
            if peers.is_empty() && context.terminal.out {
                context.hint("There are no such machines yet: waifuctl net peer add NAME");
            }
            context.out.list(&select.keep(peers)?)
        }
        Command::Peer(Peer::Delete { names, dry_run }) => delete(context, &names, dry_run).await,
    }
}

async fn list(context: &Context, want_routes: bool) -> Result<(), Failure> {
    let net = context.fresh(context.client.net().await?);
    if !want_routes {
        if context.terminal.out {
            context.hint(&summary(&net));
        }
        return context.out.parts(&net, &net.nodes);
    }
    let (text, near) = routes(&net);
    for node in near {
        let (name, address) = (&node.node, node.address);
        context.hint(&format!("warning: no route to {name}: its address is {address}, which is every machine's own"));
    }
    output::stdout(&text)
}

async fn add(context: &Context, args: Add) -> Result<(), Failure> {
    let net = context.fresh(context.client.net().await?);
    warn(context, &net)?;
    let private = match args.key {
        Some(_) => None,
        None => {
            let fault = |error| Failure::Io { what: "a key", source: io::Error::other(error) };
            Some(PrivateKey::random().map_err(fault)?)
        }
    };
    let Some(key) = args.key.or_else(|| private.as_ref().map(PrivateKey::public)) else {
        return Err(Failure::Usage("there is no key".to_owned()));
    };
    // The file comes first: a machine that was let in and whose key could not be written would be of no use to anybody.
    let file = args.output_file.as_deref().map(new_file).transpose()?;
    let idempotency = IdempotencyKey::random();
    let request = NetPeerCreate { name: args.name, key };
    let peer = match wait::accepted(context.client.add_net_peer(&request, &idempotency)).await {
        Ok(answer) => context.fresh(answer),
        Err(failure) => {
            if let Some(path) = &args.output_file {
                // It is still empty, and the failure is what matters.
                let _ = std::fs::remove_file(path);
            }
            return Err(failure);
        }
    };
    let config = WgQuick { private: private.as_ref(), ip: peer.ip, net: &net }.text();
    let written = match (file, &args.output_file) {
        (Some(mut file), Some(path)) => {
            let fault = |source| Failure::File { path: path.display().to_string(), source };
            file.write_all(config.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)
        }
        _ => context.out.whole(&Added { peer: &peer, config: &config }, |_| config.clone()),
    };
    if let Err(failure) = written {
        let hint = format!("its configuration is lost; take it back:  waifuctl net peer delete {}", peer.name);
        return Err(Failure::Ended {
            exit: Exit::Failed,
            message: format!("{} was let in, but: {failure}", peer.name),
            hint: Some(hint),
        });
    }
    let place = args.output_file.map(|path| format!(", configuration in {}", path.display())).unwrap_or_default();
    context.progress.done(&format!("{} is let in", peer.name), &format!("{}{place}", peer.ip));
    let shown = args.qr || (context.terminal.err && !context.quiet && !args.no_qr && private.is_some());
    if shown {
        match code(&without_comments(&config), context.terminal.colour_err) {
            Some(code) => output::stderr(&code),
            None => context.hint("the configuration is too long for a QR code; take the file"),
        }
    }
    Ok(())
}

/// Says which nodes cannot be reached; refuses if that is all of them.
fn warn(context: &Context, net: &Net) -> Result<(), Failure> {
    let (with, without): (Vec<_>, Vec<_>) = net.nodes.iter().partition(|node| node.mesh.is_some());
    if with.is_empty() {
        return Err(Failure::ended(Exit::Failed, "no node has an end of the mesh yet", "waifuctl net list"));
    }
    for node in without {
        let node = &node.node;
        context.hint(&format!("warning: {node} has no end of the mesh yet, so its VMs cannot be reached from outside"));
    }
    Ok(())
}

fn new_file(path: &Path) -> Result<std::fs::File, Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|source| Failure::File { path: path.display().to_string(), source })
}

async fn delete(context: &Context, names: &[PeerName], dry_run: bool) -> Result<(), Failure> {
    if dry_run {
        let mut peers = context.fresh(context.client.net_peers().await?);
        peers.retain(|peer| names.contains(&peer.name));
        let missing = names.iter().find(|name| peers.iter().all(|peer| peer.name != **name));
        context.hint("would no longer let these in");
        context.out.list(&peers)?;
        return match missing {
            Some(name) => {
                Err(Failure::ended(Exit::NotFound, format!("there is no peer {name}"), "waifuctl net peer list"))
            }
            None => Ok(()),
        };
    }
    let mut ends = Vec::new();
    for name in names {
        ends.push(match wait::accepted(context.client.delete_net_peer(name)).await {
            Ok(answer) => {
                context.fresh(answer);
                context.progress.done(&format!("{name} is no longer let in"), "");
                Exit::Done
            }
            Err(failure) => exit::report(&failure, context.terminal),
        });
    }
    match together(&ends) {
        Exit::Done => Ok(()),
        other => Err(Failure::Told(other)),
    }
}

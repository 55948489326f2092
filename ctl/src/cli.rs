//! What can be typed: global options and commands. The options of each command stand beside the command.

use crate::{
    commands::{
        apply, change, cluster, config, console, context, create, delete, doctor, edit, events, export, history, list,
        login, logs, net, node, panel, power, show, ssh, template, token, vnc, wait,
    },
    complete,
    output::{Format, parse_span},
    settings::ContextName,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Virtual machines on a cluster of equal nodes
#[derive(Debug, Parser)]
#[command(
    name = "waifuctl",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 110,
    before_help = "Examples:
  waifuctl create -t debian-12 -n web-1 -c 2 -m 4G --ssh-key ~/.ssh/id_ed25519.pub
  waifuctl ls
  waifuctl ip web-1
  waifuctl delete web-1",
    after_help = "More: waifuctl help output, filters, contexts, waiting, ssh, cloud-init, exit-codes, environment"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the API is: unix:/path or https://host:port; of several, the first that answers
    #[arg(short = 'H', long, value_name = "URL[,URL…]", global = true, conflicts_with = "context")]
    pub(crate) host: Option<String>,
    /// The context to be used: see waifuctl help contexts
    #[arg(long, value_name = "NAME", global = true, add = complete::contexts())]
    pub(crate) context: Option<ContextName>,
    /// A file with an API token, for https endpoints
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the certificate of the CA that https endpoints must have; nothing else is then trusted
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Agree with every question
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// The form of the result [default: a table; in a pipe, values between tabs]
    #[arg(short, long, value_name = "FORMAT", global = true)]
    pub(crate) output: Option<Format>,
    /// Only these columns, in this order
    #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',', global = true, add = complete::columns())]
    pub(crate) columns: Vec<String>,
    /// Do not wait until it is done; say how to follow it
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
    /// How long to wait until it is done: 90s, 5m, 1h [default: 5m]
    #[arg(long, value_name = "TIME", value_parser = parse_span, global = true)]
    pub(crate) timeout: Option<Duration>,
    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Whether answers must hold everything that was acknowledged before
    #[arg(long, value_name = "HOW", value_enum, default_value_t, global = true)]
    pub(crate) consistency: Consistency,
}

/// How fresh answers must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Consistency {
    /// What the node that answers knows
    #[default]
    Local,
    /// Everything that was acknowledged before the question; needs a quorum
    Linearizable,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the VMs of the cluster
    #[command(visible_alias = "ls")]
    List(list::Args),
    /// Make a VM and wait until it runs
    #[command(visible_alias = "launch")]
    Create(Box<create::Args>),
    /// Show all that is known of a VM
    Show(show::Args),
    /// Print the address of a VM
    Ip(show::IpArgs),
    /// Change what a VM's guest is told: its cloud-config, network-config, SSH keys
    Edit(edit::Args),
    /// Delete VMs, disks included
    #[command(visible_alias = "rm")]
    Delete(delete::Args),
    /// Make VMs, templates and labels of nodes as files describe them
    Apply(apply::Args),
    /// Print VMs, templates and labels of nodes as files that apply takes
    Export(export::Args),
    /// Start VMs
    #[command(before_help = "Examples:
  waifuctl start web-1")]
    Start(power::Args),
    /// Stop VMs; disks and addresses are kept
    #[command(before_help = "Examples:
  waifuctl stop web-1 web-2
  waifuctl stop win-1 --grace 10m
  waifuctl stop web-1 --force")]
    Stop(power::OffArgs),
    /// Off and on again with VMs, which then take up what waited for that
    #[command(before_help = "Examples:
  waifuctl reboot web-1
  waifuctl reboot web-1 --force")]
    Reboot(power::OffArgs),
    /// Hold VMs still; their memory is kept
    #[command(before_help = "Examples:
  waifuctl pause web-1")]
    Pause(power::Args),
    /// Let VMs that are held still go on
    #[command(before_help = "Examples:
  waifuctl resume web-1")]
    Resume(power::Args),
    /// Change memory, CPUs and root disk of a VM, while it runs where its guest can
    Resize(change::ResizeArgs),
    /// Change a VM's settings: description, autostart, restart, firmware, CPU model, bridges
    Set(change::SetArgs),
    /// Change the labels of a VM
    Label(change::LabelArgs),
    /// Protect VMs from being deleted or made anew
    #[command(before_help = "Examples:
  waifuctl protect db-1")]
    Protect(change::ProtectArgs),
    /// Take the protection of VMs back
    #[command(before_help = "Examples:
  waifuctl unprotect db-1")]
    Unprotect(change::ProtectArgs),
    /// Disks of a VM beside its root disk
    #[command(subcommand)]
    Disk(change::DiskCommand),
    /// The CD drive of a VM
    #[command(subcommand)]
    Cd(change::CdCommand),
    /// Give a VM another name
    Rename(change::RenameArgs),
    /// Make a VM anew: its root disk back to its template's state
    Reinit(change::ReinitArgs),
    /// Log in to a VM's guest, or run a command there
    Ssh(ssh::Args),
    /// Open a VM's serial console
    Console(console::Args),
    /// Show a VM's screen to a viewer of VNC: for installers
    Vnc(vnc::Args),
    /// Print what a VM's guest wrote to its serial console
    Logs(logs::Args),
    /// Wait until a VM is as wanted
    Wait(wait::Args),
    /// Templates: what VMs' disks start from
    #[command(subcommand)]
    Template(template::Command),
    /// Nodes: the machines of the cluster
    #[command(subcommand)]
    Node(node::Command),
    /// The network: subnets, and who reaches the guests from outside
    #[command(subcommand)]
    Net(net::Command),
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Tokens for the API
    #[command(subcommand)]
    Token(token::Command),
    /// Show what happened, and who did it
    Events(events::Args),
    /// Show what became of a name: a VM's, a node's, a template's
    History(history::Args),
    /// Show which commands people and their programs gave, to what effect
    Audit(history::AuditArgs),
    /// Meet a cluster: pin its CA, keep a token, note it as a context
    Login(login::Args),
    /// The clusters you work with
    #[command(subcommand)]
    Context(context::Command),
    /// What options are by default
    #[command(subcommand)]
    Config(config::Command),
    /// Look for what is wrong here, in the cluster and on its nodes, and say what mends it
    Doctor(doctor::Args),
    /// Open the panel in a browser, signed in
    Panel(panel::Args),
    /// Print a script that makes a shell complete commands, options and the names of objects
    #[command(before_help = "Examples:
  waifuctl completions bash > ~/.local/share/bash-completion/completions/waifuctl
  waifuctl completions zsh > ~/.zfunc/_waifuctl
  waifuctl completions fish > ~/.config/fish/completions/waifuctl.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a directory
    #[command(before_help = "Examples:
  waifuctl manpage /usr/local/share/man/man1")]
    Manpage {
        /// The directory; it is made if it is not there
        dir: PathBuf,
    },
    /// Print the version
    #[command(before_help = "Examples:
  waifuctl version
  waifuctl version -o json")]
    Version,
    /// Explain a command or a topic
    #[command(before_help = "Examples:
  waifuctl help create
  waifuctl help node remove
  waifuctl help exit-codes")]
    Help {
        /// A command or a topic
        #[arg(add = complete::topics())]
        topic: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    #[test]
    fn what_people_and_scripts_type_is_taken() {
        let add_url = format!("template add debian-12 --url https://x/y.qcow2 --sha256 {SUM}");
        for line in [
            "ls",
            "list --node n1 --label env=prod --status running",
            "launch -n web-1 -t debian-12@9f3c21 -m 512M -c 1 -d 10G -N n1 --ssh-key k --label a=b --count 2 --dry-run",
            "show web-1 -o yaml",
            "ip web-1 --wait --timeout 90s",
            "console web-1",
            "console web-1 --force --escape ^A",
            "console web-1 --read-only --escape none",
            "vnc web-1 --listen 127.0.0.1:5901 --open",
            "logs web-1 --follow --tail 20",
            "logs web-1 --previous -n 5",
            "create -t tiny --wait cloud-init --ssh-key k.pub",
            "create -t tiny -u - --network-config net.yaml --datasource ec2 --imds v2",
            "edit web-1",
            "edit web-1 --file - --rerun",
            "edit web-1 --network-config n --ssh-key a --ssh-key b --datasource nocloud --imds any --keep --dry-run",
            "cluster cloud-init show vendor-data",
            "cluster cloud-init edit",
            "cluster cloud-init edit vendor-data",
            "cluster cloud-init edit --user-data a --vendor-data b",
            "net list --routes",
            "net ls -o wide",
            "net peer add laptop --output-file wg.conf --qr",
            "net peer add router --key BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= --no-qr",
            "net peer list",
            "net peer delete laptop phone",
            "delete web-1 web-2 -y --no-wait",
            "apply -f web.yaml -f - --dry-run",
            "apply -f shop/ --prune -l app=shop -l env=prod --yes",
            "apply --schema",
            "export vm/web-1 web-2 --with-user-data",
            "export -l app=shop --toml",
            "export --all -o yaml",
            "export node/n1",
            "start web-1",
            "stop web-1 -q",
            "stop web-1 web-2 --force",
            "reboot web-1 --grace 5m",
            "pause web-1",
            "resume web-1",
            "resize web-1 -m 2G -c 4 -d 20G --memory-max 8G --dry-run",
            "resize web-1 --memory-max none",
            "set web-1 --description x --autostart no --restart never --firmware uefi --cpu-model host --no-bridge",
            "set web-1 --bridge br0 --bridge br1",
            "label web-1 a=b c-",
            "protect web-1",
            "unprotect web-1 web-2",
            "disk add web-1 data 1G",
            "disk grow web-1 data 2G",
            "disk remove web-1 data --yes",
            "cd insert web-1 installer@9f3c21",
            "cd eject web-1",
            "rename web-1 web-2",
            "reinit web-1 -t debian-13 --dry-run",
            "wait web-1 --for ip",
            "template list",
            "template show tiny",
            "template add tiny --file tiny.qcow2",
            &add_url,
            "template delete tiny@9f3c21",
            "node list -o wide",
            "node show n1",
            "node list -l zone=a -l disk=nvme name=n1",
            "node label n1 zone=a disk-",
            "node cordon n1",
            "node uncordon n1",
            "node remove n1 --force",
            "cluster status --consistency linearizable",
            "cluster token create --uses 3 --valid 1d",
            "cluster token list",
            "cluster token revoke 0000000000000001",
            "token create --role viewer --for laptop --valid 7d",
            "token create --role operator --scope team=web --scope env=prod",
            "token list",
            "token revoke 0000000000000001",
            "events --follow --since 1h --kind crashed,failed --about vm/web-1 --by people",
            "history vm/web-1 --before 812.0 --limit 10",
            "history web-1",
            "audit --since 1d --by uid:1000@n1 --to vm",
            "doctor --node n1 verdict=wrong",
            "ssh web-1 -l root -J admin@n1 -p 2222 --option ForwardAgent=yes -- uptime -p",
            "wait web-1 --for cloud-init -l root",
            "login https://n1,https://n2 --name home --fingerprint AB:CD",
            "context add here --at unix:/run/waifud/api.sock",
            "context use home",
            "config set output wide",
            "ls -w -l env=prod",
            "show web-1 --watch",
            "node list role=voter label.zone=a",
            "delete web-1 --dry-run",
            "node remove n1 --dry-run",
            "panel --no-open",
            "completions bash",
            "manpage /tmp/man",
            "version",
            "help exit-codes",
            "-H unix:/a,https://n1:7443 --token-file f --ca-file c ls",
        ] {
            let words = std::iter::once("waifuctl").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "apply",
            "apply -f web.yaml --prune",
            "apply -f web.yaml -l app=shop",
            "apply -f web.yaml --schema",
            "export",
            "export web-1 --all",
            "export peer/p1",
            "console",
            "console web-1 --force --read-only",
            "console web-1 --escape x",
            "vnc web-1 --listen 5901",
            "logs web-1 --follow --previous",
            "template add tiny",
            "template add tiny --url https://x/y.qcow2",
            "template add tiny --url https://x/y --file z --sha256 0",
            "delete",
            "wait web-1",
            "wait web-1 --for ever",
            "token create",
            "node remove",
            "node label n1",
            "node label n1 nothing",
            "node list -l zone",
            "ls --status walking",
            "edit",
            "edit web-1 --keep --rerun",
            "edit web-1 --imds v3",
            "resize web-1",
            "set web-1",
            "stop web-1 --force --grace 1m",
            "label web-1 nothing",
            "disk add web-1 data",
            "cluster cloud-init edit vendor-data --user-data a",
            "net peer add",
            "net peer add laptop --key short",
            "net peer add laptop --key BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc= --qr",
            "net peer delete",
            "ls -o xml",
            "ls --context a -H unix:/x",
            "history vm/",
            "ssh web-1 -l -oProxyCommand=x",
            "ssh web-1 --direct -J n1",
            "context use ../x",
            "config set colour red",
        ] {
            let words = std::iter::once("waifuctl").chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}

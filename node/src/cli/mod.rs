//! The command line of `waifud`: `init`, `join`, `run`, `status`, and what packages and service managers ask for.
//!
//! In: arguments, the environment. Out: an exit status, results on stdout, everything else on stderr. What a command does
//! is in the library; here it is only asked for.

mod args;
mod documents;
mod output;
mod status;

use args::Invocation;
use clap::ArgMatches;
use std::{
    error::Error,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use waifud_gossip::join::Newcomer;
use waifud_model::{command::NewNode, name::NodeName};
use waifud_node::{
    config::{Config, LoadError},
    daemon, facts,
};

/// Refused or failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong, or this machine is no member: to try again changes nothing. The unit in
/// `package/` knows this number.
const USAGE: u8 = 2;

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    let matches = args::command().get_matches();
    // What they write does not depend on the configuration, and they are asked where there is none.
    if let Some(written) = documents::write(&matches) {
        return written.map_or_else(|error| fail(FAILED, &error), |()| ExitCode::SUCCESS);
    }
    let invocation = match Invocation::read(&matches) {
        Ok(invocation) => invocation,
        Err(error) => return fail(USAGE, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    let result = runtime.block_on(dispatch(&invocation));
    // Threads that hang in libvirt must not keep the process from ending.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(code(error.as_ref()), error.as_ref()),
    }
}

fn code(error: &(dyn Error + 'static)) -> u8 {
    let lasting = error.downcast_ref().is_some_and(daemon::RunError::is_lasting);
    if lasting { USAGE } else { FAILED }
}

fn fail(code: u8, error: &dyn Error) -> ExitCode {
    output::error(error);
    ExitCode::from(code)
}

async fn dispatch(invocation: &Invocation<'_>) -> Result<(), Box<dyn Error>> {
    let Invocation { name, matches, config } = invocation;
    match *name {
        "init" => init(config).await,
        "join" => join(config, matches).await,
        "run" => run(config).await,
        "status" => status::status(config).await,
        "stop-guests" => stop_guests(config).await,
        other => Err(format!("there is no command {other:?}").into()),
    }
}

async fn init(config: &Config) -> Result<(), Box<dyn Error>> {
    let (name, advertise) = (name(config)?, advertise(config)?);
    let capacity = facts::detect(config)?.capacity;
    let made =
        daemon::init(config, |id, key| NewNode { id, name, advertise, fingerprint: key.fingerprint(), capacity })
            .await?;
    output::result(&format!("cluster {} of one node, {}", made.cluster, made.node.name));
    output::hint(&format!(
        "peers reach it at {}; start it with `waifud run` (or `systemctl enable --now waifud`),\n\
         then let other machines in: `waifuctl cluster token create` here, `waifud join` there",
        made.node.advertise
    ));
    Ok(())
}

async fn join(config: &Config, matches: &ArgMatches) -> Result<(), Box<dyn Error>> {
    let token = token(matches)?;
    let newcomer = Newcomer {
        name: name(config)?,
        // With 0.0.0.0 the member that lets this machine in fills in where it sees it.
        advertise: config
            .node
            .advertise
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.node.listen.port()))),
        capacity: facts::detect(config)?.capacity,
    };
    let joined = daemon::join(config, &token, newcomer).await?;
    output::result(&format!("node {} of cluster {}, {} members", joined.node, joined.cluster, joined.members));
    output::hint("start it with `waifud run` (or `systemctl enable --now waifud`)");
    Ok(())
}

async fn stop_guests(config: &Config) -> Result<(), Box<dyn Error>> {
    output::log_to_stderr();
    let stopped = daemon::stop_guests(config).await?;
    output::result(&format!(
        "{} guests shut down, {} switched off",
        stopped.shut_down.len(),
        stopped.switched_off.len()
    ));
    Ok(())
}

async fn run(config: &Config) -> Result<(), Box<dyn Error>> {
    output::log_to_stderr();
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopper = stop.clone();
    tokio::spawn(async move {
        let mut asked = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        asked().await;
        tracing::info!("stopping; guests run on");
        stopper.cancel();
        // Whoever asks again does not want to wait. Whatever is lost now a crash would lose too: nothing.
        asked().await;
        tracing::warn!("told to stop again: ending at once");
        std::process::exit(i32::from(FAILED));
    });
    daemon::run(config.clone(), stop).await?;
    Ok(())
}

/// The token: the argument, a file, or standard input (`-`).
fn token(matches: &ArgMatches) -> Result<String, Box<dyn Error>> {
    if let Some(file) = matches.get_one::<std::path::PathBuf>("token-file") {
        return read_token(file).map_err(|e| format!("{}: {e}", file.display()).into());
    }
    match matches.get_one::<String>("token").map(String::as_str) {
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            Ok(text)
        }
        Some(token) => Ok(token.to_owned()),
        None => Err("no token: give it as an argument, with --token-file FILE, or `-` for standard input; \
                     make one with `waifuctl cluster token create` on a member"
            .into()),
    }
}

fn read_token(file: &Path) -> io::Result<String> {
    std::fs::read_to_string(file)
}

/// The configured name, or the first label of the host's.
fn name(config: &Config) -> Result<NodeName, Box<dyn Error>> {
    if let Some(name) = &config.node.name {
        return Ok(name.clone());
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let label = host.trim().split('.').next().unwrap_or_default().to_lowercase();
    NodeName::new(label).map_err(|error| format!("the host's name does not do: {error}; give one with --name").into())
}

/// The configured address, or that of the interface the default route goes by.
fn advertise(config: &Config) -> Result<SocketAddr, Box<dyn Error>> {
    if let Some(advertise) = config.node.advertise {
        return Ok(advertise);
    }
    let listen = config.node.listen;
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    let found = own_address().filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    let ip = found.ok_or(
        "this machine has no default route, so its address cannot be guessed; give it with --advertise ADDR:PORT",
    )?;
    Ok(SocketAddr::new(ip, listen.port()))
}

/// Connecting a UDP socket sends nothing; it only asks the kernel which address it would use.
fn own_address() -> Option<IpAddr> {
    /// Any address outside will do; this one is for documentation (RFC 5737).
    const OUTSIDE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(OUTSIDE).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl From<LoadError> for args::ArgsError {
    fn from(error: LoadError) -> Self {
        Self::Config(error)
    }
}

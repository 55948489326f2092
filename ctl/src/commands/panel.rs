//! `panel`: the panel in a browser on this machine, signed in.

use crate::{
    context::Context,
    exit::Failure,
    output,
    panel::{self, Door},
};
use std::{
    env,
    io::Write as _,
    process::{Command, Stdio},
};
use tempfile::NamedTempFile;
use tokio::net::TcpListener;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  waifuctl panel
  waifuctl panel --no-open")]
pub(crate) struct Args {
    /// Print the address, but open no browser
    #[arg(long)]
    no_open: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    // A panel that can reach nothing is not worth opening.
    context.client.cluster().await?;
    let fault = |source| Failure::Io { what: "a local port", source };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(fault)?;
    let door = Door::new(listener.local_addr().map_err(fault)?);
    let link = door.link();
    output::stdout(&format!("{link}\n"))?;
    context.hint("The link works once, on this machine, as long as this command runs. Ctrl-C ends it.");
    let sheet = if args.no_open { None } else { open(&link) };
    tokio::select! {
        end = panel::serve(listener, door, context.client.clone()) => end.map_err(fault)?,
        _ = tokio::signal::ctrl_c() => {}
    }
    drop(sheet);
    Ok(())
}

/// Opens a browser if there is a desktop. The link is passed in a file that only its owner can read: arguments of processes
/// can be read by everybody on the machine. The file is kept until the panel ends.
fn open(link: &str) -> Option<NamedTempFile> {
    env::var_os("DISPLAY").or_else(|| env::var_os("WAYLAND_DISPLAY"))?;
    let mut sheet = tempfile::Builder::new().prefix("waifuctl-").suffix(".html").tempfile().ok()?;
    write!(sheet, "<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={link}\"><title>waifu</title>").ok()?;
    let mut browser = Command::new("xdg-open");
    browser.arg(sheet.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without a browser the printed link is there all the same.
    browser.spawn().ok()?;
    Some(sheet)
}

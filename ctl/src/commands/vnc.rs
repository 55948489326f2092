//! `vnc`: a guest's screen for any viewer on this machine.
//!
//! In: viewers that connect to a local port, one after the other. Out: the bytes of RFB, to and from the guest's node. The
//! screen has no password of its own: whoever reaches the port has the screen, so it is on this machine only, unless told.

use crate::{complete, context::Context, exit::Failure, output};
use bytes::BytesMut;
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use waifud_api::{
    client::{ConsoleReader, ConsoleWriter, Frame},
    exit::Exit,
};
use waifud_model::{name::VmName, observed::VmState};

/// What is read of a viewer at once: keys and movements are small, a pasted text is not.
const CHUNK: usize = 16 << 10;

/// See the module.
#[derive(Debug, clap::Args)]
#[command(
    before_help = "Examples:
  waifuctl vnc web-1 --open
  waifuctl vnc web-1 --listen 127.0.0.1:5901",
    after_help = "The address is printed; viewers connect to it one after the other, until Ctrl-C. Everybody who has an account on \
                  this machine can connect too, as long as this command runs."
)]
pub(crate) struct Args {
    /// The VM
    #[arg(add = complete::vms())]
    name: VmName,
    /// Where viewers connect to; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Open the viewer that this desktop has for vnc:// addresses
    #[arg(long)]
    open: bool,
}

pub(crate) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let Args { name, listen, open } = args;
    let vm = context.fresh(context.client.vm(&name).await?);
    let state = vm.status.state;
    if vm.status.silent.is_none() && matches!(state, VmState::Stopped | VmState::Failed | VmState::Crashed) {
        let message = format!("{name} does not run: it is {state}");
        return Err(Failure::ended(Exit::Failed, message, format!("waifuctl start {name}")));
    }
    let fault = |source| Failure::Io { what: "a local port", source };
    let listener = TcpListener::bind(listen).await.map_err(fault)?;
    let address = format!("vnc://{}", listener.local_addr().map_err(fault)?);
    // A screen that cannot be had is not worth a viewer.
    let (_, _, probe) = context.client.vnc(&name).await?;
    probe.close().await;
    if !listen.ip().is_loopback() {
        context.hint(
            "warning: whoever reaches this address has the screen and the keyboard of the VM, without a password",
        );
    }
    output::stdout(&format!("{address}\n"))?;
    context.hint(&format!("The screen of {name}, for any viewer of VNC. Ctrl-C ends it."));
    if open {
        let mut viewer = Command::new("xdg-open");
        viewer.arg(&address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = viewer.spawn() {
            context.hint(&format!("no viewer was opened: xdg-open: {error}; connect one to {address}"));
        }
    }
    tokio::select! {
        end = serve(context, &name, &listener) => end,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// One viewer after the other. That one ends badly is said, and is no reason to refuse the next.
async fn serve(context: &Context, vm: &VmName, listener: &TcpListener) -> Result<(), Failure> {
    loop {
        let (viewer, _) = listener.accept().await.map_err(|source| Failure::Io { what: "a local port", source })?;
        // Keys are small, and wanted at once.
        let _ = viewer.set_nodelay(true);
        match context.client.vnc(vm).await {
            Ok((_, reader, writer)) => {
                if let Some(why) = carry(viewer, reader, writer).await {
                    context.hint(&format!("the screen of {vm} ended: {why}; connect the viewer again"));
                }
            }
            Err(error) => context.hint(&format!("the screen of {vm} cannot be had now: {error}")),
        }
    }
}

/// Until either side ends; says why, if it was not the viewer.
async fn carry(viewer: TcpStream, mut reader: ConsoleReader, mut writer: ConsoleWriter) -> Option<String> {
    let (mut typed, mut shown) = viewer.into_split();
    let to_viewer = async {
        loop {
            match reader.next().await {
                Ok(Frame::Bytes(bytes)) if shown.write_all(&bytes).await.is_err() => return None,
                Ok(_) => {}
                Err(end) => return Some(end.to_string()),
            }
        }
    };
    let to_guest = async {
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match typed.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {
                    if let Err(end) = writer.send(chunk.freeze()).await {
                        return Some(end.to_string());
                    }
                }
            }
        }
    };
    let end = tokio::select! { end = to_viewer => end, end = to_guest => end };
    writer.close().await;
    end
}

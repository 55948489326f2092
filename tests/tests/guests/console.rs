//! Consoles, screens and logs of real guests, through nodes that do not own them; and what they look like on a terminal.

use super::{
    guest::Guest,
    support::{ctl, three_with_tiny, tiny, until},
};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use waifud_api::{
    client::{Client, ConsoleReader, ConsoleWriter, Frame},
    console::{ConsoleQuery, FromConsole, Replay, Seat, ToConsole},
    problem::ProblemCode,
};
use waifud_model::observed::VmState;
use waifud_tests::{
    cluster::{Cluster, SOON},
    lab::{Tmux, eventually, program},
};

#[tokio::test(flavor = "multi_thread")]
async fn any_node_leads_to_a_guest_s_console_screen_and_log() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    let guest = tiny(&cluster, "web-1", "n2", &[]).await?;
    several_look_and_one_writes(&cluster).await?;
    a_screen_answers(&cluster)?;
    on_a_terminal(&cluster)?;
    in_a_pipe(&cluster)?;
    who_opened_them_is_in_the_audit_trail(&cluster)?;
    a_console_outlives_libvirtd_and_comes_back_with_its_guest(&cluster, &guest).await?;
    logs_of_lives(&cluster, &guest)?;
    logs_are_bounded(&cluster, &guest)?;
    who_asks_a_dead_owner_is_told_at_once(&mut cluster, &guest).await?;
    ctl(&cluster, 1, &["delete", "web-1", "--yes"])?;
    let left = fs::read_dir(cluster.host(2).path("/var/lib/waifud/serial"))?.count();
    assert_eq!(left, 0, "the log goes with its VM");
    Ok(())
}

struct Viewer {
    reader: ConsoleReader,
    writer: ConsoleWriter,
    seen: String,
}

impl Viewer {
    async fn open(client: &Client, query: ConsoleQuery) -> Result<(Self, Seat)> {
        let (_, reader, writer) = client.console(&"web-1".parse()?, query).await?;
        let mut viewer = Self { reader, writer, seen: String::new() };
        match viewer.frame().await? {
            Frame::Told(FromConsole::Hello { node, seat, .. }) => {
                assert_eq!(node.as_str(), "n2");
                Ok((viewer, seat))
            }
            other => bail!("no greeting but {other:?}"),
        }
    }

    async fn frame(&mut self) -> Result<Frame> {
        Ok(timeout(SOON, self.reader.next()).await.with_context(|| format!("after {:?}", self.seen))??)
    }

    /// Reads until this has been written, and forgets what came before its end.
    async fn sees(&mut self, text: &str) -> Result<()> {
        loop {
            if let Some((_, rest)) = self.seen.split_once(text) {
                self.seen = rest.to_owned();
                return Ok(());
            }
            if let Frame::Bytes(bytes) = self.frame().await? {
                self.seen += &String::from_utf8_lossy(&bytes);
            }
        }
    }

    /// Reads until there is a word about the console that is wanted.
    async fn told(&mut self, wanted: FromConsole) -> Result<()> {
        while self.frame().await? != Frame::Told(wanted.clone()) {}
        Ok(())
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        Ok(self.writer.send(Bytes::copy_from_slice(text.as_bytes())).await?)
    }
}

async fn several_look_and_one_writes(cluster: &Cluster) -> Result<()> {
    let (mut first, seat) = Viewer::open(&cluster.client(1), ConsoleQuery::default()).await?;
    assert_eq!(seat, Seat::Yours);
    first.sees("READY").await?;
    // The first line wakes the shell. Words typed in halves are told from their echo.
    first.types("\r").await?;
    first.sees("# ").await?;
    first.types("echo AB''CD $((6 * 7))\r").await?;
    first.sees("ABCD 42").await?;

    // Through another node, with the screen as it is.
    let query = ConsoleQuery { replay: Replay::Text, ..ConsoleQuery::default() };
    let (mut second, seat) = Viewer::open(&cluster.client(3), query).await?;
    assert!(matches!(seat, Seat::Taken { .. }), "{seat:?}");
    second.sees("ABCD 42").await?;
    second.types("echo no''body\r").await?;
    second.told(FromConsole::Seat { seat }).await?;
    first.types("echo EF''GH\r").await?;
    first.sees("EFGH").await?;
    second.sees("EFGH").await?;
    assert!(!second.seen.contains("nobody"), "{}", second.seen);

    second.writer.say(ToConsole::Take).await?;
    second.told(FromConsole::Seat { seat: Seat::Yours }).await?;
    second.types("echo IJ''KL\r").await?;
    second.sees("IJKL").await?;
    first.sees("IJKL").await
}

fn a_screen_answers(cluster: &Cluster) -> Result<()> {
    let mut vnc = Command::new(program("waifuctl")?)
        .env_clear()
        .env("WAIFU_HOST", cluster.endpoint(3).to_string())
        .args(["vnc", "web-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    let mut out = vnc.stdout.take().context("no output")?;
    while !address.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).with_context(|| format!("waifuctl vnc ended after {address:?}"))?;
        address.push(char::from(byte[0]));
    }
    let address = address.trim().strip_prefix("vnc://").context("no address")?.to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    // One viewer after the other.
    for _ in 0..2 {
        let (width, height) = first_picture(&address)?;
        assert!(width >= 320 && height >= 200, "{width} x {height}");
    }
    vnc.kill()?;
    vnc.wait()?;
    let sockets = cluster.host(2).exec("sh", ["-c", "ss -ltn | grep -c :59 || true"])?;
    assert_eq!(sockets.trim(), "0", "nothing listens for viewers on the guest's host");
    Ok(())
}

/// A viewer's first words with a server (RFC 6143, 7.1 to 7.6): the size of the picture, once a first part of it has come.
fn first_picture(address: &str) -> Result<(u16, u16)> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    let take = |count: usize| -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        (&stream).read_exact(&mut bytes)?;
        Ok(bytes)
    };
    assert_eq!(take(12)?, b"RFB 003.008\n");
    (&stream).write_all(b"RFB 003.008\n")?;
    let kinds = usize::from(take(1)?[0]);
    assert!(take(kinds)?.contains(&1), "no password is asked for");
    (&stream).write_all(&[1])?;
    assert_eq!(take(4)?, [0; 4], "it lets us in");
    (&stream).write_all(&[1])?;
    let init = take(24)?;
    let number = |at: usize| u16::from_be_bytes([init[at], init[at + 1]]);
    take(usize::from(number(22)))?;
    // The upper left corner, all of it, in the plain encoding.
    (&stream).write_all(&[3, 0, 0, 0, 0, 0, 0, 16, 0, 16])?;
    assert_eq!(take(1)?, [0], "a picture");
    Ok((number(0), number(2)))
}

/// What a person sees and does: attach, type, resize, leave, and go on with the same terminal.
fn on_a_terminal(cluster: &Cluster) -> Result<()> {
    let waifuctl = program("waifuctl")?;
    // The first of the hosts is none, and the second dies later.
    let hosts = format!("unix:/nowhere,{},{}", cluster.endpoint(3), cluster.endpoint(1));
    let terminal = Tmux::start(&[("WAIFU_HOST", &hosts)])?;
    let before = terminal.settings()?;
    let as_before = || {
        eventually("the terminal as it was", SOON, || terminal.settings().ok().filter(|now| *now == before)).map(drop)
    };

    terminal.line(&format!("{} console web-1", waifuctl.display()))?;
    terminal.shows("[This is the console of web-1, on n2. Leave it with Ctrl-].]")?;
    let screen = terminal.shows("IJKL")?;
    assert!(screen.contains("console of web-1"), "the guest's screen is below the greeting: {screen}");
    // Ctrl-C is the guest's. It is a signal once the shell has left the line to the program, and throws away what is typed
    // right behind it.
    terminal.line("echo ru''ns; sleep 1000")?;
    terminal.shows("\nruns")?;
    terminal.key("C-c")?;
    terminal.shows("^C\n/ #")?;
    terminal.line("echo MN''OP $(hostname)")?;
    terminal.shows("MNOP web-1")?;

    terminal.resize(100, 30)?;
    terminal.line("echo QR''ST")?;
    terminal.shows("QRST")?;
    // A program that has a screen of its own, and a cursor that hides, are left behind.
    terminal.line(r"printf '\033[?1049h\033[?25l\033[?1006hIN''SIDE\n'")?;
    terminal.shows("INSIDE")?;
    assert_eq!(terminal.says("#{alternate_on} #{cursor_flag}")?, "1 0");

    terminal.key("C-]")?;
    as_before()?;
    terminal.line("echo back $?")?;
    let screen = terminal.shows("back 0")?;
    assert!(screen.contains("QRST"), "the first screen is back: {screen}");
    assert_eq!(terminal.says("#{alternate_on} #{cursor_flag} #{mouse_any_flag}")?, "0 1 0");

    // A signal puts it back too.
    terminal.line(&format!("{} console web-1 --escape ^A", waifuctl.display()))?;
    terminal.shows("Leave it with Ctrl-A")?;
    terminal.key("C-]")?;
    terminal.line("echo UV''WX $(hostname)")?;
    terminal.shows("UVWX web-1")?;
    let pid = terminal.child()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    as_before()?;
    terminal.line("echo again $?")?;
    terminal.shows("again 0").map(drop)
}

/// Types a script at the console, and gives what was written to stdout and stderr.
fn scripted(cluster: &Cluster, script: &str) -> Result<(String, String)> {
    let mut child = Command::new(program("waifuctl")?)
        .env_clear()
        .env("WAIFU_HOST", cluster.endpoint(1).to_string())
        .args(["console", "web-1", "--force", "--linger", "3s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{:?} {}", output.status, text(&output.stderr));
    Ok((text(&output.stdout), text(&output.stderr)))
}

fn in_a_pipe(cluster: &Cluster) -> Result<()> {
    // The guest's shell asks for the cursor's place at each prompt, and paints nothing else; a pipe is told neither.
    let (out, err) = scripted(cluster, "\necho one''two\necho three''four\n")?;
    assert!(out.contains("\nonetwo\n") && out.contains("\nthreefour\n"), "{out:?}");
    assert!(!out.contains('\x1b') && !out.contains('\r'), "{out:?}");
    assert!(err.contains("This is the console of web-1"), "{err:?}");
    Ok(())
}

/// Read on a node that they did not come by.
fn who_opened_them_is_in_the_audit_trail(cluster: &Cluster) -> Result<()> {
    for console in ["serial", "screen"] {
        let opening = format!("\tuid 0 on n3\tadmin\topen_console\tvm/web-1\topened console={console}\n");
        let audit = || ctl(cluster, 1, &["audit", "--to", "vm/web-1"]).ok();
        eventually(&format!("who opened the {console}"), SOON, || audit().filter(|told| told.contains(&opening)))?;
    }
    Ok(())
}

async fn a_console_outlives_libvirtd_and_comes_back_with_its_guest(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let query = ConsoleQuery { take: true, ..ConsoleQuery::default() };
    let (mut viewer, seat) = Viewer::open(&cluster.client(3), query).await?;
    assert_eq!(seat, Seat::Yours);
    cluster.host(2).libvirtd_restart()?;
    viewer.types("echo still''here\r").await?;
    viewer.sees("stillhere").await?;

    ctl(cluster, 1, &["stop", "web-1"])?;
    viewer.told(FromConsole::Power { on: false }).await?;
    let begun = Instant::now();
    let refused = cluster.client(1).console(&"web-1".parse()?, query).await.err().context("a console of nothing")?;
    assert_eq!(refused.problem().map(|problem| problem.code), Some(ProblemCode::NotRunning));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    ctl(cluster, 3, &["start", "web-1"])?;
    viewer.told(FromConsole::Power { on: true }).await?;
    viewer.sees("READY").await?;
    until(&cluster.client(1), "web-1", VmState::Running).await?;
    guest.serves(cluster).await
}

fn logs_of_lives(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let (now, before) = (ctl(cluster, 1, &["logs", "web-1"])?, ctl(cluster, 3, &["logs", "web-1", "--previous"])?);
    assert!(before.contains("ABCD 42") && before.contains("STOPPING"), "{before}");
    assert!(!now.contains("ABCD 42") && now.contains("READY"), "{now}");
    assert_eq!(format!("{before}{now}"), guest.serial(cluster), "and nothing is lost between them");
    let last = ctl(cluster, 2, &["logs", "web-1", "-n", "2"])?;
    assert!(now.ends_with(&last) && last.matches('\n').count() <= 2, "{last:?}");
    Ok(())
}

/// A guest that writes more than is kept: the end is there, whole, and the disk does not fill.
fn logs_are_bounded(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let host = cluster.host(2);
    let log = format!("/var/lib/waifud/serial/{}.log", guest.id);
    // As QEMU appends it, and much faster than an emulated serial port.
    host.exec("sh", ["-c", &format!("yes 'a line that a guest has written' | head -c 9000000 >> {log}")])?;
    let blocks = || host.exec("stat", ["--format", "%b", &log]).ok()?.trim().parse::<u64>().ok();
    eventually("the log's bound", SOON, || blocks().filter(|blocks| blocks * 512 < 5_000_000))?;
    let kept = ctl(cluster, 1, &["logs", "web-1"])?;
    assert!((1_000_000..5_000_000).contains(&kept.len()), "{} bytes", kept.len());
    let (whole, last) = kept.rsplit_once('\n').context("no line")?;
    assert!(whole.lines().all(|line| line == "a line that a guest has written"), "whole lines");
    assert!("a line that a guest has written".starts_with(last), "{last:?}");
    // The guest writes on behind it.
    scripted(cluster, "\necho behind''it\n")?;
    assert!(ctl(cluster, 3, &["logs", "web-1", "-n", "9"])?.contains("behindit"));
    Ok(())
}

async fn who_asks_a_dead_owner_is_told_at_once(cluster: &mut Cluster, guest: &Guest) -> Result<()> {
    let name = "web-1".parse()?;
    cluster.daemon(guest.owner).kill9()?;
    // Before it is known, and when it is.
    for _ in 0..20 {
        let begun = Instant::now();
        let refused = cluster.client(1).console(&name, ConsoleQuery::default()).await.err().context("a dead owner")?;
        assert_eq!(refused.problem().map(|problem| problem.code), Some(ProblemCode::NodeUnreachable), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    cluster.start_daemon(guest.owner)?;
    until(&cluster.client(1), "web-1", VmState::Running).await?;
    let mut viewer = eventually("the console", SOON, || {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(Viewer::open(&cluster.client(1), ConsoleQuery::default())).ok()
        })
    })?;
    viewer.0.types("\recho up''again\r").await?;
    viewer.0.sees("upagain").await
}

//! A console from its opening to its end, over as many connections as it takes.
//!
//! ```text
//!   open ─► bytes both ways ─┬─ the key, the end of a script, a signal ──────► left
//!             ▲              ├─ over, not allowed any more ──────────────────► ended
//!             └── open again ┴─ broken: said in a line, for RETRY at the most
//! ```

use super::{
    keys::{self, Escape},
    terminal::{self, Raw},
    text::Plain,
};
use crate::{context::Context, exit::Failure, output};
use bytes::Bytes;
use std::{future::pending, io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use waifud_api::{
    client::{ClientError, ConsoleEnd, ConsoleReader, ConsoleWriter, Endpoint, Frame},
    console::{ConsoleQuery, FromConsole, Replay, Seat, ToConsole},
    exit::Exit,
    problem::ProblemCode,
};
use waifud_model::name::VmName;

/// For how long a console that broke is tried to be opened again: a node that restarts is back by then, and so is a guest
/// whose node lost its power for a moment.
const RETRY: Duration = Duration::from_secs(60);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);
/// A screen that is drawn at once would hide the line that says how to leave it.
const READ: Duration = Duration::from_millis(1500);
/// What a screen that is drawn at once begins with: everything is wiped.
const WIPES: &[u8] = b"\x1b[H\x1b[J";

/// What the user said.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) vm: VmName,
    pub(crate) escape: Escape,
    pub(crate) read_only: bool,
    pub(crate) take: bool,
    /// For how long the guest has to be silent after a script's end.
    pub(crate) linger: Duration,
}

/// Why a connection was left.
enum Left {
    /// By the user, or because a script came to its end.
    ByUs,
    /// Nobody reads our output.
    Closed(Failure),
    /// It ended.
    Ended(ConsoleEnd),
}

/// Opens the console and stays until it is left.
pub(crate) async fn run(context: &Context, wishes: &Wishes) -> Result<(), Failure> {
    let terminal = context.terminal;
    let typing = !wishes.read_only;
    let on_terminal = terminal.input && terminal.out;
    let query = ConsoleQuery {
        take: wishes.take,
        read_only: wishes.read_only,
        replay: match (terminal.out, typing && !terminal.input) {
            (true, _) => Replay::Screen,
            (false, false) => Replay::Text,
            // A script's output is what the script brings about.
            (false, true) => Replay::None,
        },
    };
    let opened = context.client.console(&wishes.vm, query).await?;
    let mut session = Session {
        context,
        wishes,
        query,
        typed: (typing).then(keys::typed),
        plain: (!terminal.out).then(Plain::default),
        ends: Ends::new()?,
        window: listen(SignalKind::window_change())?,
        raw: None,
        greeted: false,
        ours: false,
        quiet_from: None,
        size_told: false,
    };
    if on_terminal && typing {
        session.raw = Some(Raw::enter().map_err(|source| Failure::Io { what: "the terminal", source })?);
    }
    session.stay(opened).await
}

struct Session<'a> {
    context: &'a Context,
    wishes: &'a Wishes,
    query: ConsoleQuery,
    /// None: nothing is typed any more.
    typed: Option<mpsc::Receiver<io::Result<Bytes>>>,
    plain: Option<Plain>,
    ends: Ends,
    window: Signal,
    raw: Option<Raw>,
    greeted: bool,
    /// We may write: so it shall be after a break.
    ours: bool,
    /// The script has ended; when the guest was heard last.
    quiet_from: Option<Instant>,
    size_told: bool,
}

impl Session<'_> {
    async fn stay(&mut self, opened: (Endpoint, ConsoleReader, ConsoleWriter)) -> Result<(), Failure> {
        let (mut endpoint, mut reader, mut writer) = opened;
        loop {
            self.size_told = false;
            let end = match self.pass(&mut reader, &mut writer).await {
                Left::ByUs => {
                    writer.close().await;
                    return Ok(());
                }
                Left::Closed(failure) => return Err(failure),
                Left::Ended(end) => end,
            };
            let why = match end {
                ConsoleEnd::Broken(why) => why,
                ConsoleEnd::Over(why) => {
                    self.say(&format!("the console of {} is over: {why}", self.wishes.vm));
                    return Ok(());
                }
                ConsoleEnd::Forbidden(why) => {
                    self.raw = None;
                    let hint = "waifuctl login, or another --token-file".to_owned();
                    return Err(Failure::Ended { exit: Exit::NotAllowed, message: why, hint: Some(hint) });
                }
            };
            self.say(&format!("{endpoint} is gone ({why}); connecting again"));
            let Some(again) = self.again().await? else { return Ok(()) };
            (endpoint, reader, writer) = again;
            self.say(&format!("connected again, by {endpoint}"));
        }
    }

    /// Opens it again. None: the user does not want to wait.
    async fn again(&mut self) -> Result<Option<(Endpoint, ConsoleReader, ConsoleWriter)>, Failure> {
        let deadline = Instant::now() + self.context.timeout.unwrap_or(RETRY);
        // Who wrote before writes on: the seat may still be held by the connection that broke.
        let query = ConsoleQuery { take: self.query.take || self.ours, ..self.query };
        loop {
            let opening = self.context.client.console(&self.wishes.vm, query);
            let error = tokio::select! {
                opened = opening => match opened {
                    Ok(opened) => return Ok(Some(opened)),
                    Err(error) => error,
                },
                () = leaves(&mut self.typed, self.wishes.escape) => return Ok(None),
                () = self.ends.come() => return Ok(None),
            };
            if Instant::now() >= deadline || !may_pass(&error) {
                self.raw = None;
                return Err(error.into());
            }
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = leaves(&mut self.typed, self.wishes.escape) => return Ok(None),
                () = self.ends.come() => return Ok(None),
            }
        }
    }

    async fn pass(&mut self, reader: &mut ConsoleReader, writer: &mut ConsoleWriter) -> Left {
        loop {
            if self.raw.is_some()
                && !std::mem::replace(&mut self.size_told, true)
                && let Some(size) = terminal::size()
                && let Err(end) = writer.say(ToConsole::Resize(size)).await
            {
                return Left::Ended(end);
            }
            let silent = async {
                match self.quiet_from {
                    Some(from) => sleep_until(from + self.wishes.linger).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                frame = reader.next() => match frame {
                    Ok(Frame::Bytes(bytes)) => {
                        self.quiet_from = self.quiet_from.map(|_| Instant::now());
                        if let Err(failure) = self.show(&bytes).await {
                            return Left::Closed(failure);
                        }
                    }
                    Ok(Frame::Told(told)) => self.told(told),
                    Err(end) => return Left::Ended(end),
                },
                piece = next(&mut self.typed) => match piece {
                    Some(Ok(piece)) => {
                        // A script may hold any byte; a key is pressed on a terminal.
                        let escape = if self.context.terminal.input { self.wishes.escape } else { Escape::NONE };
                        let (piece, leaves) = escape.split(piece);
                        if !piece.is_empty() && let Err(end) = writer.send(piece).await {
                            return Left::Ended(end);
                        }
                        if leaves {
                            return Left::ByUs;
                        }
                    }
                    Some(Err(source)) => return Left::Closed(Failure::Io { what: "stdin", source }),
                    None => {
                        self.typed = None;
                        self.quiet_from = Some(Instant::now());
                    }
                },
                () = silent => return Left::ByUs,
                () = self.ends.come() => return Left::ByUs,
                _ = self.window.recv() => self.size_told = false,
            }
        }
    }

    async fn show(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(plain) = &mut self.plain {
            return output::stdout(&plain.of(bytes));
        }
        // The greeting is to be read before it is wiped away.
        if self.raw.is_some() && std::mem::take(&mut self.greeted) && bytes.windows(WIPES.len()).any(|w| w == WIPES) {
            sleep(READ).await;
        }
        output::bytes(bytes)
    }

    fn told(&mut self, told: FromConsole) {
        let vm = &self.wishes.vm;
        match told {
            FromConsole::Hello { node, seat, .. } => {
                let leave = match (self.raw.is_some(), self.wishes.escape.is_some()) {
                    (true, true) => format!(" Leave it with {}.", self.wishes.escape),
                    (true, false) => " There is no key to leave it; close the terminal.".to_owned(),
                    (false, _) => String::new(),
                };
                self.say(&format!("This is the console of {vm}, on {node}.{leave}"));
                self.greeted = true;
                self.seated(seat);
            }
            FromConsole::Seat { seat } => self.seated(seat),
            FromConsole::Lost { bytes } => self.say(&format!("{bytes} bytes were lost here: this side was too slow")),
            FromConsole::Power { on: false } => self.say(&format!("{vm} is off; its console goes on when it starts")),
            FromConsole::Power { on: true } => self.say(&format!("{vm} runs again")),
            FromConsole::Other => {}
        }
    }

    fn seated(&mut self, seat: Seat) {
        let before = std::mem::replace(&mut self.ours, seat == Seat::Yours);
        if self.wishes.read_only {
            return;
        }
        match seat {
            Seat::Yours if before || self.greeted && !self.query.take => {}
            Seat::Yours => self.say("You write here now."),
            Seat::Free => self.say("Nobody writes here; who types first does."),
            Seat::Taken { by } => self.say(&format!("Only {by} writes here; --force takes it over.")),
        }
    }

    /// A line on stderr, on a terminal in raw mode too.
    fn say(&self, text: &str) {
        if self.context.quiet {
            return;
        }
        let text = output::printable(text);
        if self.raw.is_some() {
            output::stderr(&format!("\r\n[{text}]\r\n"));
        } else {
            output::stderr(&format!("[{text}]\n"));
        }
    }
}

/// May the same succeed a moment later?
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Problem(problem) => {
            let code = problem.code;
            code.is_momentary() || code.is_unreachable() || code.is_of_this_node() || code == ProblemCode::NotRunning
        }
        ClientError::Unreachable(_) | ClientError::Unanswered(_) => true,
        ClientError::Protocol { .. } | ClientError::File { .. } => false,
    }
}

async fn next(typed: &mut Option<mpsc::Receiver<io::Result<Bytes>>>) -> Option<io::Result<Bytes>> {
    match typed {
        Some(typed) => typed.recv().await,
        None => pending().await,
    }
}

/// Returns when the key is pressed. What else is typed meanwhile was meant for a screen that is not there.
async fn leaves(typed: &mut Option<mpsc::Receiver<io::Result<Bytes>>>, escape: Escape) {
    while let Some(Ok(piece)) = next(typed).await {
        if escape.split(piece).1 {
            return;
        }
    }
    pending().await
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|source| Failure::Io { what: "signals", source })
}

/// What ends a console from outside.
#[derive(Debug)]
struct Ends([Signal; 4]);

impl Ends {
    fn new() -> Result<Self, Failure> {
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
            listen(SignalKind::quit())?,
        ]))
    }

    async fn come(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}

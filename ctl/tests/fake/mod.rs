//! A server that answers as it is told, on a socket of its own, and remembers what it was asked; and a way to run `waifuctl`
//! against it.

pub(crate) mod documents;
pub(crate) mod https;

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::UnixListener,
    process::Command,
    task::JoinHandle,
};
use waifud_api::problem::{Problem, ProblemCode};

/// What a command may take here, on however busy a machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a terminal shows when it may be typed on.
const READY: &str = "ready";

/// A request, in short: `POST /api/v1/vms`.
pub(crate) type Line = String;
/// An answer.
pub(crate) type Reply = Response<Full<Bytes>>;

/// What a server says to a head and a body.
type Answer = Box<dyn Fn(&Parts, &[u8]) -> Reply + Send + Sync>;

/// What answers, and what is remembered of the questions.
pub(crate) struct Service {
    answer: Answer,
    asked: Mutex<Vec<Line>>,
    heads: Mutex<Vec<Parts>>,
}

/// The connections that are open.
pub(crate) type Connections = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// See the module.
pub(crate) struct Fake {
    dir: tempfile::TempDir,
    service: Arc<Service>,
    connections: Connections,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.die();
    }
}

/// Answers on one connection until it ends.
pub(crate) async fn take(stream: impl AsyncRead + AsyncWrite + Unpin, service: Arc<Service>) {
    let answered = service_fn(move |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            service.asked.lock().unwrap().push(line(&head));
            service.heads.lock().unwrap().push(head.clone());
            Ok::<_, Infallible>((service.answer)(&head, &body))
        }
    });
    // A client that goes away is none of a server's business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answered).await;
}

impl Fake {
    /// Serves what `answer` says to each request's line and body.
    pub(crate) fn serve(answer: impl Fn(&str, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve_whole(move |head, body| answer(&line(head), body))
    }

    /// Serves what `answer` says to each request.
    pub(crate) fn serve_whole(answer: impl Fn(&Parts, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("api.sock")).unwrap();
        Self::in_dir(dir, answer, async move |connections, service| {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.lock().unwrap().push(tokio::spawn(take(stream, Arc::clone(&service))));
            }
        })
    }

    /// Serves over what `accept` accepts.
    pub(crate) fn over<F>(
        answer: impl Fn(&Parts, &[u8]) -> Reply + Send + Sync + 'static,
        accept: impl FnOnce(Connections, Arc<Service>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::in_dir(tempfile::tempdir().unwrap(), answer, accept)
    }

    fn in_dir<F>(
        dir: tempfile::TempDir,
        answer: impl Fn(&Parts, &[u8]) -> Reply + Send + Sync + 'static,
        accept: impl FnOnce(Connections, Arc<Service>) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let service = Arc::new(Service { answer: Box::new(answer), asked: Mutex::default(), heads: Mutex::default() });
        let connections = Connections::default();
        let task = tokio::spawn(accept(Arc::clone(&connections), Arc::clone(&service)));
        Self { dir, service, connections, task }
    }

    /// Its machine loses power: it accepts nothing more, and what is open breaks off.
    pub(crate) fn die(&self) {
        self.task.abort();
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
        let _ = std::fs::remove_file(self.dir.path().join("api.sock"));
    }

    /// The heads of everything it was asked.
    pub(crate) fn heads(&self) -> Vec<Parts> {
        self.service.heads.lock().unwrap().clone()
    }

    /// Everything it was asked but the event stream, which comes and goes as it likes.
    pub(crate) fn asked(&self) -> Vec<Line> {
        self.service.asked.lock().unwrap().iter().filter(|line| !line.contains("/events")).cloned().collect()
    }

    /// `waifuctl` with these arguments, in an environment without surprises, its stdin empty.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = waifuctl(args);
        command.env("WAIFU_HOST", self.endpoint());
        command
    }

    /// `waifuctl` with these arguments on a terminal of its own, where somebody types this and uses this editor. What it writes
    /// to stdout and stderr comes together, as on a terminal. `dir` is where it puts temporary files.
    pub(crate) async fn on_terminal(&self, args: &[&str], editor: &str, typed: &str, dir: &std::path::Path) -> Ended {
        self.on_terminal_with("", args, editor, typed, dir).await
    }

    /// The same, with more in the environment: `A=b C=d`.
    pub(crate) async fn on_terminal_with(
        &self,
        environment: &str,
        args: &[&str],
        editor: &str,
        typed: &str,
        dir: &std::path::Path,
    ) -> Ended {
        let line: Vec<_> =
            [env!("CARGO_BIN_EXE_waifuctl")].iter().chain(args).map(|word| format!("'{word}'")).collect();
        // What is typed must not be mixed with what is shown; it is typed once the terminal has agreed to that.
        let line = format!("stty -echo; echo {READY}; {environment} {}", line.join(" "));
        // script(1) is Debian's own way to a terminal, and in every installation.
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_clear().kill_on_drop(true);
        command.env("WAIFU_HOST", self.endpoint()).env("EDITOR", editor).env("TMPDIR", dir);
        command.env("NO_COLOR", "1").env("TERM", "dumb").env("PATH", "/usr/bin:/bin");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // Held until the end: a terminal does not hang up because nobody types.
        let mut keyboard = child.stdin.take().unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        let watched = async {
            let mut shown = String::new();
            while shown.trim_end() != READY {
                shown.clear();
                assert!(screen.read_line(&mut shown).await.unwrap() > 0, "the terminal ended before it was ready");
            }
            keyboard.write_all(typed.as_bytes()).await.unwrap();
            shown.clear();
            screen.read_to_string(&mut shown).await.unwrap();
            (child.wait().await.unwrap(), shown)
        };
        let (status, shown) = tokio::time::timeout(DEADLINE, watched).await.expect("it ends in time");
        Ended { code: status.code().unwrap_or(-1), out: shown.replace("\r\n", "\n"), err: String::new() }
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("api.sock").display())
    }

    /// Runs `waifuctl` to its end.
    pub(crate) async fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args)).await
    }
}

fn line(head: &Parts) -> Line {
    format!("{} {}", head.method, head.uri)
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn waifuctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waifuctl"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) async fn ended(mut command: Command) -> Ended {
    tokio::time::timeout(DEADLINE, command.output()).await.expect("it ends in time").unwrap().into()
}

pub(crate) fn ok(value: Value) -> Reply {
    Response::builder().header("content-type", "application/json").body(Full::from(value.to_string())).unwrap()
}

pub(crate) fn problem(problem: &Problem) -> Reply {
    let mut reply = ok(serde_json::to_value(problem).unwrap());
    *reply.status_mut() = StatusCode::from_u16(problem.status).unwrap();
    reply
}

pub(crate) fn refuse(code: ProblemCode) -> Reply {
    problem(&Problem::new(code, "because"))
}

/// A VM in a state.
pub(crate) fn vm(name: &str, state: &str) -> Value {
    json!({
        "id": "ec270707-0707-4707-8707-070707070707", "name": name, "node": "n2",
        "status": { "state": state, "since": "2026-03-01T12:00:10Z", "pending": state == "pending" },
        "desired": if state == "stopped" { "stopped" } else { "running" }, "phase": "live",
        "cpus": 1, "memory": 536_870_912, "disk": 10_737_418_240u64,
        "template": { "name": "tiny", "version": "9".repeat(64) },
        "ip": "10.77.2.14", "mac": "52:54:0a:4d:02:0e", "labels": {}, "restart": "on_failure", "ssh_keys": [],
        "user_data": null, "generation": 1, "created_at": "2026-03-01T12:00:00Z"
    })
}

/// A VM that was just made.
pub(crate) fn created(name: &str) -> Value {
    json!({
        "vm": vm(name, "pending"),
        "placement": {
            "node": "n2", "reason": "most free memory of 3", "rejected": [ { "node": "n1", "reason": "cordoned" } ]
        }
    })
}

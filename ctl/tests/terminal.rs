//! What a person sees: transcripts of a real terminal (tmux), of which every cell is looked at: progress with running clocks, bars
//! with the time that is left, tables that are drawn in their place, and Ctrl-C.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test that cannot go on must end; the fake is shared"
)]

mod fake;

use expect_test::expect;
use fake::{DEADLINE, Fake, created, ok, refuse, vm};
use serde_json::json;
use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt as _, net::UnixListener, sync::Notify};
use waifud_api::problem::ProblemCode;

/// How often the screen is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A terminal of 90 by 20 cells in which one command runs.
struct Screen {
    dir: TempDir,
    socket: PathBuf,
}

impl Screen {
    /// Runs `waifuctl` with these words against this endpoint; its end is told with its status.
    fn run(endpoint: &str, words: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("tmux");
        let line = format!(
            // Ctrl-C is for the program; the shell around it lives on to tell how it ended.
            "trap : INT; env -i TERM=tmux-256color NO_COLOR=1 LANG=C.UTF-8 WAIFU_HOST={endpoint} {} {words}; echo \"ended with $?\"; cat",
            env!("CARGO_BIN_EXE_waifuctl")
        );
        let screen = Self { dir, socket };
        let started = screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "90", "-y", "20", &line]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        screen
    }

    fn tmux(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new("tmux");
        command.arg("-u").arg("-S").arg(&self.socket).args(words).env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("TERM", "xterm").env("SHELL", "/bin/sh");
        command.output().expect("tmux is installed: tests/lab/install.sh --for test")
    }

    /// What is on the screen, without the empty rows below.
    fn text(&self) -> String {
        let shown = String::from_utf8(self.tmux(&["capture-pane", "-p"]).stdout).unwrap();
        shown.trim_end().to_owned()
    }

    /// The screen as soon as it shows this.
    async fn shows(&self, wanted: &str) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            if text.contains(wanted) {
                return text;
            }
            assert!(start.elapsed() < DEADLINE, "{wanted:?} is not shown, but:\n{text}");
            tokio::time::sleep(LOOK).await;
        }
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Times are what they are; where they stand is looked at.
fn without_times(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once(' ') {
        Some((before, time)) if time.ends_with('s') && time[..time.len() - 1].parse::<f64>().is_ok() => {
            format!("{}  TIME", before.trim_end())
        }
        _ => line.trim_end().to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A VM that comes as far as the number says.
fn coming(state: Arc<AtomicUsize>) -> Fake {
    Fake::serve(move |line, _| match line {
        "POST /api/v1/vms" => {
            let mut made = created("web-1");
            made["vm"]["ssh_keys"] = json!(["ssh-ed25519 AAAA me"]);
            ok(made)
        }
        "GET /api/v1/templates/tiny" => ok(json!({
            "name": "tiny", "versions": [{
                "template": "tiny", "version": "9".repeat(64), "sha256": "1".repeat(64), "size": 222_298_112,
                "virtual_size": 222_298_112, "format": "qcow2", "url": null, "nodes": ["n1"], "vms": 0,
                "added_at": "2026-03-01T12:00:00Z"
            }]
        })),
        "GET /api/v1/vms/web-1" => {
            let step = state.load(Ordering::SeqCst);
            let mut vm = vm("web-1", ["fetching", "preparing", "running", "running", "running"][step]);
            vm["ssh_keys"] = json!(["ssh-ed25519 AAAA me"]);
            if step == 0 {
                vm["status"]["fetching"] = json!({ "done": 111_149_056, "total": 222_298_112 });
            }
            vm["status"]["met"] =
                [json!([]), json!([]), json!([]), json!(["lease"]), json!(["lease", "metadata"])][step].clone();
            ok(vm)
        }
        _ => refuse(ProblemCode::NoSuchEndpoint),
    })
}

#[tokio::test]
async fn create_tells_its_phases_as_they_come() {
    let state = Arc::new(AtomicUsize::new(0));
    let fake = coming(Arc::clone(&state));
    let screen = Screen::run(&fake.endpoint(), "create -t tiny -n web-1");
    for (step, shown) in
        ["fetching 106 MiB of 212 MiB (50%)", "web-1 on n2: preparing", "its guest boots", "its cloud-init begins"]
            .into_iter()
            .enumerate()
    {
        screen.shows(shown).await;
        state.store(step + 1, Ordering::SeqCst);
    }
    let text = screen.shows("ended with 0").await;
    expect![[r#"
        ✓ placed on n2         most free memory of 3 (n1 cordoned)
        ✓ template tiny        version 999999999999, 212 MiB from n1, verified  TIME
        ✓ disk 10 GiB  TIME
        ✓ booted               10.77.2.14  TIME
        ✓ cloud-init begun     the guest has its documents  TIME
        web-1 is ready:  waifuctl ssh web-1
        ended with 0"#]]
    .assert_eq(&without_times(&text));
}

#[tokio::test]
async fn a_clock_runs_while_it_is_waited_and_ctrl_c_says_that_the_work_goes_on() {
    let fake = coming(Arc::new(AtomicUsize::new(0)));
    let screen = Screen::run(&fake.endpoint(), "create -t tiny -n web-1");
    screen.shows("web-1 on n2: fetching").await;
    // The clock counts seconds.
    screen.shows("(50%)  2s").await;
    screen.press("C-c");
    let text = screen.shows("ended with").await;
    expect![[r#"
        ✓ placed on n2         most free memory of 3 (n1 cordoned)
        not waiting any longer; n2 goes on starting web-1
        follow: waifuctl wait web-1 --for running
        ended with 6"#]]
    .assert_eq(&without_times(&text));
}

#[tokio::test]
async fn a_watched_list_stays_in_its_place() {
    let looks = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looks);
    let fake = Fake::serve(move |line, _| match line {
        "GET /api/v1/vms" => match count.fetch_add(1, Ordering::SeqCst) {
            0 => ok(json!([vm("db-1", "preparing"), vm("web-1", "running")])),
            _ => ok(json!([vm("db-1", "running")])),
        },
        _ => refuse(ProblemCode::NoSuchEndpoint),
    });
    let screen = Screen::run(&fake.endpoint(), "ls --watch --columns name,status,ip");
    screen.shows("web-1").await;
    let text = screen.shows("db-1  running").await;
    expect![[r#"
        NAME  STATUS   IP
        db-1  running  10.77.2.14"#]]
    .assert_eq(&without_times(&text));
    screen.press("C-c");
    screen.shows("ended with 0").await;
}

#[tokio::test]
async fn an_upload_has_a_bar_and_says_how_long_it_will_take() {
    const MIB: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(64 * MIB as u64).unwrap();
    let socket = dir.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let go_on = Arc::new(Notify::new());
    let waits = Arc::clone(&go_on);
    // It takes a part, and the rest when it is told to; then it hangs up.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut part = vec![0; 8 * MIB];
        stream.read_exact(&mut part).await.unwrap();
        waits.notified().await;
    });
    let words = format!("template add tiny --file {}", image.display());
    let screen = Screen::run(&format!("unix:{}", socket.display()), &words);
    let text = screen.shows("█").await;
    let line = text.lines().last().unwrap();
    assert!(line.contains("sending ") && line.contains("/64.00 MiB") && line.trim_end().ends_with(" left"), "{text}");
    go_on.notify_one();
    server.await.unwrap();
    let text = screen.shows("ended with 6").await;
    assert!(text.contains("may or may not have been done") && !text.contains("█"), "the bar is gone:\n{text}");
}

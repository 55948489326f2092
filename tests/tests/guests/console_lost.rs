//! Consoles and logs that somebody has open, as `waifuctl` shows them, when the node between dies or their token is revoked.

use super::support::{ctl, three_with_tiny, tiny};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;
use waifud_api::exit::Exit;
use waifud_tests::{
    cluster::{Cluster, SOON, wait},
    lab::{eventually, program},
};

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_at_a_console_is_led_around_a_dead_node_and_let_go_with_their_token() -> Result<()> {
    let mut cluster = three_with_tiny().await?;
    tiny(&cluster, "web-1", "n2", &[]).await?;
    the_node_between_dies(&mut cluster)?;
    the_token_is_revoked(&cluster).await
}

/// A `waifuctl` that is typed at; killed when dropped.
struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    out: PathBuf,
    err: PathBuf,
    _dir: TempDir,
}

impl Session {
    fn start(mut command: Command) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let mut child =
            command.stdin(Stdio::piped()).stdout(File::create(&out)?).stderr(File::create(&err)?).spawn()?;
        Ok(Self { stdin: child.stdin.take(), child, out, err, _dir: dir })
    }

    fn types(&mut self, line: &str) -> Result<()> {
        Ok(self.stdin.as_mut().context("no input")?.write_all(format!("{line}\n").as_bytes())?)
    }

    fn shows(&self, text: &str) -> Result<()> {
        self.says(&self.out, text)
    }

    fn tells(&self, text: &str) -> Result<()> {
        self.says(&self.err, text)
    }

    fn says(&self, file: &Path, text: &str) -> Result<()> {
        let read = |file: &Path| String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        eventually(&format!("{text:?}"), SOON, || read(file).contains(text).then_some(()))
            .with_context(|| format!("it printed {:?} and said {:?}", read(&self.out), read(&self.err)))
    }

    fn ends(&mut self) -> Result<ExitStatus> {
        eventually("the end of waifuctl", SOON, || self.child.try_wait().transpose())?.context("no status")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // One that has ended is not there to be killed.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// The owner lives, and another node leads to it.
fn the_node_between_dies(cluster: &mut Cluster) -> Result<()> {
    let mut command = Command::new(program("waifuctl")?);
    let hosts = format!("{},{}", cluster.endpoint(3), cluster.endpoint(1));
    command.env_clear().env("WAIFU_HOST", hosts).args(["console", "web-1", "--linger", "10m"]);
    let mut session = Session::start(command)?;
    session.types("")?;
    // The shell that this starts takes what was typed before it asks for something for noise.
    session.shows("# ")?;
    session.types("echo AB''CD")?;
    session.shows("ABCD")?;
    cluster.daemon(3).kill9()?;
    session.tells("connecting again")?;
    session.tells(&format!("connected again, by {}", cluster.endpoint(1)))?;
    session.types("echo EF''GH")?;
    session.shows("EFGH")?;
    drop(session);
    cluster.start_daemon(3)
}

/// Through a node that is not the owner, by a person elsewhere.
async fn the_token_is_revoked(cluster: &Cluster) -> Result<()> {
    // It has just started, and leads to nobody of whom it has not heard.
    let through = cluster.client(3);
    let heard = async || through.node(&"n2".parse().ok()?).await.ok()?.value.alive.then_some(());
    wait("the node between to hear the owner", heard).await?;
    let files = tempfile::tempdir()?;
    let secret = files.path().join("token");
    fs::write(&secret, ctl(cluster, 1, &["token", "create", "--role", "operator"])?)?;
    let tokens = cluster.client(1).api_tokens().await?.value;
    let id = tokens.first().context("a token")?.id;
    let status = cluster.status(1).await?;
    let waifuctl = |words: &[&str]| -> Result<Command> {
        let mut command = cluster.host(1).command(program("waifuctl")?);
        command.env("HOME", files.path()).env("XDG_CONFIG_HOME", files.path()).env_remove("WAIFU_HOST").args(words);
        Ok(command)
    };
    let (url, fingerprint) = (format!("https://{}:7443", cluster.host(3).address()), status.ca.to_string());
    let secret = secret.to_str().context("a path that is text")?;
    let login = waifuctl(&["login", &url, "--fingerprint", &fingerprint, "--token-file", secret])?.output()?;
    ensure!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));

    let mut console = Session::start(waifuctl(&["console", "web-1", "--force", "--linger", "10m"])?)?;
    console.types("")?;
    console.types("echo IJ''KL")?;
    console.shows("IJKL")?;
    let mut log = Session::start(waifuctl(&["logs", "web-1", "--follow"])?)?;
    log.shows("IJKL")?;

    ctl(cluster, 2, &["token", "revoke", &id.to_string()])?;
    console.tells("the token was revoked, has expired or is not for this VM any more")?;
    for session in [&mut console, &mut log] {
        assert_eq!(session.ends()?.code(), Some(i32::from(Exit::NotAllowed.code())));
    }
    Ok(())
}

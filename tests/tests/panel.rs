//! The panel as people see it: opened by `waifuctl panel`, in a real Chromium, in both themes, on a desktop and a phone, with
//! axe-core looking over it; once with everything in order and once on the only node that is left of three.
//!
//! What is looked for is in `web/panel/test/browser.mjs`; the pictures it takes are kept under `target/panel`.

use anyhow::{Context, Result, ensure};
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use waifud_tests::{
    cluster::{Cluster, WITHOUT_GUESTS, wait},
    lab::{Lab, program, tiny_image},
};

const PANEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/panel");
/// The socket of a node's API.
const SOCKET: &str = "/run/waifud/api.sock";

/// `waifuctl panel` at work; it ends with this.
struct Panel {
    waifuctl: Child,
    /// Where a browser is let in, once.
    link: String,
}

impl Panel {
    fn open(cluster: &Cluster, node: usize) -> Result<Self> {
        let host = format!("unix:{}", cluster.host(node).path(SOCKET).display());
        let mut waifuctl = Command::new(program("waifuctl")?)
            .args(["--host", &host, "panel", "--no-open"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run waifuctl")?;
        let said = waifuctl.stdout.take();
        let mut panel = Self { waifuctl, link: String::new() };
        BufReader::new(said.context("its output is a pipe")?).read_line(&mut panel.link)?;
        ensure!(panel.link.starts_with("http://127.0.0.1:"), "this is no link: {:?}", panel.link);
        panel.link.truncate(panel.link.trim_end().len());
        Ok(panel)
    }
}

impl Drop for Panel {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        let _ended = self.waifuctl.kill().and_then(|()| self.waifuctl.wait());
    }
}

/// Looks at a node's panel and fails with what was found.
fn look(cluster: &Cluster, node: usize, expected: &[(&str, &str)], shots: &str) -> Result<()> {
    let panel = Panel::open(cluster, node)?;
    let shots: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("panel").join(shots);
    std::fs::create_dir_all(&shots)?;
    let output = Command::new("node")
        .arg("test/browser.mjs")
        .current_dir(PANEL)
        .env("PANEL_URL", &panel.link)
        .env("SHOTS", &shots)
        .envs(expected.iter().copied())
        .stdin(Stdio::null())
        .output()
        .context("cannot run node")?;
    let (said, findings) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success() && said.trim() == "0 findings",
        "{said}{findings}pictures are in {}",
        shots.display()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_panel_shows_the_cluster_and_says_when_there_is_no_quorum() -> Result<()> {
    ensure!(Path::new(PANEL).join("node_modules").is_dir(), "playwright is missing: run tests/lab/build.sh");
    let mut cluster = Cluster::start(Lab::plain(3)?, WITHOUT_GUESTS).await?;
    let image = tiny_image()?;
    for arguments in [
        vec!["template", "add", "tiny", "--file", image.to_str().context("a path that is text")?],
        vec!["create", "-t", "tiny", "-n", "web-1", "-m", "64M", "--no-start"],
    ] {
        let output = cluster.waifuctl(1, &arguments)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let expected = [("EXPECT_VM", "web-1"), ("EXPECT_NODES", "n1,n2,n3")];
    // Whichever node is asked: not the one that the VM was asked of.
    look(&cluster, 2, &expected, "quorum")?;

    cluster.daemon(1).kill9()?;
    cluster.daemon(3).kill9()?;
    wait("n2 to notice that it is alone", async || (!cluster.status(2).await.ok()?.quorum).then_some(())).await?;
    look(&cluster, 2, &[expected[0], expected[1], ("EXPECT_STALE", "1")], "no-quorum")
}

//! A cluster of real daemons on the hosts of a lab.
//!
//! In: a [`Lab`], settings. Out: running `waifud`s that agree on who is a member, and ways to ask them: the typed client
//! and the command line. Whoever breaks something does it through the lab or through [`Cluster::daemon`].
#![expect(clippy::expect_used, reason = "a test that misuses its cluster is to end where it does")]

use crate::lab::{Host, Lab, Process, eventually, program};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    os::unix::net::UnixStream,
    process::{Output, Stdio},
    time::Duration,
};
use waifud_api::{
    client::{Client, Config, Endpoint},
    cluster::ClusterStatus,
    node::NodeRole,
};

/// For something that takes a moment on an idle machine, on one that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(120);

/// Where each host's daemon has its socket.
const SOCKET: &str = "/run/waifud/api.sock";
/// Settings, beginning in `[node]`, for hosts without libvirtd: VMs are libvirt's own test driver's, and so no more than
/// records, of which there may be many.
pub const WITHOUT_GUESTS: &str =
    "cpus = 400\n[hypervisor]\nuri = \"test:///default\"\n[images]\nallow_private_urls = true\n";
/// Settings for hosts with libvirtd.
pub const WITH_GUESTS: &str = "[hypervisor]\nuri = \"qemu:///system\"\nshutdown_grace = \"20s\"\n";

/// Daemons on the hosts of a lab; all end with it.
#[derive(Debug)]
pub struct Cluster {
    daemons: Vec<Option<Process>>,
    /// What they log, if not the usual.
    log: Option<&'static str>,
    /// Dropped last: it takes the hosts down.
    lab: Lab,
}

impl Cluster {
    /// Makes a cluster of all hosts of `lab` and waits until they vote as the design says (one voter for one or two
    /// nodes, three for three or four).
    ///
    /// # Errors
    /// When a program is not built, or the cluster does not come to be within a minute.
    pub async fn start(lab: Lab, settings: &str) -> Result<Self> {
        let count = lab.hosts().len();
        Self::start_on(lab, count, settings).await
    }

    /// The same of the first `count` hosts. The others are machines on the same wire that are no nodes.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(lab: Lab, count: usize, settings: &str) -> Result<Self> {
        Self::start_logging(lab, count, settings, None).await
    }

    /// As [`Self::start`], with daemons that log whatever they can down to the debug level.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_talkative(lab: Lab, settings: &str) -> Result<Self> {
        let count = lab.hosts().len();
        Self::start_logging(lab, count, settings, Some("debug")).await
    }

    async fn start_logging(lab: Lab, count: usize, settings: &str, log: Option<&'static str>) -> Result<Self> {
        let mut cluster = Self { daemons: (0..count).map(|_| None).collect(), log, lab };
        for index in 1..=count {
            cluster.add(index, settings)?;
        }
        let voters = match count {
            ..3 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        for index in 1..=count {
            let client = cluster.client(index);
            wait("all nodes to vote", async || {
                let status = client.cluster().await.ok()?.value;
                let alive = status.members.iter().filter(|m| m.alive).count();
                let voting = status.members.iter().filter(|m| m.role != NodeRole::Learner).count();
                (alive == count && voting >= voters && status.quorum).then_some(())
            })
            .await?;
        }
        Ok(cluster)
    }

    fn add(&mut self, index: usize, settings: &str) -> Result<()> {
        let host = self.lab.host(index);
        let file = host.path("/etc/waifud/waifud.toml");
        fs::create_dir_all(file.parent().context("a file without a directory")?)?;
        fs::write(
            file,
            format!("[node]\nname = \"{}\"\nadvertise = \"{}:7443\"\n{settings}", host.name(), host.address()),
        )?;
        let waifud = program("waifud")?;
        if index == 1 {
            host.exec(&waifud, ["init"])?;
        } else {
            let token = self.waifuctl(1, &["cluster", "token", "create"])?;
            if !token.status.success() {
                bail!("no token: {}", String::from_utf8_lossy(&token.stderr));
            }
            let file = host.path("/run/waifud/token");
            fs::create_dir_all(file.parent().context("a file without a directory")?)?;
            fs::write(&file, &token.stdout)?;
            host.exec(&waifud, ["join", "--token-file", "/run/waifud/token"])?;
        }
        self.start_daemon(index)
    }

    /// Starts the daemon of a host and waits until it answers.
    ///
    /// # Errors
    /// When it runs already or does not answer.
    pub fn start_daemon(&mut self, index: usize) -> Result<()> {
        if self.daemons[index - 1].as_mut().is_some_and(Process::is_running) {
            bail!("the daemon of n{index} runs already");
        }
        let host = self.lab.host(index);
        let daemon = match self.log {
            None => host.spawn(program("waifud")?, ["run"])?,
            // `env` becomes the daemon, and so the process is the daemon's all the same.
            Some(level) => host.spawn(
                "env",
                [format!("WAIFUD_LOG={level}").as_ref(), program("waifud")?.as_os_str(), "run".as_ref()],
            )?,
        };
        self.daemons[index - 1] = Some(daemon);
        let socket = host.path(SOCKET);
        let daemon = self.daemon(index);
        eventually("the daemon's socket", SOON, || {
            let answers = UnixStream::connect(&socket).is_ok();
            (answers || !daemon.is_running()).then_some(answers)
        })?
        .then_some(())
        .with_context(|| format!("the daemon of n{index} ended: {}", self.daemon(index).log()))
    }

    /// The daemon of a host, to be stopped, frozen or killed.
    ///
    /// # Panics
    /// When none was started.
    pub fn daemon(&mut self, index: usize) -> &mut Process {
        self.daemons[index - 1].as_mut().expect("the daemon was started")
    }

    /// The hosts.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A host, counted from 1.
    pub fn host(&self, index: usize) -> &Host {
        self.lab.host(index)
    }

    /// A client of one node, over its socket, that asks this node only.
    pub fn client(&self, index: usize) -> Client {
        Client::new(Config::new(vec![self.endpoint(index)])).expect("one endpoint is enough")
    }

    /// Where a node's API is, as seen from outside of its host.
    pub fn endpoint(&self, index: usize) -> Endpoint {
        Endpoint::Unix(self.lab.host(index).path(SOCKET))
    }

    /// Runs `waifuctl` against one node.
    ///
    /// # Errors
    /// When it cannot be run; that it fails is in the output.
    pub fn waifuctl(&self, index: usize, arguments: &[&str]) -> Result<Output> {
        let socket = self.lab.host(index).path(SOCKET);
        std::process::Command::new(program("waifuctl")?)
            .env_clear()
            .env("WAIFU_HOST", format!("unix:{}", socket.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run waifuctl")
    }

    /// What a node says of the cluster.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self, index: usize) -> Result<ClusterStatus> {
        Ok(self.client(index).cluster().await?.value)
    }

    /// The host whose daemon leads, by the word of `asked`.
    ///
    /// # Errors
    /// When nobody does for a minute.
    pub async fn leader(&self, asked: usize) -> Result<usize> {
        let client = self.client(asked);
        let name = wait("a leader", async || client.cluster().await.ok()?.value.leader).await?;
        let index = self.lab.hosts().iter().position(|host| host.name() == name.as_str());
        index.map(|i| i + 1).with_context(|| format!("no host is called {name}"))
    }
}

/// Asks until there is an answer, for [`SOON`] at most.
///
/// # Errors
/// When there is none; the message says `what` was missing.
pub async fn wait<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> Result<T> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, asking).await.with_context(|| format!("{what} did not come within {SOON:?}"))
}

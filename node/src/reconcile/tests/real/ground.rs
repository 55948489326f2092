//! What the runs share: a libvirtd that can be killed and stopped, a small file system for disks that can be filled, a network,
//! and a domain of somebody else.

use crate::{
    hypervisor::{
        Hypervisor as _,
        libvirt::{Libvirt, LibvirtConfig},
    },
    images::{ImageError, ImageStore},
    net::{GuestNetwork as _, LibvirtNetwork, NetworkLayout},
    volumes::DirVolumes,
};
use async_trait::async_trait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::{
    fs,
    io::Write as _,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use waifud_model::{digest::Blake3, ids::ClusterId, template::TemplateVersion};

/// How long a libvirtd that answers nobody is waited for. It starts a guest in less on an idle machine; where it does not, the
/// start is found when it is looked for.
const PATIENCE: Duration = Duration::from_secs(5);
const FOREIGN: &str = "ec2f0f0f-0f0f-4f0f-8f0f-0f0f0f0f0f0f";

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// The one image there is.
#[derive(Debug)]
pub(super) struct OneImage(pub(super) PathBuf);

#[async_trait]
impl ImageStore for OneImage {
    async fn ensure(&self, _: &TemplateVersion) -> Result<PathBuf, ImageError> {
        Ok(self.0.clone())
    }

    async fn present(&self, _: Blake3) -> bool {
        true
    }
}

/// The libvirtd of this host.
#[derive(Debug)]
pub(super) struct Libvirtd {
    pid_file: String,
}

impl Libvirtd {
    fn pid(&self) -> Pid {
        Pid::from_raw(fs::read_to_string(&self.pid_file).unwrap().trim().parse().unwrap())
    }

    fn runs(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid())).exists()
    }

    /// Kills it, and waits until it is gone. Its guests run on.
    pub(super) fn kill(&self) {
        kill(self.pid(), Signal::SIGKILL).unwrap();
        let end = Instant::now() + super::SOON;
        while self.runs() {
            assert!(Instant::now() < end, "libvirtd does not end");
            std::thread::sleep(super::GLANCE);
        }
    }

    /// From now on it answers nobody.
    pub(super) fn stop(&self) {
        kill(self.pid(), Signal::SIGSTOP).unwrap();
    }

    /// It is there and answers.
    fn mend(&self) {
        if self.runs() {
            kill(self.pid(), Signal::SIGCONT).unwrap();
        } else {
            run("libvirtd", &["--daemon", "--pid-file", &self.pid_file]);
        }
    }
}

/// What the runs share. Its file system is gone with it.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) libvirtd: Libvirtd,
    /// For the test to look, past every tap.
    pub(super) look: Libvirt,
    pub(super) volumes: DirVolumes,
    pub(super) image: PathBuf,
    uri: String,
    dir: TempDir,
    foreign: String,
}

impl Ground {
    pub(super) async fn new() -> Self {
        let (uri, dir) = (env("WAIFUD_TEST_LIBVIRT_URI"), tempfile::tempdir().unwrap());
        for part in ["disks", "consoles"] {
            fs::create_dir(dir.path().join(part)).unwrap();
        }
        run("mount", &["-t", "tmpfs", "-o", "size=64M", "disks", dir.path().join("disks").to_str().unwrap()]);
        let config = LibvirtConfig { uri: uri.clone(), ..LibvirtConfig::system(cluster()) };
        let mut ground = Self {
            libvirtd: Libvirtd { pid_file: env("WAIFUD_TEST_LIBVIRTD_PID_FILE") },
            look: Libvirt::start(config).unwrap(),
            volumes: DirVolumes::open(dir.path().join("disks")).unwrap(),
            image: env("WAIFUD_TEST_TINY").into(),
            uri,
            dir,
            foreign: String::new(),
        };
        ground.network().ensure().await.unwrap();
        let xml = ground.dir.path().join("foreign.xml");
        let text = format!(
            "<domain type='qemu'><name>{FOREIGN}</name><uuid>{FOREIGN}</uuid><memory unit='MiB'>16</memory>\
             <os><type arch='x86_64'>hvm</type></os></domain>"
        );
        fs::write(&xml, text).unwrap();
        ground.virsh(&["define", xml.to_str().unwrap()]);
        ground.virsh(&["start", FOREIGN]);
        ground.foreign = ground.foreign_looks();
        ground
    }

    /// Everything that was made for the runs goes.
    pub(super) async fn clear(&self) {
        self.virsh(&["destroy", FOREIGN]);
        self.virsh(&["undefine", FOREIGN]);
        self.network().remove().await.unwrap();
    }

    /// As a daemon has it, less patient.
    pub(super) fn hypervisor(&self) -> Libvirt {
        let config = LibvirtConfig { uri: self.uri.clone(), ..LibvirtConfig::system(cluster()) };
        Libvirt::start(LibvirtConfig { look: PATIENCE, change: PATIENCE, ..config }).unwrap()
    }

    /// As a daemon that starts does: what the last one left unfinished goes.
    pub(super) fn open_volumes(&self) -> DirVolumes {
        DirVolumes::open(self.disks()).unwrap()
    }

    pub(super) fn network(&self) -> LibvirtNetwork {
        let layout = NetworkLayout {
            bridge: "waifubr0".to_owned(),
            mtu: 1420,
            subnet: "10.77.1.0/24".parse().unwrap(),
            cluster: "10.77.0.0/16".parse().unwrap(),
            no_masquerade: Vec::new(),
            dns: Vec::new(),
            names: (Ipv4Addr::LOCALHOST, 7753).into(),
        };
        LibvirtNetwork::new(&self.uri, layout)
    }

    pub(super) fn consoles(&self) -> PathBuf {
        self.dir.path().join("consoles")
    }

    fn disks(&self) -> PathBuf {
        self.dir.path().join("disks")
    }

    fn filler(&self) -> PathBuf {
        self.dir.path().join("disks/.filler")
    }

    /// No byte is left where the disks are.
    pub(super) fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let block = [0; 4096];
        while filler.write_all(&block).is_ok() {}
    }

    /// No fault lasts.
    pub(super) async fn mend(&self) {
        if self.filler().exists() {
            fs::remove_file(self.filler()).unwrap();
        }
        self.libvirtd.mend();
        let end = Instant::now() + super::SOON;
        while let Err(error) = self.left().await {
            assert!(Instant::now() < end, "libvirtd does not answer: {error}");
            tokio::time::sleep(super::GLANCE).await;
        }
    }

    /// The addresses that are reserved.
    pub(super) async fn reserved(&self) -> Result<Vec<Ipv4Addr>, String> {
        let reserved = self.network().reserved().await.map_err(|error| error.to_string())?;
        Ok(reserved.into_iter().map(|reservation| reservation.ip).collect())
    }

    /// All that there is of VMs of ours, if it can be told.
    pub(super) async fn left(&self) -> Result<Vec<String>, String> {
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).unwrap();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let domains = self.look.list().await.map_err(|error| error.to_string())?;
        let mut left: Vec<_> = domains.into_iter().map(|domain| domain.vm.to_string()).collect();
        left.extend(self.reserved().await?.into_iter().map(|ip| ip.to_string()));
        left.extend(names(Path::new("/sys/class/net")).into_iter().filter(|name| name.starts_with("vnet")));
        let filters = self.virsh(&["nwfilter-binding-list"]);
        left.extend(filters.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        left.extend(names(&self.disks()));
        left.extend(names(&self.consoles()));
        Ok(left)
    }

    pub(super) fn foreign_is_untouched(&self) {
        assert_eq!(self.foreign_looks(), self.foreign, "a domain of somebody else was touched");
    }

    fn foreign_looks(&self) -> String {
        let state = self.virsh(&["domstate", "--reason", FOREIGN]);
        let process = fs::read_to_string(format!("/run/libvirt/qemu/{FOREIGN}.pid")).unwrap();
        format!("{state} {process} {}", self.virsh(&["dumpxml", "--inactive", FOREIGN]))
    }

    fn virsh(&self, arguments: &[&str]) -> String {
        run("virsh", &[&["--quiet", "--connect", &self.uri], arguments].concat())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Guests of a run that failed have it open still.
        let _ = Command::new("umount").arg("--lazy").arg(self.disks()).status();
    }
}

fn cluster() -> ClusterId {
    ClusterId::from_random([1; 16])
}

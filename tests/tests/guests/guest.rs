//! A guest as seen from the host it runs on: its process, its domain, its files, its serial port, the page it serves.

use anyhow::{Context, Result};
use std::{fs, path::PathBuf};
use waifud_api::vm::Vm;
use waifud_tests::{
    cluster::{Cluster, wait},
    lab::Host,
};

/// A VM's guest, and which host it is on.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) ip: String,
    /// The host, counted from 1.
    pub(crate) owner: usize,
}

impl Guest {
    pub(crate) fn of(cluster: &Cluster, vm: &Vm) -> Result<Self> {
        let owner = cluster.lab().hosts().iter().position(|host| host.name() == vm.node.as_str());
        let owner = owner.with_context(|| format!("no host is called {}", vm.node))? + 1;
        Ok(Self { name: vm.name.to_string(), id: vm.id.to_string(), ip: vm.ip.to_string(), owner })
    }

    pub(crate) fn host<'a>(&self, cluster: &'a Cluster) -> &'a Host {
        cluster.host(self.owner)
    }

    /// The process that the guest is, as its host counts processes.
    pub(crate) fn process(&self, cluster: &Cluster) -> Option<String> {
        let host = self.host(cluster);
        let pid = fs::read_to_string(host.path(&format!("/run/libvirt/qemu/{}.pid", self.id))).ok()?;
        let pid = pid.trim().to_owned();
        let command = host.exec("cat", [format!("/proc/{pid}/cmdline")]).ok()?;
        command.contains(&self.id).then_some(pid)
    }

    /// Kills the process, as the kernel does when memory runs out.
    pub(crate) fn kill(&self, cluster: &Cluster) -> Result<()> {
        let pid = self.process(cluster).context("the guest does not run")?;
        // The shell's own: a small machine has no other.
        self.host(cluster).exec("sh", ["-c".to_owned(), format!("kill -s KILL {pid}")]).map(drop)
    }

    /// What the guest serves, fetched by its host.
    pub(crate) fn page(&self, cluster: &Cluster) -> Option<String> {
        let url = format!("http://{}/", self.ip);
        self.host(cluster).exec("curl", ["--silent", "--fail", "--max-time", "2", &url]).ok()
    }

    /// Waits until the guest serves its page, which says its name and address, and until it has said that it is up, which
    /// it does a moment later.
    pub(crate) async fn serves(&self, cluster: &Cluster) -> Result<()> {
        let page = wait(&format!("the page of {}", self.name), async || self.page(cluster)).await;
        let page = page.with_context(|| format!("it said: {}", self.serial(cluster)))?;
        assert_eq!(page, format!("Hello from {} at {}\n", self.name, self.ip));
        let up = wait("the guest's word that it is up", async || {
            let serial = self.serial(cluster);
            (serial.rfind("READY ") > serial.rfind("LEASE ")).then_some(())
        });
        up.await.with_context(|| self.serial(cluster))
    }

    /// What the guest has written to its serial port.
    pub(crate) fn serial(&self, cluster: &Cluster) -> String {
        let log = self.host(cluster).path(&format!("/var/lib/waifud/serial/{}.log", self.id));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
    }

    /// How often the guest has told that it has come up under its own name and address.
    pub(crate) fn boots(&self, cluster: &Cluster) -> usize {
        let told = format!(" {} {}", self.name, self.ip);
        self.serial(cluster).lines().filter(|line| line.contains("READY") && line.trim_end().ends_with(&told)).count()
    }

    /// Its disk, as seen from outside of the host.
    pub(crate) fn disk(&self, cluster: &Cluster) -> PathBuf {
        self.host(cluster).path(&format!("/var/lib/waifud/volumes/{}.qcow2", self.id))
    }

    pub(crate) fn virsh(&self, cluster: &Cluster, arguments: &[&str]) -> Result<String> {
        virsh(self.host(cluster), arguments)
    }
}

/// Asks a host's libvirtd.
pub(crate) fn virsh(host: &Host, arguments: &[&str]) -> Result<String> {
    host.exec("virsh", [&["--quiet", "--connect", "qemu:///system"], arguments].concat())
}

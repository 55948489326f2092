//! What stands in for guests: a network namespace on a node's bridge that has the addresses of VMs which are not started.
//!
//! ```text
//!   namespace: eth0, VMs' addresses ──(veth)──> waifubr0 ──> whatever the node does for its guests
//! ```
//!
//! A guest that is emulated, on the cores where all else runs, would be what is measured. All of the node's own way is in the
//! figures but the filter on a guest's tap.

use crate::{
    cluster::Cluster,
    lab::{Host, Process, eventually},
};
use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use std::{
    fs::{self, File},
    future::Future,
    net::Ipv4Addr,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{runtime::Builder, sync::oneshot};
use waifud_api::{client::IdempotencyKey, user_data::UserDataIn, vm::VmCreate};
use waifud_model::{cloud_init::UserData, size::ByteSize};

/// The bridge of every node; waifud's default.
const BRIDGE: &str = "waifubr0";
/// Of the bridge and all that is on it; waifud's default.
pub(super) const MTU: u32 = 1420;
/// For a process that has only to begin, on a busy machine.
const BEGIN: Duration = Duration::from_secs(10);

/// Creates VMs on this node that are never started, and gives their addresses.
pub(super) async fn create_vms(
    cluster: &Cluster,
    node: usize,
    count: usize,
    user_data: &[u8],
) -> Result<Vec<Ipv4Addr>> {
    let client = cluster.client(node);
    let user_data = UserData::try_from(user_data.to_vec())?;
    let mut addresses = Vec::with_capacity(count);
    for number in 0..count {
        let mut create = stopped(node, &format!("stand-in-{node}-{number}"))?;
        create.user_data = Some(UserDataIn(user_data.clone()));
        addresses.push(client.create_vm(&create, &IdempotencyKey::random()).await?.value.vm.ip);
    }
    Ok(addresses)
}

/// A small VM on this node that is not to be started.
pub(super) fn stopped(node: usize, name: &str) -> Result<VmCreate> {
    let mut create = VmCreate::from_template("tiny".parse()?);
    create.name = Some(name.parse()?);
    create.node = Some(format!("n{node}").parse()?);
    create.memory = ByteSize::mib(64);
    create.disk = Some(ByteSize::mib(32));
    create.start = false;
    Ok(create)
}

/// The node's own address on the bridge of a guest: the first of its subnet.
pub(super) fn gateway(guest: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = guest.octets();
    Ipv4Addr::new(a, b, c, 1)
}

/// The subnet that a guest's node has: the 24 bits that each has by default.
pub(super) fn subnet(guest: Ipv4Addr) -> String {
    let [a, b, c, _] = guest.octets();
    format!("{a}.{b}.{c}.0/24")
}

/// A namespace on a bridge, and the program in it that it ends with.
#[derive(Debug)]
pub(super) struct StandIn {
    process: Process,
    addresses: Vec<Ipv4Addr>,
}

impl StandIn {
    /// Plugs it into the bridge of `host` and starts `program` in it.
    pub(super) fn plug(host: &Host, addresses: Vec<Ipv4Addr>, program: &[&str]) -> Result<Self> {
        let first = *addresses.first().context("a guest has an address")?;
        let process = host.spawn("unshare", [&["--net"], program].concat())?;
        let pid = process.pid();
        let name = || fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        eventually("a namespace", BEGIN, || name().filter(|name| name.trim() != "unshare"))
            .with_context(|| process.log())?;
        let stand_in = Self { process, addresses };

        let port = format!("g{pid}");
        let inner = number_on_host(pid)?;
        let plug = format!(
            "ip link add {port} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {inner}
             ip link set {port} master {BRIDGE} up"
        );
        host.exec("sh", ["-euc", &plug])?;
        let mut configure = "ip link set lo up\nip link set eth0 up\n".to_owned();
        for address in &stand_in.addresses {
            configure += &format!("ip address add {address}/24 dev eth0\n");
        }
        configure += &format!("ip route add default via {}\n", gateway(first));
        stand_in.exec("sh", &["-euc", &configure])?;
        Ok(stand_in)
    }

    /// The process of its program.
    pub(super) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The first of its addresses.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.addresses[0]
    }

    /// All of its addresses.
    pub(super) fn addresses(&self) -> &[Ipv4Addr] {
        &self.addresses
    }

    /// Runs a program in it to its end and gives what it printed. It sees this process' files.
    pub(super) fn exec(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.process.pid().to_string(), "--net", "--", program]).args(arguments);
        let output = command.stdin(Stdio::null()).output()?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{program} failed ({}): {said}{complained}", output.status);
        Ok(said.into_owned())
    }

    /// Runs `work` where its sockets are the guest's, on a thread of its own: one that has entered a namespace is of no use to
    /// anybody else.
    pub(super) async fn run<T, F>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process.pid()))?;
        let (done, outcome) = oneshot::channel();
        let inside = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter a namespace")?;
            Builder::new_current_thread().enable_all().build()?.block_on(work())
        };
        std::thread::spawn(move || {
            // Whoever asked may be gone, and then nobody wants to know.
            let _ = done.send(inside());
        });
        outcome.await.context("the thread in a namespace died")?
    }
}

/// A process' number as its own host has it: the innermost.
fn number_on_host(pid: i32) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the program ended")?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("a process without a number")?;
    Ok(numbers.split_whitespace().last().context("a process without a number")?.to_owned())
}

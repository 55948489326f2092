//! From the request for a guest to the guest that has its address, beside what libvirt alone takes for the same domain.
//!
//! The plain side has every advantage: the very domain and network that waifud made, its disk made before the clock
//! starts, no daemon running.

use super::{
    load::Measured,
    records::add_tiny,
    scale::Scale,
    table::{Figure, Table},
};
use crate::{
    cluster::{Cluster, WITH_GUESTS, wait},
    lab::{Host, Lab, eventually, tiny_image},
};
use anyhow::{Context, Result};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use waifud_api::{client::IdempotencyKey, vm::VmCreate};
use waifud_model::size::ByteSize;

/// For a guest that is emulated on a busy machine.
const BOOT: Duration = Duration::from_secs(120);

/// The moments of a start, counted from the request.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// QEMU runs.
    runs: Duration,
    /// The guest has its address, and says so on its serial port.
    ready: Duration,
}

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    // Made before a lab waits for it.
    tiny_image()?;
    let mut cluster = Cluster::start(Lab::new(1)?, WITH_GUESTS).await?;
    add_tiny(&cluster).await?;
    progress("waifud: guests that boot");
    let (mut acknowledged, mut ours) = (Vec::new(), Vec::new());
    let mut last = None;
    for boot in 0..scale.boots {
        if let Some(before) = last.take() {
            remove(&cluster, &before).await?;
        }
        let (took, start, guest) = create(&cluster, boot).await?;
        acknowledged.push(took);
        ours.push(start);
        last = Some(guest);
    }
    progress("libvirt alone: the same guest");
    cluster.daemon(1).terminate(Duration::from_secs(30))?;
    let guest = last.context("no guest was made")?;
    let plain = Plain::take_over(cluster.host(1), &guest)?;
    let plain = (0..scale.boots).map(|_| plain.start(cluster.host(1), &guest)).collect::<Result<Vec<_>>>()?;

    table.part(format!("A guest without KVM, median of {}", scale.boots), "virsh");
    let median = |starts: &[Start], moment: fn(&Start) -> Duration| {
        Figure::seconds(Measured::of(starts.iter().map(moment).collect()).quantile(0.5))
    };
    table.row(
        "create, acknowledged with its address",
        Figure::ms(Measured::of(acknowledged).quantile(0.5)),
        None,
        "<= 5 ms",
    );
    table.row("create, to QEMU running", median(&ours, |s| s.runs), median(&plain, |s| s.runs), "<= 0.2 s more");
    table.row("create, to the guest's lease", median(&ours, |s| s.ready), median(&plain, |s| s.ready), "<= 1.1");
    Ok(())
}

/// What there is of a guest on its host.
struct Guest {
    name: String,
    id: String,
}

impl Guest {
    /// Where libvirt keeps the number of its process while it runs.
    fn process(&self, host: &Host) -> PathBuf {
        host.path(&format!("/run/libvirt/qemu/{}.pid", self.id))
    }

    /// How often it has said that it has its lease; what it does next needs a waifud. Its log outlives its stops.
    fn boots(&self, host: &Host) -> usize {
        let log = host.path(&format!("/var/lib/waifud/serial/{}.log", self.id));
        String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).matches("LEASE ").count()
    }

    /// Follows a start that was asked for at `begun`, when it had booted `before` times.
    fn follow(&self, host: &Host, begun: Instant, before: usize) -> Result<Start> {
        let process = self.process(host);
        eventually("the guest's process", BOOT, || process.exists().then_some(()))?;
        let runs = begun.elapsed();
        eventually("the guest's word", BOOT, || (self.boots(host) > before).then_some(()))?;
        Ok(Start { runs, ready: begun.elapsed() })
    }
}

async fn create(cluster: &Cluster, boot: usize) -> Result<(Duration, Start, Guest)> {
    let mut create = VmCreate::from_template("tiny".parse()?);
    create.name = Some(format!("boot-{boot}").parse()?);
    create.memory = ByteSize::mib(192);
    create.disk = Some(ByteSize::mib(32));
    let client = cluster.client(1);
    // The connection is there before the clock starts, as it is for virsh's own.
    client.cluster().await?;
    let begun = Instant::now();
    let vm = client.create_vm(&create, &IdempotencyKey::random()).await?.value.vm;
    let acknowledged = begun.elapsed();
    let guest = Guest { name: vm.name.to_string(), id: vm.id.to_string() };
    let start = tokio::task::block_in_place(|| guest.follow(cluster.host(1), begun, 0))?;
    Ok((acknowledged, start, guest))
}

async fn remove(cluster: &Cluster, guest: &Guest) -> Result<()> {
    let client = cluster.client(1);
    let name = guest.name.parse()?;
    client.delete_vm(&name).await?;
    wait("the end of a VM", async || client.vm(&name).await.is_err().then_some(())).await
}

/// A guest of waifud in the hands of libvirt alone.
struct Plain {
    disk: String,
    base: String,
}

/// The definition, as a file on the host.
const DEFINITION: &str = "/var/lib/waifud/plain.xml";

impl Plain {
    fn take_over(host: &Host, guest: &Guest) -> Result<Self> {
        fs::write(host.path(DEFINITION), host.exec("virsh", ["dumpxml", "--inactive", &guest.id])?)?;
        let disk = format!("/var/lib/waifud/volumes/{}.qcow2", guest.id);
        let info = host.exec("qemu-img", ["info", "--force-share", "--output=json", &disk])?;
        let info: serde_json::Value = serde_json::from_str(&info)?;
        let base = info["full-backing-filename"].as_str().context("a disk without a base")?.to_owned();
        Ok(Self { disk, base })
    }

    /// Stops it, forgets it, gives it a fresh disk; then defines and starts it with one call of virsh.
    fn start(&self, host: &Host, guest: &Guest) -> Result<Start> {
        let virsh = |command: String| host.exec("virsh", ["--quiet", &command]);
        virsh(format!("destroy {id}; undefine {id}", id = guest.id))?;
        let process = guest.process(host);
        eventually("the end of a guest", BOOT, || (!process.exists()).then_some(()))?;
        host.exec("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &self.base, &self.disk, "32M"])?;
        let before = guest.boots(host);
        let begun = Instant::now();
        virsh(format!("define {DEFINITION}; start {}", guest.id))?;
        guest.follow(host, begun, before)
    }
}

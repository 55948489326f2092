//! The contract of [`Hypervisor`], held against every implementation: the fake, libvirt's mock driver, and, in ignored tests
//! that the lab runs, a real libvirt with QEMU: the one that `WAIFUD_TEST_LIBVIRT_URI` names (`WAIFUD_TEST_LIBVIRT_NETWORK` is
//! the network its guests are plugged into, `default` if unset).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use async_trait::async_trait;
use std::{fs::File, net::Ipv4Addr, os::unix::net::UnixListener, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::broadcast,
};
use waifud_model::{
    hardware::{CpuModel, Firmware},
    ids::{ClusterId, Generation, VmId},
    node::Arch,
    size::ByteSize,
    template::ImageFormat,
    vm::Mac,
};
use waifud_node::{
    hypervisor::{
        Accel, Adjustment, Boot, Cpus, Disk, DiskCache, Domain, DomainEvent, DomainSpec, DomainState, Drive, Happening,
        Health, Hypervisor, HypervisorError, Machine, Memory, Nic, OffReason, PauseReason, Smbios, StartMode,
        fake::FakeHypervisor,
        libvirt::{Libvirt, LibvirtConfig},
    },
    reconcile::{Clock as _, SystemClock},
};

/// An implementation to be tried, and what the contract needs besides it.
#[async_trait]
trait Stage: Sync {
    fn hypervisor(&self) -> &dyn Hypervisor;
    /// A running domain that has the VM's name and UUID but belongs to another cluster.
    async fn add_foreign(&self, spec: &DomainSpec);
    /// Does it still run?
    async fn foreign_runs(&self, vm: VmId) -> bool;
    async fn remove_foreign(&self, vm: VmId);
    /// The directory for disks and logs.
    fn dir(&self) -> &Path;
    fn network(&self) -> String;
}

fn spec(stage: &dyn Stage, seed: u8, generation: u64) -> DomainSpec {
    let ip = Ipv4Addr::new(10, 77, 2, seed);
    let path = stage.dir().join(format!("{seed}.img"));
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    DomainSpec {
        vm: VmId::from_random([seed; 16]),
        generation: Generation(generation),
        title: format!("web-{seed}").parse().unwrap(),
        cpus: Cpus { current: 1, most: 2 },
        memory: Memory { current: ByteSize::mib(64), most: ByteSize::mib(96) },
        disk: Disk { path, format: ImageFormat::Raw, cache: DiskCache::Writeback },
        nic: Nic { mac: Mac::of(ip), ip, network: stage.network(), filter: "clean-traffic".to_owned(), mtu: 1420 },
        serial_log: stage.dir().join(format!("{seed}.log")),
        accel: Accel::Tcg,
        arch: Arch::X86_64,
        machine: Machine::Q35,
        agent: true,
        smbios: Smbios {
            manufacturer: "waifud".to_owned(),
            product: "waifud VM".to_owned(),
            serial: "ds=nocloud;s=http://169.254.169.254/".to_owned(),
        },
        seed: None,
        firmware: Firmware::Bios,
        cpu_model: CpuModel::default(),
        disks: Vec::new(),
        cd: None,
        drive: Drive::Plain,
        cards: Vec::new(),
        boot: Boot { reboots: 4, disk_life: 2 },
    }
}

/// Waits until an event of this kind about this VM was heard.
async fn heard(events: &mut broadcast::Receiver<DomainEvent>, vm: VmId, what: Happening) {
    let wait = async {
        loop {
            if events.recv().await.unwrap() == (DomainEvent { vm: Some(vm), what }) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("no event {what:?} of {vm}"));
}

/// The smallest of adjustments.
const CPU: Adjustment = Adjustment::Cpus(1);

async fn contract(stage: &dyn Stage) {
    let hypervisor = stage.hypervisor();
    let mut health = hypervisor.health();
    tokio::time::timeout(Duration::from_secs(20), health.wait_for(Health::is_up)).await.unwrap().unwrap();
    let mut events = hypervisor.events();
    let mut first = spec(stage, 14, 1);
    let second = spec(stage, 9, 5);
    let vm = first.vm;
    let look = async || hypervisor.find(vm).await.unwrap().unwrap();

    // Nothing is there, and stopping or removing nothing is done already.
    assert!(hypervisor.list().await.unwrap().is_empty());
    assert!(hypervisor.find(vm).await.unwrap().is_none());
    hypervisor.force_stop(vm).await.unwrap();
    hypervisor.undefine(vm).await.unwrap();
    assert!(
        matches!(hypervisor.start(vm, Generation(1), StartMode::Run).await, Err(HypervisorError::NoDomain(id)) if id == vm)
    );
    assert!(matches!(hypervisor.shutdown(vm).await, Err(HypervisorError::NoDomain(id)) if id == vm));
    assert!(hypervisor.console(vm).await.unwrap().is_none() && hypervisor.screen(vm).await.unwrap().is_none());

    // Defined, and listed in the order of ids.
    hypervisor.define(&first).await.unwrap();
    hypervisor.define(&second).await.unwrap();
    let domain = look().await;
    assert_eq!(domain.state, DomainState::Off(OffReason::Unknown));
    assert!(hypervisor.console(vm).await.unwrap().is_none() && hypervisor.screen(vm).await.unwrap().is_none());
    assert_eq!((domain.defined, domain.started, domain.ip), (Some(Generation(1)), None, first.nic.ip));
    let listed = hypervisor.list().await.unwrap();
    assert_eq!(listed.iter().map(|d| d.vm).collect::<Vec<_>>(), [second.vm, vm]);
    assert_eq!(listed[1], Domain { edited: false, disks: Vec::new(), live: None, ..domain });
    heard(&mut events, vm, Happening::Definition).await;

    // Started, and started again: that only notes the generation.
    let before = SystemClock.now();
    hypervisor.start(vm, Generation(1), StartMode::Run).await.unwrap();
    hypervisor.start(vm, Generation(1), StartMode::Run).await.unwrap();
    heard(&mut events, vm, Happening::Started).await;
    let domain = look().await;
    assert_eq!((domain.state, domain.started), (DomainState::Running, Some(Generation(1))));
    let since = domain.since;
    assert!(since.is_some_and(|at| (before..=SystemClock.now()).contains(&at)), "{since:?}");

    // Its cloud-init is done, and told twice.
    hypervisor.note_cloud_init(vm, 3).await.unwrap();
    heard(&mut events, vm, Happening::Definition).await;
    hypervisor.note_cloud_init(vm, 3).await.unwrap();
    assert_eq!((look().await.cloud_init_done, look().await.edited), (Some(3), false));

    // A new definition leaves the guest alone, and forgets nothing.
    first.generation = Generation(2);
    first.title = "web-renamed".parse().unwrap();
    first.boot.reboots = 5;
    first.cpus.current = 2;
    hypervisor.define(&first).await.unwrap();
    let domain = look().await;
    assert_eq!(domain.booted, Boot { reboots: 4, disk_life: 2 }, "the guest was not started anew");
    let live = domain.live.as_ref().unwrap();
    assert_eq!(live.cpus, Cpus { current: 1, most: 2 });
    assert_eq!(domain.state, DomainState::Running);
    assert_eq!((domain.defined, domain.started), (Some(Generation(2)), Some(Generation(1))));
    assert_eq!(domain.cloud_init_done, Some(3));
    hypervisor.start(vm, Generation(2), StartMode::Run).await.unwrap();
    let domain = look().await;
    assert_eq!((domain.started, domain.since), (Some(Generation(2)), since));
    assert_eq!(hypervisor.list().await.unwrap()[1].started, Some(Generation(2)), "the listing has seen the change");
    assert!(hypervisor.usage().await.unwrap().iter().all(|usage| usage.vm == vm));

    // A running guest does not lose its definition.
    let error = hypervisor.undefine(vm).await.unwrap_err();
    assert!(matches!(error, HypervisorError::Refused { what: "undefine", .. }), "{error}");
    assert_eq!(look().await.state, DomainState::Running);

    // Its power is taken away, twice.
    hypervisor.shutdown(vm).await.unwrap();
    hypervisor.force_stop(vm).await.unwrap();
    hypervisor.force_stop(vm).await.unwrap();
    heard(&mut events, vm, Happening::Stopped).await;
    let domain = look().await;
    assert!(!domain.state.is_active(), "{domain:?}");
    assert_eq!((domain.defined, domain.started), (Some(Generation(2)), Some(Generation(2))));
    hypervisor.shutdown(vm).await.unwrap();
    assert_eq!((domain.booted.reboots, domain.live, domain.edited), (4, None, false));
    for refused in [hypervisor.suspend(vm).await, hypervisor.resume(vm).await, hypervisor.adjust(vm, &CPU).await] {
        assert!(matches!(refused, Err(HypervisorError::Refused { .. })), "{refused:?}");
    }

    // Started without running, and held still again; each twice. The new definition is taken up.
    hypervisor.start(vm, Generation(2), StartMode::Paused).await.unwrap();
    let domain = look().await;
    assert_eq!((domain.state, domain.booted.reboots), (DomainState::Paused(PauseReason::Asked), 5));
    assert_eq!(domain.live.unwrap().cpus, first.cpus);
    hypervisor.start(vm, Generation(2), StartMode::Run).await.unwrap();
    hypervisor.suspend(vm).await.unwrap();
    assert!(matches!(look().await.state, DomainState::Paused(_)), "a start lets nobody go on");
    hypervisor.resume(vm).await.unwrap();
    hypervisor.resume(vm).await.unwrap();
    assert_eq!(look().await.state, DomainState::Running);
    hypervisor.suspend(vm).await.unwrap();
    heard(&mut events, vm, Happening::Paused).await;
    assert!(matches!(look().await.state, DomainState::Paused(_)));
    hypervisor.force_stop(vm).await.unwrap();

    // What belongs to somebody else is not there, and cannot be touched.
    let foreign = spec(stage, 77, 1);
    stage.add_foreign(&foreign).await;
    assert!(hypervisor.find(foreign.vm).await.unwrap().is_none());
    assert_eq!(hypervisor.list().await.unwrap().len(), 2);
    for refused in [
        hypervisor.define(&foreign).await,
        hypervisor.start(foreign.vm, Generation(1), StartMode::Run).await,
        hypervisor.shutdown(foreign.vm).await,
        hypervisor.force_stop(foreign.vm).await,
        hypervisor.undefine(foreign.vm).await,
        hypervisor.suspend(foreign.vm).await,
        hypervisor.resume(foreign.vm).await,
        hypervisor.adjust(foreign.vm, &CPU).await,
        hypervisor.console(foreign.vm).await.map(drop),
        hypervisor.screen(foreign.vm).await.map(drop),
    ] {
        assert!(matches!(refused, Err(HypervisorError::Foreign(id)) if id == foreign.vm), "{refused:?}");
    }
    assert!(stage.foreign_runs(foreign.vm).await);
    stage.remove_foreign(foreign.vm).await;

    // Gone.
    for vm in [vm, second.vm] {
        hypervisor.undefine(vm).await.unwrap();
        assert!(hypervisor.find(vm).await.unwrap().is_none());
    }
    assert!(hypervisor.list().await.unwrap().is_empty());
    heard(&mut events, vm, Happening::Definition).await;
}

/// What is connected to a guest greets, and ends with the guest.
async fn lines(stage: &dyn Stage, greet: impl FnOnce(VmId)) {
    let hypervisor = stage.hypervisor();
    let spec = spec(stage, 14, 1);
    hypervisor.define(&spec).await.unwrap();
    hypervisor.start(spec.vm, Generation(1), StartMode::Run).await.unwrap();
    let mut console = hypervisor.console(spec.vm).await.unwrap().unwrap();
    let mut screen = hypervisor.screen(spec.vm).await.unwrap().unwrap();
    greet(spec.vm);
    let mut greeting = [0; 12];
    within(screen.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"RFB 003.008\n");
    console.write_all(b"x").await.unwrap();
    hypervisor.force_stop(spec.vm).await.unwrap();
    for line in [&mut console, &mut screen] {
        // Whatever was said before, it ends.
        while within(line.read(&mut [0; 4096])).await.is_ok_and(|count| count > 0) {}
    }
    assert!(hypervisor.console(spec.vm).await.unwrap().is_none());
    hypervisor.undefine(spec.vm).await.unwrap();
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}

struct FakeStage(FakeHypervisor);

#[async_trait]
impl Stage for FakeStage {
    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.0
    }
    async fn add_foreign(&self, spec: &DomainSpec) {
        self.0.add_foreign(spec.vm);
    }
    async fn foreign_runs(&self, vm: VmId) -> bool {
        self.0.state(vm) == Some(DomainState::Running)
    }
    async fn remove_foreign(&self, _: VmId) {}
    fn dir(&self) -> &Path {
        Path::new("/tmp")
    }
    fn network(&self) -> String {
        "fake".to_owned()
    }
}

struct LibvirtStage {
    ours: Libvirt,
    theirs: Libvirt,
    dir: tempfile::TempDir,
    network: String,
}

impl LibvirtStage {
    fn new(uri: &str, network: &str) -> Self {
        let open = |cluster| Libvirt::start(config(uri, ClusterId::from_random([cluster; 16]))).unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { ours: open(1), theirs: open(2), dir, network: network.to_owned() }
    }

    /// The one that the environment names, and its URI.
    fn real() -> (Self, String) {
        let uri = std::env::var("WAIFUD_TEST_LIBVIRT_URI").unwrap();
        let network = std::env::var("WAIFUD_TEST_LIBVIRT_NETWORK").unwrap_or_else(|_| "default".to_owned());
        (Self::new(&uri, &network), uri)
    }
}

fn config(uri: &str, cluster: ClusterId) -> LibvirtConfig {
    LibvirtConfig { uri: uri.to_owned(), ..LibvirtConfig::system(cluster) }
}

#[async_trait]
impl Stage for LibvirtStage {
    fn hypervisor(&self) -> &dyn Hypervisor {
        &self.ours
    }
    async fn add_foreign(&self, spec: &DomainSpec) {
        self.theirs.define(spec).await.unwrap();
        self.theirs.start(spec.vm, spec.generation, StartMode::Run).await.unwrap();
    }
    async fn foreign_runs(&self, vm: VmId) -> bool {
        self.theirs.find(vm).await.unwrap().is_some_and(|domain| domain.state == DomainState::Running)
    }
    async fn remove_foreign(&self, vm: VmId) {
        self.theirs.force_stop(vm).await.unwrap();
        self.theirs.undefine(vm).await.unwrap();
    }
    fn dir(&self) -> &Path {
        self.dir.path()
    }
    fn network(&self) -> String {
        self.network.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn the_fake_keeps_the_contract() {
    let fake = FakeHypervisor::default();
    fake.keep_time(Arc::new(SystemClock));
    contract(&FakeStage(fake)).await;
}

#[tokio::test]
async fn the_fake_s_guests_have_a_serial_port_and_a_screen() {
    let fake = FakeHypervisor::default();
    let stage = FakeStage(fake.clone());
    lines(&stage, move |vm| {
        tokio::spawn(async move {
            let mut screen = fake.take_screen(vm).unwrap();
            screen.write_all(b"RFB 003.008\n").await.unwrap();
        });
    })
    .await;
}

#[tokio::test]
async fn libvirts_mock_driver_keeps_the_contract() {
    contract(&LibvirtStage::new("test:///default", "default")).await;
}

#[tokio::test]
#[ignore = "needs a real libvirt, named by WAIFUD_TEST_LIBVIRT_URI"]
async fn a_real_libvirt_keeps_the_contract() {
    contract(&LibvirtStage::real().0).await;
}

#[tokio::test]
#[ignore = "needs a real libvirt, named by WAIFUD_TEST_LIBVIRT_URI"]
async fn guests_of_a_real_libvirt_have_a_serial_port_and_a_screen() {
    lines(&LibvirtStage::real().0, |_| ()).await;
}

/// With `WAIFUD_TEST_LIBVIRTD_PID_FILE` too, where that libvirtd says which process it is: it is stopped for a while.
#[tokio::test]
#[ignore = "stops the libvirtd named by WAIFUD_TEST_LIBVIRTD_PID_FILE for some seconds"]
async fn a_real_libvirt_that_hangs_comes_back() {
    let pid = std::fs::read_to_string(std::env::var("WAIFUD_TEST_LIBVIRTD_PID_FILE").unwrap()).unwrap();
    let (stage, uri) = LibvirtStage::real();
    let deadline = Duration::from_secs(2);
    let patient = config(&uri, ClusterId::from_random([1; 16]));
    let libvirt = Libvirt::start(LibvirtConfig { look: deadline, ..patient }).unwrap();
    let guest = spec(&stage, 33, 1);
    libvirt.define(&guest).await.unwrap();
    libvirt.start(guest.vm, Generation(1), StartMode::Run).await.unwrap();
    let before = libvirt.list().await.unwrap();
    let mut events = libvirt.events();

    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let hung = libvirt.list().await;
    let again = libvirt.list().await;
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    for silent in [hung, again] {
        assert!(matches!(silent, Err(HypervisorError::Hung { .. })), "{silent:?}");
    }
    let mut health = libvirt.health();
    let answers = async {
        // A call is what starts the new thread, and the new connection announces itself.
        while libvirt.list().await.is_err() {}
        health.wait_for(Health::is_up).await.unwrap();
        while events.recv().await.unwrap().what != Happening::Reconnected {}
    };
    tokio::time::timeout(Duration::from_secs(20), answers).await.unwrap();
    assert_eq!(libvirt.list().await.unwrap(), before, "the guest did not notice");

    libvirt.force_stop(guest.vm).await.unwrap();
    libvirt.undefine(guest.vm).await.unwrap();
}

#[tokio::test]
async fn a_libvirt_that_is_away_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("qemu+unix:///system?socket={}", dir.path().join("none").display());
    let libvirt = Libvirt::start(config(&uri, ClusterId::default())).unwrap();
    let error = libvirt.list().await.unwrap_err();
    let HypervisorError::Unavailable(cause) = &error else { panic!("{error:?}") };
    assert!(error.is_silence());
    assert!(cause.to_string().contains("is libvirtd running?"), "{cause}");
    let mut health = libvirt.health();
    let down = |health: &Health| matches!(health, Health::Down(_));
    tokio::time::timeout(Duration::from_secs(20), health.wait_for(down)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_libvirt_that_hangs_is_given_up_again_and_again_but_not_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    // Connections wait in its backlog; nobody ever answers them.
    let _listener = UnixListener::bind(&socket).unwrap();
    let deadline = Duration::from_millis(200);
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let config = LibvirtConfig { look: deadline, change: deadline, ..config(&uri, ClusterId::default()) };
    let libvirt = Libvirt::start(config).unwrap();
    for _ in 0..8 {
        // Several at once: those that wait in the queue are not left behind.
        let (a, b) = tokio::join!(libvirt.list(), libvirt.find(VmId::from_random([1; 16])));
        for error in [a.unwrap_err(), b.unwrap_err()] {
            assert!(matches!(error, HypervisorError::Hung { .. }), "{error:?}");
        }
    }
    assert!(matches!(&*libvirt.health().borrow(), Health::Hung { .. }));
    let threads = std::fs::read_dir("/proc/self/task").unwrap().filter(|task| {
        let name = std::fs::read_to_string(task.as_ref().unwrap().path().join("comm")).unwrap_or_default();
        name.starts_with("libvirt-look")
    });
    assert!((1..=5).contains(&threads.count()), "threads that hang are bounded");
}

#[tokio::test]
async fn many_domains_are_one_question() {
    let stage = LibvirtStage::new("test:///default", "default");
    for seed in 1..=100 {
        stage.ours.define(&spec(&stage, seed, 1)).await.unwrap();
    }
    let listed = stage.ours.list().await.unwrap();
    assert_eq!(listed.len(), 100);
    assert!(listed.is_sorted_by_key(|domain| domain.vm));
    assert!(stage.theirs.list().await.unwrap().is_empty());
}

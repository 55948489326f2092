//! What a running guest takes up, seen from inside: CPUs, memory, disks, cards, a CD; and UEFI. Ignored tests that the lab runs
//! on a real libvirt with QEMU: the one that `WAIFUD_TEST_LIBVIRT_URI` names, with the image `WAIFUD_TEST_TINY`, the network
//! `WAIFUD_TEST_LIBVIRT_NETWORK`, and a bridge that the test makes and removes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::{net::Ipv4Addr, path::Path, process::Command, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use waifud_cloudinit::{Documents, Instance, seed};
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit},
    hardware::{CpuModel, Firmware},
    ids::{ClusterId, Generation, VmId},
    node::Arch,
    size::ByteSize,
    template::ImageFormat,
    time::Timestamp,
    vm::Mac,
};
use waifud_node::hypervisor::{
    Accel, Adjustment, Boot, Card, Cpus, Disk, DiskCache, DomainSpec, DomainState, Drive, ExtraDisk, Hypervisor,
    HypervisorError, Libvirt, LibvirtConfig, Line, Live, LiveCard, Machine, Memory, Nic, Smbios, StartMode,
};

/// Emulated guests on a busy machine take their time.
const SOON: Duration = Duration::from_secs(120);
/// A guest that runs echoes what is typed much sooner.
const QUIET: Duration = Duration::from_secs(1);
const BRIDGE: &str = "br-waifud-t";
const OTHER_BRIDGE: &str = "br-waifud-u";

/// Runs a program of the host and gives what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

/// A real hypervisor, and a place for disks.
struct Stage {
    libvirt: Libvirt,
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let cluster = ClusterId::from_random([1; 16]);
        let config = LibvirtConfig { uri: env("WAIFUD_TEST_LIBVIRT_URI"), ..LibvirtConfig::system(cluster) };
        Self { libvirt: Libvirt::start(config).unwrap(), dir: tempfile::tempdir().unwrap() }
    }

    /// An empty disk, or one that begins as another.
    fn disk(&self, name: &str, base: Option<&str>, size: &str) -> Disk {
        let path = self.dir.path().join(format!("{name}.qcow2"));
        let base = base.map(|base| vec!["-F", "qcow2", "-b", base]).unwrap_or_default();
        run("qemu-img", &[&["create", "-q", "-f", "qcow2"][..], &base, &[path.to_str().unwrap(), size]].concat());
        Disk { path, format: ImageFormat::Qcow2, cache: DiskCache::Writeback }
    }

    fn spec(&self, seed: u8, disk: Disk) -> DomainSpec {
        let ip = Ipv4Addr::new(10, 77, 1, seed);
        DomainSpec {
            vm: VmId::from_random([seed; 16]),
            generation: Generation(1),
            title: format!("web-{seed}").parse().unwrap(),
            cpus: Cpus { current: 1, most: 3 },
            memory: Memory { current: ByteSize::mib(192), most: ByteSize::mib(256) },
            disk,
            nic: Nic {
                mac: Mac::of(ip),
                ip,
                network: env("WAIFUD_TEST_LIBVIRT_NETWORK"),
                filter: "clean-traffic".to_owned(),
                mtu: 1420,
            },
            serial_log: self.dir.path().join(format!("{seed}.log")),
            accel: Accel::Tcg,
            arch: Arch::X86_64,
            machine: Machine::Q35,
            agent: true,
            smbios: Smbios {
                manufacturer: "waifud".to_owned(),
                product: "waifud VM".to_owned(),
                serial: "ds=nocloud".to_owned(),
            },
            seed: None,
            firmware: Firmware::Bios,
            cpu_model: CpuModel::default(),
            disks: Vec::new(),
            cd: None,
            drive: Drive::Virtio,
            cards: Vec::new(),
            boot: Boot { reboots: 1, disk_life: 3 },
        }
    }

    async fn start(&self, spec: &DomainSpec) {
        self.libvirt.define(spec).await.unwrap();
        self.libvirt.start(spec.vm, spec.generation, StartMode::Run).await.unwrap();
    }

    async fn live(&self, vm: VmId) -> Live {
        self.until("what the guest has is told", async || self.libvirt.find(vm).await.unwrap().unwrap().live).await
    }

    async fn adjust(&self, vm: VmId, adjustment: Adjustment) {
        self.libvirt.adjust(vm, &adjustment).await.unwrap_or_else(|e| panic!("{adjustment:?}: {e:?}"));
    }

    async fn waits(&self, vm: VmId, adjustment: Adjustment) -> String {
        match self.libvirt.adjust(vm, &adjustment).await {
            Err(error @ HypervisorError::NotLive { .. }) => error.to_string(),
            other => panic!("{adjustment:?}: {other:?}"),
        }
    }

    async fn refuses(&self, vm: VmId, adjustment: Adjustment) -> String {
        match self.libvirt.adjust(vm, &adjustment).await {
            Err(HypervisorError::Refused { source, .. }) => source.to_string(),
            other => panic!("{adjustment:?}: {other:?}"),
        }
    }

    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
    }

    async fn remove(&self, vm: VmId) {
        self.libvirt.force_stop(vm).await.unwrap();
        self.libvirt.undefine(vm).await.unwrap();
    }
}

/// The shell on a guest's serial port.
struct Shell(Box<dyn Line>);

impl Shell {
    async fn open(stage: &Stage, vm: VmId) -> Self {
        let mut shell = Self(stage.libvirt.console(vm).await.unwrap().unwrap());
        // What starts the network writes on the console too, in whatever order, and would do so amid what is typed.
        let mut seen = String::new();
        for text in ["activate this console", "READY "] {
            if !seen.contains(text) {
                seen += &shell.sees(text).await;
            }
        }
        shell.0.write_all(b"\n").await.unwrap();
        shell.sees("# ").await;
        shell.run("dmesg -n 1").await;
        shell
    }

    /// Reads until the text comes, and gives what came before it.
    async fn sees(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let read = async {
            while !seen.ends_with(text.as_bytes()) {
                seen.push(self.0.read_u8().await.unwrap());
            }
        };
        let done = timeout(SOON, read).await;
        let mut seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(done.is_ok(), "never {text:?}: {seen}");
        seen.truncate(seen.len() - text.len());
        seen
    }

    /// Reads what was still under way.
    async fn falls_silent(&mut self) {
        while let Ok(byte) = timeout(QUIET, self.0.read_u8()).await {
            byte.unwrap();
        }
    }

    /// Runs a command there and gives what it printed.
    async fn run(&mut self, command: &str) -> String {
        // Split, so that the echo of what is typed is not taken for its beginning or end.
        self.0.write_all(format!("echo BE''GIN; {command}; echo E''ND\n").as_bytes()).await.unwrap();
        self.sees("BEGIN\r\n").await;
        let printed = self.sees("END\r\n").await;
        self.sees("# ").await;
        printed.trim().replace('\r', "")
    }

    async fn number(&mut self, command: &str) -> u64 {
        let printed = self.run(command).await;
        printed.parse().unwrap_or_else(|_| panic!("{command}: {printed:?}"))
    }

    /// Runs a command there until it prints what it should: drivers take a moment.
    async fn until(&mut self, command: &str, expected: &str) {
        let wait = async {
            loop {
                let printed = self.run(command).await;
                if printed == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("never {expected:?} of {command}"));
    }
}

const CPUS: &str = "cat /sys/devices/system/cpu/present";
const MEMORY_KIB: &str = "awk '/MemTotal/ { print $2 }' /proc/meminfo";

#[tokio::test]
#[ignore = "needs a real libvirt, named by WAIFUD_TEST_LIBVIRT_URI"]
async fn a_running_guest_takes_up_what_it_can() {
    let stage = Stage::new();
    let spec = stage.spec(21, stage.disk("root", Some(&env("WAIFUD_TEST_TINY")), "64M"));
    let vm = spec.vm;
    stage.start(&spec).await;
    let mut shell = Shell::open(&stage, vm).await;
    assert_eq!(stage.live(vm).await.cpus, spec.cpus);

    // CPUs come, no more than there is room for; emulated ones do not go.
    stage.adjust(vm, Adjustment::Cpus(3)).await;
    shell.until(CPUS, "0-2").await;
    shell.run("echo 1 > /sys/devices/system/cpu/cpu1/online").await;
    stage.adjust(vm, Adjustment::Cpus(3)).await;
    assert_eq!(stage.live(vm).await.cpus.current, 3);
    assert!(stage.waits(vm, Adjustment::Cpus(1)).await.contains("emulates"));
    assert!(stage.waits(vm, Adjustment::Cpus(4)).await.contains("room for 3 CPUs"));

    // Memory, as the guest counts it.
    stage
        .until("the balloon is where it was to be from the start", async || {
            (stage.live(vm).await.memory.current == spec.memory.current).then_some(())
        })
        .await;
    let before = shell.number(MEMORY_KIB).await;
    stage.adjust(vm, Adjustment::Memory(ByteSize::mib(144))).await;
    assert_eq!(before - shell.number(MEMORY_KIB).await, 48 << 10);
    stage.adjust(vm, Adjustment::Memory(ByteSize::mib(256))).await;
    assert_eq!(shell.number(MEMORY_KIB).await - before, 64 << 10);
    assert_eq!(stage.live(vm).await.memory.current, ByteSize::mib(256));
    assert!(stage.waits(vm, Adjustment::Memory(ByteSize::mib(512))).await.contains("256 MiB"));

    // A disk is plugged in, grows, and is unplugged; each twice.
    let db = ExtraDisk { slot: 2, serial: "db".parse().unwrap(), disk: stage.disk("db", None, "8M") };
    for _ in 0..2 {
        stage.adjust(vm, Adjustment::Attach(db.clone())).await;
    }
    shell.until("cat /sys/block/vdb/serial", "db").await;
    shell.run("echo mine > /dev/vdb; sync").await;
    let other = ExtraDisk { disk: stage.disk("other", None, "8M"), ..db.clone() };
    assert!(stage.refuses(vm, Adjustment::Attach(other)).await.contains("another disk"));
    for _ in 0..2 {
        stage.adjust(vm, Adjustment::Grow { slot: Some(2), size: ByteSize::mib(24) }).await;
    }
    shell.until("cat /sys/block/vdb/size", &(24u32 << 11).to_string()).await;
    assert!(stage.refuses(vm, Adjustment::Grow { slot: Some(2), size: ByteSize::mib(16) }).await.contains("shrink"));
    stage.adjust(vm, Adjustment::Grow { slot: None, size: ByteSize::mib(96) }).await;
    shell.until("cat /sys/block/vda/size", &(96u32 << 11).to_string()).await;
    let disks: Vec<_> = stage.live(vm).await.disks.into_iter().map(|disk| (disk.slot, disk.size)).collect();
    assert_eq!(disks, [(None, ByteSize::mib(96)), (Some(2), ByteSize::mib(24))]);
    assert!(shell.run("head -c 4 /dev/vdb").await.contains("mine"));
    for _ in 0..2 {
        stage.adjust(vm, Adjustment::Detach { slot: 2 }).await;
    }
    shell.until("ls /sys/block | grep -c vdb", "0").await;

    cds(&stage, vm, &mut shell).await;
    cards(&stage, vm, &mut shell).await;

    // Held still, it does nothing; then it goes on.
    stage.libvirt.suspend(vm).await.unwrap();
    shell.falls_silent().await;
    shell.0.write_all(b"\n").await.unwrap();
    assert!(timeout(QUIET, shell.0.read_u8()).await.is_err());
    stage.libvirt.resume(vm).await.unwrap();
    shell.sees("# ").await;
    assert_eq!(shell.run("echo on").await, "on");

    // Another name is shown at once.
    let spec = DomainSpec { title: "shop-21".parse().unwrap(), ..spec };
    stage.libvirt.define(&spec).await.unwrap();
    let listed = run("virsh", &["--quiet", "-c", &env("WAIFUD_TEST_LIBVIRT_URI"), "list", "--title"]);
    assert!(listed.lines().any(|line| line.contains(&vm.to_string()) && line.contains("shop-21")), "{listed}");

    // None of this was a change of the definition; somebody else's is.
    let domain = stage.libvirt.find(vm).await.unwrap().unwrap();
    assert_eq!((domain.edited, domain.booted, domain.state), (false, spec.boot, DomainState::Running));
    run("virsh", &["--quiet", "-c", &env("WAIFUD_TEST_LIBVIRT_URI"), "desc", "--config", &vm.to_string(), "mine now"]);
    assert!(stage.libvirt.find(vm).await.unwrap().unwrap().edited);
    stage.libvirt.define(&spec).await.unwrap();
    assert!(!stage.libvirt.find(vm).await.unwrap().unwrap().edited);
    stage.remove(vm).await;
}

/// A CD is put in, changed and taken out, and read in the guest. Its kernel is one that was made for clouds.
async fn cds(stage: &Stage, vm: VmId, shell: &mut Shell) {
    let cds = ["first", "second"].map(|name| (name, stage.dir.path().join(format!("{name}.iso"))));
    shell.run("mkdir -p /cd").await;
    for (name, cd) in &cds {
        std::fs::write(cd, iso(name)).unwrap();
        for _ in 0..2 {
            stage.adjust(vm, Adjustment::Cd(Some(cd.clone()))).await;
        }
        assert_eq!(stage.live(vm).await.cd.as_ref(), Some(cd));
        shell.until("mount -t iso9660 -o ro /dev/sr0 /cd 2>&1", "").await;
        let read = shell.run("cat /cd/meta-data").await;
        assert!(read.contains(name), "{read}");
        // While it is read the guest keeps the drive shut.
        let locked = stage.waits(vm, Adjustment::Cd(None)).await;
        assert!(locked.contains("eject the CD there first"), "{locked}");
        assert_eq!(shell.run("umount /cd 2>&1").await, "");
    }
    stage.adjust(vm, Adjustment::Cd(None)).await;
    assert_eq!(stage.live(vm).await.cd, None);
    let empty = shell.run("mount -t iso9660 -o ro /dev/sr0 /cd 2>&1 || echo nothing there").await;
    assert!(empty.ends_with("nothing there"), "{empty}");
}

/// A CD with a file `meta-data` that has `name` in it.
fn iso(name: &str) -> Vec<u8> {
    let ip = Ipv4Addr::new(10, 77, 1, 2);
    seed::image(&Documents::render(&Instance {
        id: VmId::from_random([1; 16]),
        instance: 1,
        name: name.parse().unwrap(),
        ip,
        subnet: "10.77.1.0/24".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 77, 1, 1),
        mac: Mac::of(ip),
        dns: Vec::new(),
        mtu: 1420,
        arch: Arch::X86_64,
        cpus: 1,
        memory: ByteSize::mib(64),
        cloud_init: CloudInit::default(),
        defaults: CloudDefaults::default(),
        node: "n1".parse().unwrap(),
        template: "tiny".parse().unwrap(),
        created_at: Timestamp(0),
    }))
}

/// Cards are plugged in for as long as there is room, and one is unplugged.
async fn cards(stage: &Stage, vm: VmId, shell: &mut Shell) {
    run("ip", &["link", "add", BRIDGE, "type", "bridge"]);
    run("ip", &["link", "set", BRIDGE, "up"]);
    let card = |n| Card { mac: Mac([0x56, 0x54, 10, 77, 1, n]), bridge: BRIDGE.parse().unwrap() };
    for _ in 0..2 {
        stage.adjust(vm, Adjustment::AttachCard(card(1))).await;
    }
    let seen = format!("grep -l {} /sys/class/net/*/address | wc -l", card(1).mac);
    shell.until(&seen, "1").await;
    let on = |bridge: &str| [LiveCard { mac: card(1).mac, bridge: bridge.to_owned() }];
    assert_eq!(stage.live(vm).await.cards, on(BRIDGE));
    assert!(run("ip", &["-o", "link", "show", "master", BRIDGE]).contains("vnet"));
    // To another bridge and back; the guest keeps it.
    run("ip", &["link", "add", OTHER_BRIDGE, "type", "bridge"]);
    let name = shell.run(&format!("grep -l {} /sys/class/net/*/address", card(1).mac)).await;
    for bridge in [OTHER_BRIDGE, OTHER_BRIDGE, BRIDGE] {
        stage.adjust(vm, Adjustment::MoveCard(Card { bridge: bridge.parse().unwrap(), ..card(1) })).await;
        assert_eq!(stage.live(vm).await.cards, on(bridge));
        let other = if bridge == BRIDGE { OTHER_BRIDGE } else { BRIDGE };
        assert!(run("ip", &["-o", "link", "show", "master", bridge]).contains("vnet"), "{bridge}");
        assert!(!run("ip", &["-o", "link", "show", "master", other]).contains("vnet"), "{other}");
    }
    assert_eq!(shell.run(&format!("grep -l {} /sys/class/net/*/address", card(1).mac)).await, name);
    assert!(stage.refuses(vm, Adjustment::MoveCard(card(2))).await.contains("no such network card"));
    run("ip", &["link", "delete", OTHER_BRIDGE]);
    for n in 2..=8 {
        stage.adjust(vm, Adjustment::AttachCard(card(n))).await;
    }
    let full = stage.waits(vm, Adjustment::AttachCard(card(9))).await;
    assert!(full.contains("free slots are taken"), "{full}");
    for _ in 0..2 {
        stage.adjust(vm, Adjustment::DetachCard(card(1).mac)).await;
    }
    shell.until(&seen, "0").await;
    assert_eq!(stage.live(vm).await.cards.len(), 7);
    stage.adjust(vm, Adjustment::AttachCard(card(9))).await;
    run("ip", &["link", "delete", BRIDGE]);
}

#[tokio::test]
#[ignore = "needs a real libvirt, named by WAIFUD_TEST_LIBVIRT_URI"]
async fn a_guest_with_everything_starts_by_uefi() {
    let stage = Stage::new();
    let disk = |slot, name: &str| ExtraDisk { slot, serial: name.parse().unwrap(), disk: stage.disk(name, None, "8M") };
    let (cd, seed) = (stage.dir.path().join("cd.iso"), stage.dir.path().join("seed"));
    std::fs::write(&cd, vec![0; 1 << 20]).unwrap();
    std::fs::write(&seed, vec![0; 1 << 20]).unwrap();
    let spec = DomainSpec {
        firmware: Firmware::Uefi,
        cpu_model: "Nehalem".parse().unwrap(),
        disks: vec![disk(0, "db"), disk(15, "log")],
        cd: Some(cd.clone()),
        seed: Some(seed),
        ..stage.spec(22, stage.disk("empty", None, "8M"))
    };
    let vm = spec.vm;
    stage.start(&spec).await;
    let said = |text: &str| std::fs::read_to_string(&spec.serial_log).is_ok_and(|log| log.contains(text));
    stage.until("the firmware says which boot options it tries", async || said("BdsDxe: ").then_some(())).await;
    let live = stage.live(vm).await;
    assert_eq!((live.firmware, live.cpu_model, live.cd), (Firmware::Uefi, spec.cpu_model.clone(), Some(cd)));
    assert_eq!(live.disks.iter().map(|disk| disk.slot).collect::<Vec<_>>(), [None, Some(0), Some(15)]);
    assert_eq!((live.smbios, live.seed), (spec.smbios.clone(), true));

    // Its firmware's memory of its own goes with it.
    let nvram = format!("/var/lib/libvirt/qemu/nvram/{vm}_VARS.fd");
    assert!(Path::new(&nvram).exists());
    stage.remove(vm).await;
    assert!(!Path::new(&nvram).exists());

    let unknown = DomainSpec { cpu_model: "Skylark".parse().unwrap(), ..spec };
    stage.libvirt.define(&unknown).await.unwrap();
    let error = stage.libvirt.start(vm, Generation(1), StartMode::Run).await.unwrap_err();
    let HypervisorError::Refused { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains("virsh cpu-models"), "{source}");
    stage.remove(vm).await;
}

//! Tests of consoles on guests that exist only in memory.

use super::*;
use crate::{
    console::Consoles,
    faults::lock,
    hypervisor::{
        Accel, Boot, Cpus, Disk, DiskCache, DomainSpec, Drive, Machine, Memory, Nic, Smbios, StartMode,
        fake::{FakeHypervisor, HypervisorOp},
    },
};
use std::{fs::OpenOptions, io::Write as _, net::Ipv4Addr, path::PathBuf};
use tokio::{io::DuplexStream, time::timeout};
use waifud_api::console::{Replay, Size};
use waifud_model::{
    hardware::{CpuModel, Firmware},
    ids::Generation,
    node::Arch,
    size::ByteSize,
    template::ImageFormat,
    vm::Mac,
};
use waifud_web::console::Said;

const SOON: Duration = Duration::from_secs(20);

struct House {
    fake: FakeHypervisor,
    consoles: Consoles,
    logs: SerialLogs,
    vm: VmId,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl House {
    /// A node with a guest that runs.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (fake, stop) = (FakeHypervisor::default(), CancellationToken::new());
        let logs = SerialLogs::new(dir.path().to_owned());
        let node = "n1".parse().unwrap();
        let consoles = Consoles::start(node, Arc::new(fake.clone()), logs.clone(), stop.clone());
        let spec = spec();
        fake.define(&spec).await.unwrap();
        fake.start(spec.vm, Generation(1), StartMode::Run).await.unwrap();
        Self { fake, consoles, logs, vm: spec.vm, stop, _dir: dir }
    }

    async fn attach(&self, who: &str, change: impl FnOnce(&mut Who)) -> Result<Ends, ConsoleError> {
        let mut viewer = Who {
            vm: "web-1".parse().unwrap(),
            who: who.to_owned(),
            take: false,
            read_only: false,
            replay: Replay::Text,
        };
        change(&mut viewer);
        timeout(SOON, self.consoles.attach(self.vm, viewer)).await.unwrap().map(Ends)
    }

    async fn looks(&self, who: &str) -> Ends {
        self.attach(who, |_| ()).await.unwrap()
    }

    fn guest(&self) -> DuplexStream {
        self.fake.take_console(self.vm).unwrap()
    }

    /// As QEMU does, beside what it sends over the port.
    fn log(&self, text: &str) {
        let log = OpenOptions::new().create(true).append(true).open(self.logs.path(self.vm));
        log.unwrap().write_all(text.as_bytes()).unwrap();
    }

    async fn hubs(&self, count: usize) {
        timeout(SOON * 10, async {
            while lock(&self.consoles.hubs).len() != count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }
}

fn spec() -> DomainSpec {
    let ip = Ipv4Addr::new(10, 77, 2, 14);
    DomainSpec {
        vm: VmId::from_random([2; 16]),
        generation: Generation(1),
        title: "web-1".parse().unwrap(),
        cpus: Cpus { current: 1, most: 1 },
        memory: Memory { current: ByteSize::mib(64), most: ByteSize::mib(64) },
        disk: Disk { path: PathBuf::from("/a"), format: ImageFormat::Raw, cache: DiskCache::None },
        nic: Nic { mac: Mac::of(ip), ip, network: String::new(), filter: String::new(), mtu: 1420 },
        serial_log: PathBuf::from("/b"),
        accel: Accel::Tcg,
        arch: Arch::X86_64,
        machine: Machine::Q35,
        agent: false,
        smbios: Smbios { manufacturer: String::new(), product: String::new(), serial: String::new() },
        seed: None,
        firmware: Firmware::Bios,
        cpu_model: CpuModel::default(),
        disks: Vec::new(),
        cd: None,
        drive: Drive::Plain,
        cards: Vec::new(),
        boot: Boot::default(),
    }
}

/// A viewer's side.
struct Ends(Attached);

impl Ends {
    async fn said(&mut self) -> Option<Said> {
        timeout(SOON, self.0.output.recv()).await.expect("something is said in time")
    }

    async fn told(&mut self) -> FromConsole {
        match self.said().await {
            Some(Said::Told(told)) => told,
            other => panic!("not a word but {other:?}"),
        }
    }

    async fn greeted(&mut self) -> Seat {
        match self.told().await {
            FromConsole::Hello { vm, node, seat } => {
                assert_eq!((vm.as_str(), node.as_str()), ("web-1", "n1"));
                seat
            }
            other => panic!("no greeting but {other:?}"),
        }
    }

    async fn seat(&mut self) -> Seat {
        match self.told().await {
            FromConsole::Seat { seat } => seat,
            other => panic!("not about the seat but {other:?}"),
        }
    }

    /// Bytes until they end like this.
    async fn sees(&mut self, end: &str) -> String {
        let mut seen = String::new();
        while !seen.ends_with(end) {
            match self.said().await {
                Some(Said::Bytes(bytes)) => seen += &String::from_utf8_lossy(&bytes),
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen
    }

    async fn types(&self, text: &str) {
        self.0.input.send(Heard::Bytes(Bytes::copy_from_slice(text.as_bytes()))).await.unwrap();
    }

    async fn says(&self, told: ToConsole) {
        self.0.input.send(Heard::Told(told)).await.unwrap();
    }
}

fn taken(by: &str) -> Seat {
    Seat::Taken { by: by.to_owned() }
}

async fn hears(guest: &mut DuplexStream, text: &str) {
    let mut heard = vec![0; text.len()];
    timeout(SOON, guest.read_exact(&mut heard)).await.expect("it is typed in time").unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), text);
}

#[tokio::test]
async fn several_read_and_one_writes() {
    let house = House::new().await;
    let mut first = house.looks("anna").await;
    assert_eq!(first.greeted().await, Seat::Yours);
    let mut guest = house.guest();
    guest.write_all(b"login: ").await.unwrap();
    assert_eq!(first.sees("login: ").await, "login: ");

    let mut second = house.looks("bert").await;
    assert_eq!(second.greeted().await, taken("anna"));
    assert_eq!(second.sees("login:\n").await, "login:\n", "the screen as it is");
    first.types("root\r").await;
    hears(&mut guest, "root\r").await;
    guest.write_all(b"root\r\n# ").await.unwrap();
    assert_eq!(first.sees("# ").await, second.sees("# ").await);

    // Once told that it goes nowhere, not for every key.
    second.types("rm").await;
    second.types(" -rf").await;
    assert_eq!(second.seat().await, taken("anna"));
    second.says(ToConsole::Take).await;
    assert_eq!(second.seat().await, Seat::Yours);
    assert_eq!(first.seat().await, taken("bert"));
    second.types("ls\r").await;
    hears(&mut guest, "ls\r").await;

    // Whoever types first has the seat when it is free.
    drop(second);
    assert_eq!(first.seat().await, Seat::Free);
    first.types("w\r").await;
    assert_eq!(first.seat().await, Seat::Yours);
    hears(&mut guest, "w\r").await;

    let mut third = house.attach("carl", |who| who.take = true).await.unwrap();
    assert_eq!(third.greeted().await, Seat::Yours);
    assert_eq!(first.seat().await, taken("carl"));
}

#[tokio::test]
async fn who_only_reads_never_writes() {
    let house = House::new().await;
    let mut reader = house.attach("anna", |who| (who.read_only, who.take) = (true, true)).await.unwrap();
    assert_eq!(reader.greeted().await, Seat::Free);
    reader.types("x").await;
    assert_eq!(reader.seat().await, Seat::Free);
    reader.says(ToConsole::Take).await;
    let mut writer = house.looks("bert").await;
    assert_eq!(writer.greeted().await, Seat::Yours);
    assert_eq!(reader.seat().await, taken("bert"));
    let mut guest = house.guest();
    writer.types("y").await;
    hears(&mut guest, "y").await;
}

#[tokio::test]
async fn a_slow_viewer_loses_output_and_is_told() {
    let house = House::new().await;
    let mut slow = house.attach("slow", |who| who.replay = Replay::Screen).await.unwrap();
    let mut quick = house.looks("quick").await;
    slow.greeted().await;
    quick.greeted().await;
    let mut guest = house.guest();
    let (mut sent, mut seen) = (0, 0);
    // Far more than waits for one viewer; the other has it all.
    for n in 0..2000 {
        let line = format!("line {n:04} {}\r\n", "x".repeat(990));
        guest.write_all(line.as_bytes()).await.unwrap();
        sent += line.len();
        while seen < sent {
            match quick.said().await.unwrap() {
                Said::Bytes(bytes) => seen += bytes.len(),
                Said::Told(told) => panic!("{told:?}"),
            }
        }
    }
    let (mut heard, mut lost) = (0, None);
    let mut after = Vec::new();
    while lost.is_none() || !String::from_utf8_lossy(&after).contains("line 1999") {
        match slow.said().await.unwrap() {
            Said::Bytes(bytes) if lost.is_none() => heard += bytes.len(),
            Said::Bytes(bytes) => after.extend_from_slice(&bytes),
            Said::Told(FromConsole::Lost { bytes }) => lost = Some(bytes),
            Said::Told(FromConsole::Seat { .. } | FromConsole::Power { on: true }) => {}
            Said::Told(other) => panic!("{other:?}"),
        }
    }
    // The greeting of a screen is bytes too.
    assert!(heard as u64 + lost.unwrap() >= sent as u64, "{heard} and {lost:?} of {sent}");
    assert!(lost.unwrap() > 0);
    guest.write_all(b"on it goes").await.unwrap();
    slow.sees("on it goes").await;
}

#[tokio::test]
async fn a_guest_that_does_not_read_holds_up_nobody() {
    let house = House::new().await;
    let mut first = house.looks("anna").await;
    first.greeted().await;
    let mut guest = house.guest();
    // More than the port takes; what is typed then waits at the viewer.
    let input = first.0.input.clone();
    let flood = tokio::spawn(async move {
        for _ in 0..64 {
            if input.send(Heard::Bytes(Bytes::from(vec![b'x'; 4096]))).await.is_err() {
                return;
            }
        }
    });
    let mut second = house.looks("bert").await;
    assert_eq!(second.greeted().await, taken("anna"));
    guest.write_all(b"busy").await.unwrap();
    first.sees("busy").await;
    second.sees("busy").await;
    second.says(ToConsole::Take).await;
    assert_eq!(second.seat().await, Seat::Yours);
    second.types("\x03").await;
    // What the first had typed and the port has taken comes first.
    timeout(SOON, async { while guest.read_u8().await.unwrap() != 3 {} }).await.unwrap();
    flood.abort();
}

#[tokio::test]
async fn one_who_vanishes_while_the_guest_does_not_read_leaves_the_seat() {
    let house = House::new().await;
    let mut first = house.looks("anna").await;
    first.greeted().await;
    let _guest = house.guest();
    for _ in 0..4 {
        first.types(&"x".repeat(4096)).await;
    }
    let mut second = house.looks("bert").await;
    second.greeted().await;
    drop(first);
    assert_eq!(second.seat().await, Seat::Free);
}

#[tokio::test]
async fn it_ends_with_the_guest_and_comes_back_with_it() {
    let house = House::new().await;
    house.log("boot 1\r\n");
    let mut viewer = house.looks("anna").await;
    viewer.greeted().await;
    assert_eq!(viewer.sees("boot 1\n").await, "boot 1\n", "what was written before anybody looked");
    let mut guest = house.guest();
    house.log("# ");
    guest.write_all(b"# ").await.unwrap();
    viewer.sees("# ").await;

    house.fake.power_off_inside(house.vm);
    drop(guest);
    assert_eq!(viewer.told().await, FromConsole::Power { on: false });
    assert!(matches!(house.attach("bert", |_| ()).await, Err(ConsoleError::Off)));
    viewer.types("is anybody there?").await;

    // What it writes before the port is open again is in the log only.
    house.logs.begin(house.vm).unwrap();
    house.log("boot 2\r\n");
    house.fake.start(house.vm, Generation(2), StartMode::Run).await.unwrap();
    assert_eq!(viewer.told().await, FromConsole::Power { on: true });
    assert_eq!(viewer.sees("boot 2\r\n").await, "boot 2\r\n");
    let mut guest = house.guest();
    viewer.types("root\r").await;
    hears(&mut guest, "root\r").await;
}

#[tokio::test]
async fn its_return_is_found_without_an_event() {
    let house = House::new().await;
    let mut viewer = house.looks("anna").await;
    viewer.greeted().await;
    house.fake.lose_events(true);
    house.fake.crash(house.vm);
    assert_eq!(viewer.told().await, FromConsole::Power { on: false });
    house.fake.start(house.vm, Generation(2), StartMode::Run).await.unwrap();
    assert_eq!(viewer.told().await, FromConsole::Power { on: true });
}

#[tokio::test]
async fn nobody_waits_for_a_hypervisor_that_hangs() {
    let house = House::new().await;
    let mut viewer = house.looks("anna").await;
    viewer.greeted().await;
    let mut guest = house.guest();
    house.fake.faults.hang(HypervisorOp::Console);
    // An open console does not need it, and another viewer is a matter of the hub alone.
    guest.write_all(b"hello").await.unwrap();
    viewer.sees("hello").await;
    house.looks("bert").await.greeted().await;
    house.fake.crash(house.vm);
    drop(guest);
    assert_eq!(viewer.told().await, FromConsole::Power { on: false });
    house.fake.start(house.vm, Generation(2), StartMode::Run).await.unwrap();
    let carl = house.consoles.attach(house.vm, viewer_of("carl"));
    assert!(timeout(Duration::from_millis(200), carl).await.is_err());
    viewer.says(ToConsole::Take).await;
    house.fake.faults.release(HypervisorOp::Console);
    loop {
        if viewer.told().await == (FromConsole::Power { on: true }) {
            break;
        }
    }
}

fn viewer_of(who: &str) -> Who {
    Who { vm: "web-1".parse().unwrap(), who: who.to_owned(), take: false, read_only: false, replay: Replay::None }
}

#[tokio::test]
async fn a_silent_hypervisor_is_told_from_a_guest_that_is_off() {
    let house = House::new().await;
    house.fake.set_down(true);
    assert!(matches!(house.attach("anna", |_| ()).await, Err(ConsoleError::Silent)));
    house.fake.set_down(false);
    house.fake.faults.fail(HypervisorOp::Console, 1);
    assert!(matches!(house.attach("anna", |_| ()).await, Err(ConsoleError::Failed(_))));
    house.looks("anna").await.greeted().await;
}

#[tokio::test(start_paused = true)]
async fn the_port_is_closed_when_nobody_has_looked_for_a_while() {
    let house = House::new().await;
    let mut viewer = house.looks("anna").await;
    viewer.greeted().await;
    let mut guest = house.guest();
    guest.write_all(b"before").await.unwrap();
    viewer.sees("before").await;
    drop(viewer);
    tokio::time::sleep(LINGER / 2).await;
    guest.write_all(b" and after").await.unwrap();
    // The clock stands still until nobody has anything to do: the port has been read then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut back = house.looks("anna").await;
    assert_eq!(back.greeted().await, Seat::Yours);
    assert_eq!(back.sees("after\n").await, "before and after\n");
    drop(back);
    let end = timeout(LINGER * 2, guest.read(&mut [0; 8])).await;
    assert_eq!(end.expect("it is closed").unwrap(), 0);
    house.hubs(0).await;
    house.looks("bert").await.greeted().await;
}

#[tokio::test]
async fn viewers_are_bounded_and_all_end_with_the_node() {
    let house = House::new().await;
    let mut all = Vec::new();
    for n in 0..VIEWERS {
        all.push(house.looks(&n.to_string()).await);
    }
    assert!(matches!(house.attach("one more", |_| ()).await, Err(ConsoleError::Full(VIEWERS))));
    house.stop.cancel();
    for mut viewer in all {
        while viewer.said().await.is_some() {}
    }
    house.hubs(0).await;
}

#[tokio::test]
async fn the_screen_is_as_large_as_the_writer_s() {
    let house = House::new().await;
    let mut writer = house.looks("anna").await;
    writer.greeted().await;
    writer.says(ToConsole::Resize(Size { rows: 24, cols: 20 })).await;
    let reader = house.looks("bert").await;
    reader.says(ToConsole::Resize(Size { rows: 24, cols: 10 })).await;
    let mut guest = house.guest();
    let line = "0123456789abcdefghij";
    guest.write_all(format!("{line}\r\n$").as_bytes()).await.unwrap();
    writer.sees("$").await;
    let mut late = house.looks("carl").await;
    late.greeted().await;
    assert_eq!(late.sees("$\n").await, format!("{line}\n$\n"), "not broken into two");
}

//! The lines as text, and a real dnsmasq that has them beside what libvirt writes, between a guest, the name server and
//! an upstream resolver: namespaces, made inside of one that is gone with the test.

use super::{super::layout::example, *};
use crate::names::{
    DEFAULT_LISTEN, NameServer, Zone,
    tests::{Book, ask, question},
};
use expect_test::expect;
use hickory_proto::{
    op::{Message, Metadata, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::UdpSocket;

#[test]
fn the_lines_are_what_they_were_agreed_to_be() {
    expect![[r#"
        dhcp-option=3,10.77.3.1
        dhcp-option=121,169.254.169.254/32,10.77.3.1,0.0.0.0/0,10.77.3.1
        dhcp-option=119,waifu.internal
        dhcp-ignore-names
        no-hosts
        interface=waifu0
        no-dhcp-interface=waifu0
        no-negcache
        server=/waifu.internal/127.0.0.1#7453
        server=/77.10.in-addr.arpa/127.0.0.1#7453"#]]
    .assert_eq(&options(&example()).join("\n"));
}

/// What libvirt writes for our network (11.3, `networkDnsmasqConfContents`).
const LIBVIRTS: &str = "
strict-order
domain=waifu.internal
expand-hosts
except-interface=lo
bind-dynamic
interface=waifubr0
dhcp-range=10.77.3.1,static,255.255.255.0
dhcp-no-override
dhcp-authoritative
dhcp-option=option:mtu,1420
no-resolv
server=127.0.0.1#5399
dhcp-host=52:54:0a:4d:03:02,10.77.3.2
";

/// The host, whose own /etc/hosts knows a `db` too, and a guest on its bridge.
const LANDSCAPE: &str = r#"
mount -t tmpfs none /run; mkdir /run/netns
mount --bind "$HOSTS" /etc/hosts
ip netns add guest
ip netns add laptop
ip link set lo up
ip link add waifubr0 type bridge
ip link add tap0 type veth peer name eth0 netns guest
ip link set tap0 master waifubr0
ip addr add 10.77.3.1/24 dev waifubr0
for link in waifubr0 tap0; do ip link set $link up; done
ip link add waifu0 type veth peer name eth0 netns laptop
ip link set waifu0 up
ip addr add 10.77.3.1/32 dev waifu0
ip route add 10.77.255.2 dev waifu0
ip -n laptop addr add 10.77.255.2/32 dev eth0
ip -n laptop link set eth0 up
ip -n laptop route add 10.77.3.0/24 dev eth0
ip -n guest link set eth0 address 52:54:0a:4d:03:02 up
exec "$@"
"#;

const INSIDE: &str = "WAIFUD_TEST_DNSMASQ";
const NAME: &str = "net::dnsmasq::tests::guests_resolve_every_vm_and_only_as_it_is";
const GATEWAY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 3, 1)), 53);
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn guests_resolve_every_vm_and_only_as_it_is() {
    if let Some(dir) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(inside(Path::new(&dir)));
    }
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n192.0.2.66 db other\n").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-ec", LANDSCAPE, "sh"]).env("HOSTS", hosts);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]).env(INSIDE, dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // "1 passed": had the name changed, nothing would run, and that must not count.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

struct Dnsmasq(Child);

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(dir: &Path) -> Dnsmasq {
    let file = dir.join("dnsmasq.conf");
    let own = format!("log-facility={0}/log\ndhcp-leasefile={0}/leases\n", dir.display());
    std::fs::write(&file, format!("{own}{LIBVIRTS}{}\n", options(&example()).join("\n"))).unwrap();
    let child = Command::new("dnsmasq").arg("--no-daemon").arg(format!("--conf-file={}", file.display())).spawn();
    Dnsmasq(child.unwrap())
}

/// A resolver that knows one address for everything.
async fn upstream() {
    let socket = UdpSocket::bind("127.0.0.1:5399").await.unwrap();
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let request = Message::from_vec(&buffer[..length]).unwrap();
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&request.metadata);
        answer.metadata.recursion_available = true;
        let name = request.queries[0].name().clone();
        answer.queries = request.queries;
        answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(203, 0, 113, 80)))));
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

async fn resolve(name: &str, kind: RecordType) -> String {
    let Some(answer) = ask(GATEWAY, &question(name, kind), PATIENCE).await else { return "silence".to_owned() };
    let data = answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(" ");
    match answer.metadata.response_code {
        ResponseCode::NoError => format!("{data}."),
        code => format!("{code:?}"),
    }
}

/// What a DHCP client that calls itself `db` is given.
async fn lease(dir: &Path) -> String {
    let script = dir.join("leased");
    let text = "#!/bin/sh\n[ $1 != bound ] || echo \"$ip/$mask via $router, $domain, search $search, $dns, mtu $mtu, $staticroutes\"\n";
    std::fs::write(&script, text).unwrap();
    Command::new("chmod").arg("+x").arg(&script).status().unwrap();
    let mut client = tokio::process::Command::new("ip");
    client.args(["netns", "exec", "guest", "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1"]);
    client.args(["-x", "hostname:db", "-O", "search", "-O", "mtu", "-O", "staticroutes", "-s"]).arg(&script);
    let output = client.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

async fn inside(dir: &Path) {
    let book = Arc::new(Book::default());
    book.set("web", "10.77.3.2");
    let serve = || NameServer::start(DEFAULT_LISTEN, Zone::new(example().cluster), book.clone());
    let names = serve().await.unwrap();
    tokio::spawn(upstream());
    let _dnsmasq = start(dir);
    let deadline = Instant::now() + PATIENCE;
    while ask(GATEWAY, &question("web.waifu.internal", RecordType::A), Duration::from_millis(100)).await.is_none() {
        assert!(Instant::now() < deadline, "dnsmasq does not answer: {:?}", std::fs::read_to_string(dir.join("log")));
    }

    // A VM of another node, asked for before it is there.
    for _ in 0..3 {
        assert_eq!(resolve("late.waifu.internal", RecordType::A).await, "NXDomain");
    }
    book.set("late", "10.77.200.9");
    let added = Instant::now();
    assert_eq!(resolve("late.waifu.internal", RecordType::A).await, "10.77.200.9.");
    assert!(added.elapsed() < Duration::from_secs(1), "{:?}", added.elapsed());
    assert_eq!(resolve("9.200.77.10.in-addr.arpa", RecordType::PTR).await, "late.waifu.internal..");
    assert_eq!(resolve("late.waifu.internal", RecordType::AAAA).await, ".", "there, but not in IPv6");

    // Neither the host's /etc/hosts nor what a guest calls itself is a VM's name.
    let given = "10.77.3.2/24 via 10.77.3.1, waifu.internal, search waifu.internal, 10.77.3.1, mtu 1420, \
                 169.254.169.254/32 10.77.3.1 0.0.0.0/0 10.77.3.1";
    assert_eq!(lease(dir).await, given);
    for name in ["db", "other"] {
        assert_eq!(resolve(&format!("{name}.waifu.internal"), RecordType::A).await, "NXDomain", "{name}");
    }
    book.set("db", "10.77.200.10");
    assert_eq!(resolve("db.waifu.internal", RecordType::A).await, "10.77.200.10.");
    assert_eq!(resolve("2.3.77.10.in-addr.arpa", RecordType::PTR).await, "web.waifu.internal..");
    assert_eq!(resolve("example.org", RecordType::A).await, "203.0.113.80.");

    // Through the mesh, too. nslookup asks for both families, and is content with one.
    let laptop = ["netns", "exec", "laptop", "busybox", "nslookup", "-type=a", "db.waifu.internal", "10.77.3.1"];
    let output = tokio::process::Command::new("ip").args(laptop).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("Address: 10.77.200.10"), "{said}");

    // Without waifud: no names of VMs and no wrong ones; all else goes on.
    names.stop().await;
    let absent = question("absent.waifu.internal", RecordType::A);
    let without = ask(GATEWAY, &absent, Duration::from_millis(500)).await;
    assert!(
        without.as_ref().is_none_or(|answer| answer.metadata.response_code == ResponseCode::ServFail),
        "{without:?}"
    );
    assert_eq!(lease(dir).await, given);
    assert_eq!(resolve("example.net", RecordType::A).await, "203.0.113.80.");
    let _names = serve().await.unwrap();
    let back = Instant::now();
    assert_eq!(resolve("db.waifu.internal", RecordType::A).await, "10.77.200.10.");
    assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
}

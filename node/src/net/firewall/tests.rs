//! The ruleset as text, in front of the real `nft`, and in the way of real packets: a guest, the host and a machine
//! outside are network namespaces, made inside of one that is gone with the test.

use super::{super::layout::example, *};
use expect_test::expect_file;
use nix::sys::socket::sockopt::TcpMaxSeg;
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    process::{Child, Command as Process},
};

#[test]
fn the_ruleset_is_what_it_was_agreed_to_be() {
    expect_file!["../goldens/ruleset.nft"].assert_eq(&ruleset(&example()));
}

/// Runs a script with a ruleset as its input, in a network namespace of its own.
fn in_namespace(script: &str, input: &str) -> String {
    let mut child = Process::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-ec", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nft_takes_it_in_every_form() {
    let overlapping = vec!["10.77.5.0/24".parse().unwrap(), "192.168.10.9/24".parse().unwrap()];
    for layout in [
        example(),
        NetworkLayout { no_masquerade: vec![], ..example() },
        NetworkLayout { no_masquerade: overlapping, ..example() },
    ] {
        in_namespace("nft -c -f -", &ruleset(&layout));
    }
}

#[test]
fn it_replaces_itself_and_leaves_others_alone() {
    let rules = ruleset(&example());
    // Twice: the second time there is a table to replace.
    let script = format!(
        "nft add table inet other; for i in 1 2; do nft -f - <<'R'\n{rules}R\ndone
         nft list tables; nft list table inet waifud | grep -c masquerade"
    );
    assert_eq!(in_namespace(&script, ""), "table inet other\ntable inet waifud\n1\n");
}

/// The example's network with a guest in it; a machine outside, which is a stranger at 203.0.113.2, a friend at
/// 192.168.10.2 and the metadata service of the cloud this host is in; and the mesh, with a guest of another node at
/// 10.77.9.2, a laptop at 10.77.255.2 and our own metadata service. Only the mesh's end here has a small MTU.
const LANDSCAPE: &str = r#"
mount -t tmpfs none /run; mkdir /run/netns
for ns in guest outside mesh; do ip netns add $ns; ip -n $ns link set lo up; done
ip link set lo up
ip link add waifubr0 type bridge
ip link add tap0 type veth peer name eth0 netns guest
ip link set tap0 master waifubr0
ip link add up0 type veth peer name eth0 netns outside
ip addr add 10.77.3.1/24 dev waifubr0
ip addr add 203.0.113.1/24 dev up0
ip addr add 192.168.10.1/24 dev up0
ip link add waifu0 mtu 1420 type veth peer name eth0 mtu 9000 netns mesh
ip addr add 10.77.3.1/32 dev waifu0
for link in tap0 waifubr0; do ip link set $link mtu 9000; done
for link in waifubr0 tap0 up0 waifu0; do ip link set $link up; done
ip -n guest link set eth0 mtu 9000
ip -n guest addr add 10.77.3.2/24 dev eth0
ip -n guest addr add 10.99.0.5/24 dev eth0
ip -n outside addr add 203.0.113.2/24 dev eth0
ip -n outside addr add 192.168.10.2/24 dev eth0
for address in 10.77.9.2 10.77.255.2 169.254.169.254; do ip -n mesh addr add $address/32 dev eth0; done
ip -n outside addr add 169.254.169.254/32 dev eth0
for ns in guest outside mesh; do ip -n $ns link set eth0 up; done
ip -n guest route add default via 10.77.3.1 src 10.77.3.2
ip -n outside route add 10.77.3.0/24 via 203.0.113.1 src 203.0.113.2
ip -n outside route add 10.99.0.0/24 via 203.0.113.1
ip route add 10.99.0.0/24 dev waifubr0
ip route add 10.77.0.0/16 dev waifu0 src 10.77.3.1
ip route add 169.254.169.254 via 203.0.113.2
ip route add 169.254.169.254 dev waifu0 table 7744
ip rule add pref 5199 iif waifubr0 to 169.254.169.254 lookup 7744
ip -n mesh route add 10.77.3.0/24 via 10.77.3.1 dev eth0 src 10.77.9.2 onlink
ip -n mesh route add 203.0.113.0/24 via 10.77.3.1 dev eth0 src 10.77.9.2 onlink
ip -n outside route add 10.77.9.0/24 via 203.0.113.1 src 203.0.113.2
for all in all waifu0; do echo 0 > /proc/sys/net/ipv4/conf/$all/rp_filter; done
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f "$RULES"
exec "$@"
"#;

/// What the test is when it runs itself again: unset at first, then `inside`, or `listen` in one of the namespaces.
const ROLE: &str = "WAIFUD_TEST_FIREWALL";
const NAME: &str = "net::firewall::tests::packets_go_where_they_should";

#[test]
fn packets_go_where_they_should() {
    match std::env::var(ROLE).as_deref() {
        Err(_) => outside_of_everything(),
        Ok("listen") => listen(),
        Ok(_) => inside(),
    }
}

fn again(mut command: Process, role: &str) -> Process {
    command.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]).env(ROLE, role);
    command
}

fn outside_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.nft");
    std::fs::write(&rules, ruleset(&example())).unwrap();
    let mut command = Process::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-ec", LANDSCAPE, "sh"]).env("RULES", rules);
    let output = again(command, "inside").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // "1 passed": had the name changed, nothing would run, and that must not count.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Listens on ports 22, 53 and 80, and prints who connects, until it is killed.
fn listen() {
    let listeners = [22, 53, 80].map(|port| TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap());
    let say = |text: String| writeln!(std::io::stdout(), "{text}").unwrap();
    say("listening".to_owned());
    std::thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| {
                for stream in listener.incoming() {
                    let stream = stream.unwrap();
                    let segment = nix::sys::socket::getsockopt(&stream, TcpMaxSeg).unwrap();
                    let size = if segment > 1380 { "large" } else { "small" };
                    say(format!("from {} {size}", stream.peer_addr().unwrap().ip()));
                }
            });
        }
    });
}

/// A process that listens in a namespace, and what it prints.
struct Listener(Child, BufReader<std::process::ChildStdout>);

impl Listener {
    fn start(namespace: Option<&str>) -> Self {
        let mut command = Process::new("env");
        if let Some(namespace) = namespace {
            command = Process::new("ip");
            command.args(["netns", "exec", namespace]);
        }
        let mut child = again(command, "listen").stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut listener = Self(child, stdout);
        listener.wait_for("listening");
        listener
    }

    fn wait_for(&mut self, beginning: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.1.read_line(&mut line).unwrap() > 0, "it ended before {beginning:?}");
            // The test harness prints its own words before ours, on the same line.
            if let Some(at) = line.find(beginning) {
                return line[at..].trim_end().to_owned();
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Can `from` connect? Whoever is refused hears of it at once; the limit is for packets that are dropped.
fn connects(from: &str, to: &str, port: u16) -> bool {
    let script = format!("exec 3<>/dev/tcp/{to}/{port}");
    let output = Process::new("ip").args(["netns", "exec", from, "timeout", "1", "bash", "-c", &script]).output();
    output.unwrap().status.success()
}

fn ip(arguments: &str) {
    assert!(Process::new("ip").args(arguments.split(' ')).status().unwrap().success(), "ip {arguments}");
}

fn inside() {
    let mut host = Listener::start(None);
    let mut outside = Listener::start(Some("outside"));
    let mut guest = Listener::start(Some("guest"));

    assert!(connects("guest", "10.77.3.1", 53), "DNS");
    assert_eq!(host.wait_for("from"), "from 10.77.3.2 large");
    assert!(!connects("guest", "10.77.3.1", 22), "the host's SSH");
    assert!(!connects("guest", "203.0.113.1", 22), "the host's SSH by its other address");
    assert!(!connects("guest", "203.0.113.1", 53), "the host's DNS by its other address");

    assert!(connects("guest", "203.0.113.2", 80), "the world");
    assert_eq!(outside.wait_for("from"), "from 203.0.113.1 large", "under the host's address");
    assert!(!connects("outside", "10.77.3.2", 80), "a stranger to a guest");

    assert!(connects("guest", "192.168.10.2", 80), "a friend");
    assert_eq!(outside.wait_for("from"), "from 10.77.3.2 large", "under the guest's own address");
    ip("-n outside route replace 10.77.3.0/24 via 192.168.10.1 src 192.168.10.2");
    assert!(connects("outside", "10.77.3.2", 80), "a friend to a guest");
    assert_eq!(guest.wait_for("from"), "from 192.168.10.2 large");

    through_the_mesh(&mut host, &mut outside, &mut guest);

    ip("-n guest route replace default via 10.77.3.1 src 10.99.0.5");
    assert!(!connects("guest", "203.0.113.2", 80), "the world under a false address");
}

fn through_the_mesh(host: &mut Listener, outside: &mut Listener, guest: &mut Listener) {
    let mut mesh = Listener::start(Some("mesh"));
    assert!(connects("guest", "10.77.9.2", 80), "a guest of another node");
    assert_eq!(mesh.wait_for("from"), "from 10.77.3.2 small", "under its own address, in segments that fit");
    assert!(connects("guest", "10.77.255.2", 80), "a laptop");
    assert_eq!(mesh.wait_for("from"), "from 10.77.3.2 small");
    assert!(connects("mesh", "10.77.3.2", 80), "a guest of another node to a guest");
    assert_eq!(guest.wait_for("from"), "from 10.77.9.2 small");

    assert!(connects("mesh", "10.77.3.1", 53), "DNS");
    assert_eq!(host.wait_for("from"), "from 10.77.9.2 small");
    assert!(!connects("mesh", "10.77.3.1", 22), "the host's SSH");
    assert!(!connects("mesh", "203.0.113.1", 22), "the host's SSH by its other address");
    assert!(!connects("mesh", "203.0.113.2", 80), "the host's own network");
    assert!(!connects("outside", "10.77.9.2", 80), "a stranger to another node's guest");

    assert!(connects("guest", "169.254.169.254", 80), "metadata");
    assert_eq!(mesh.wait_for("from"), "from 10.77.3.2 small", "under its own address");
    assert!(!connects("guest", "169.254.169.254", 22), "something else at that address");
    ip("rule del pref 5199");
    assert!(!connects("guest", "169.254.169.254", 80), "the metadata of the host's cloud");
    ip("route add 169.254.170.2 via 203.0.113.2");
    ip("-n outside addr add 169.254.170.2/32 dev eth0");
    assert!(!connects("guest", "169.254.170.2", 80), "the credentials of the host's cloud");
    let own = Process::new("bash").args(["-c", "exec 3<>/dev/tcp/169.254.169.254/80"]).status().unwrap();
    assert!(own.success(), "the host keeps its own");
    assert!(outside.wait_for("from").starts_with("from 203.0.113.1"));
}

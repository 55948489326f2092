//! Answers to requests as they are, and the whole way through the stack for what only a connection can show.

use super::*;
use crate::stack::{
    Limits, MTU, Peer, Stack, Stream,
    tests::guest::{Guest, Wire},
};
use axum::{Router, body::Body};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use std::{
    collections::HashMap,
    net::SocketAddrV4,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use waifud_cloudinit::Instance;
use waifud_model::{
    cloud_init::{CloudDefaults, CloudInit, Imds, UserData},
    ids::VmId,
    name::{NodeName, TemplateName, VmName},
    node::Arch,
    size::ByteSize,
    time::Timestamp,
    vm::Mac,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
const LONG: Duration = Duration::from_secs(300);
const SECRET: &[u8] = b"a secret of this node";

fn address(guest: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, guest)
}

pub(crate) fn instance(number: u8, life: u32, imds: Imds) -> Instance {
    let user_data = UserData::new(format!("#cloud-config\n# of {number}\n").into_bytes()).unwrap();
    Instance {
        id: VmId::from_random([number; 16]),
        instance: life,
        name: VmName::new(format!("vm-{number}")).unwrap(),
        ip: address(number),
        subnet: "10.77.0.0/24".parse().unwrap(),
        gateway: address(1),
        mac: Mac::of(address(number)),
        dns: vec![address(1)],
        mtu: 1420,
        arch: Arch::X86_64,
        cpus: 1,
        memory: ByteSize::gib(1),
        cloud_init: CloudInit { user_data: Some(user_data), imds, ..CloudInit::default() },
        defaults: CloudDefaults::default(),
        node: NodeName::new("n1").unwrap(),
        template: TemplateName::new("debian-12").unwrap(),
        created_at: Timestamp(1_760_000_000_000),
    }
}

/// Guests 2 and 3 take any request, guest 4 only those with a token; looking up guest 13 fails, and guest 14 takes for ever.
#[derive(Debug)]
pub(super) struct Few {
    vms: HashMap<Ipv4Addr, Arc<Documents>>,
    asked: Mutex<Vec<Ipv4Addr>>,
    /// Who told that its cloud-init is done, and in which life.
    pub(super) done: Mutex<Vec<(VmId, u32)>>,
    /// Nothing can be noted.
    pub(super) deaf: AtomicBool,
}

impl Few {
    pub(super) fn new(life: u32) -> Arc<Self> {
        let vms = [(2, Imds::Any), (3, Imds::Any), (4, Imds::V2)];
        let vms = vms.map(|(n, imds)| (address(n), Arc::new(Documents::render(&instance(n, life, imds)))));
        Arc::new(Self { vms: vms.into(), asked: Mutex::default(), done: Mutex::default(), deaf: AtomicBool::default() })
    }
}

#[async_trait]
impl Guests for Few {
    async fn by_address(&self, address: Ipv4Addr) -> Result<Option<Arc<Documents>>, GuestsError> {
        match address.octets()[3] {
            13 => Err(GuestsError("the replica is being filled".into())),
            14 => std::future::pending().await,
            _ => Ok(self.vms.get(&address).cloned()),
        }
    }

    fn asked(&self, address: Ipv4Addr) {
        self.asked.lock().unwrap().push(address);
    }

    async fn cloud_init_done(&self, documents: &Documents) -> Result<(), GuestsError> {
        if self.deaf.load(Ordering::Relaxed) {
            return Err(GuestsError("libvirtd is away".into()));
        }
        self.done.lock().unwrap().push((documents.vm(), documents.life()));
        Ok(())
    }
}

fn service(life: u32) -> Router {
    router(Service::new(Few::new(life), Tokens::new(SECRET), Rate::default()))
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    body: String,
}

pub(super) async fn ask_with(
    service: &Router,
    guest: u8,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(Peer(SocketAddrV4::new(address(guest), 4000)));
    let (parts, body) = service.clone().oneshot(request).await.unwrap().into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn ask(service: &Router, guest: u8, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask_with(service, guest, method, path, headers, Body::empty()).await
}

async fn status(service: &Router, guest: u8, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
    ask(service, guest, method, path, headers).await.status.as_u16()
}

pub(super) async fn token(service: &Router, guest: u8) -> String {
    let answer =
        ask(service, guest, "PUT", "/latest/api/token", &[("X-aws-ec2-metadata-token-ttl-seconds", "60")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["x-aws-ec2-metadata-token-ttl-seconds"], "60");
    answer.body
}

#[tokio::test]
async fn each_asker_gets_its_own_documents_in_all_three_forms_whatever_it_says() {
    let service = service(1);
    for guest in [2, 3] {
        let id = format!("vm-{guest}");
        for path in ["/user-data", "/latest/user-data", "/openstack/latest/user_data"] {
            // It may call itself what it wants.
            let lies = [("Host", "10.77.0.2"), ("X-Forwarded-For", "10.77.0.2"), ("Forwarded", "for=10.77.0.2")];
            let answer = ask(&service, guest, "GET", path, &lies).await;
            assert_eq!(
                (answer.status.as_u16(), answer.body),
                (200, format!("#cloud-config\n# of {guest}\n")),
                "{path}"
            );
        }
        let answer = ask(&service, guest, "GET", "/meta-data", &[]).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(answer.body.contains(&id), "{}", answer.body);
        assert!(ask(&service, guest, "GET", "/latest/meta-data/", &[]).await.body.contains("instance-id\n"));
    }
}

#[tokio::test]
async fn strangers_learn_nothing_and_nobody_learns_what_is_not_there() {
    let guests = Few::new(1);
    let service = router(Service::new(guests.clone(), Tokens::new(SECRET), Rate::default()));
    for (method, path) in
        [("GET", "/"), ("GET", "/user-data"), ("PUT", "/latest/api/token"), ("DELETE", "/"), ("GET", "/x")]
    {
        let answer = ask(&service, 99, method, path, &[("X-aws-ec2-metadata-token-ttl-seconds", "60")]).await;
        let plain = answer.headers.keys().all(|name| name == "content-length");
        assert_eq!((answer.status.as_u16(), answer.body.as_str(), plain), (404, "", true), "{method} {path}");
    }
    assert!(guests.asked.lock().unwrap().is_empty());
    for path in
        ["/x", "/latest/user-data/../../etc", "/latest/meta-data/%69nstance-id", "/openstack/1999-01-01", "/vm-3"]
    {
        assert_eq!(status(&service, 2, "GET", path, &[]).await, 404, "{path}");
    }
    assert_eq!(*guests.asked.lock().unwrap(), [address(2); 5]);
}

#[tokio::test]
async fn only_get_head_and_the_put_for_a_token_are_taken() {
    let service = service(1);
    for method in ["POST", "DELETE", "PATCH", "PUT", "OPTIONS"] {
        let answer = ask(&service, 2, method, "/user-data", &[]).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["allow"]),
            (405, &"GET, HEAD".parse().unwrap()),
            "{method}"
        );
    }
    assert_eq!(ask(&service, 2, "GET", "/latest/api/token", &[]).await.headers["allow"], "PUT");
    assert_eq!(status(&service, 2, "HEAD", "/user-data", &[]).await, 200);
    let ttl = [("X-aws-ec2-metadata-token-ttl-seconds", "60")];
    for (method, path, size, expected) in [
        ("GET", "/user-data", 1, 413),
        ("PUT", "/latest/api/token", 1024, 200),
        ("PUT", "/latest/api/token", 1025, 413),
    ] {
        let answer = ask_with(&service, 2, method, path, &ttl, Body::from(vec![b'x'; size])).await;
        assert_eq!(answer.status.as_u16(), expected, "{method} {size}");
    }
}

#[tokio::test]
async fn a_token_is_given_as_ec2_gives_it() {
    let service = service(1);
    for (ttl, expected) in [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("-1", 400), ("x", 400), ("", 400)]
    {
        let headers = [("X-aws-ec2-metadata-token-ttl-seconds", ttl)];
        assert_eq!(status(&service, 2, "PUT", "/latest/api/token", &headers).await, expected, "{ttl}");
    }
    assert_eq!(status(&service, 2, "PUT", "/latest/api/token", &[]).await, 400);
    let forwarded = [("X-aws-ec2-metadata-token-ttl-seconds", "60"), ("X-Forwarded-For", "10.0.0.1")];
    assert_eq!(status(&service, 2, "PUT", "/latest/api/token", &forwarded).await, 403);
}

#[tokio::test]
async fn a_token_is_good_for_its_vm_in_this_life_and_after_a_restart() {
    let here = service(1);
    let of_two = token(&here, 2).await;
    let with = |token: &str| [("X-aws-ec2-metadata-token", token.to_owned())];
    for (service, guest, token, expected) in [
        (&here, 2, of_two.clone(), 200),
        // waifud was started again.
        (&service(1), 2, of_two.clone(), 200),
        // Somebody else's, and the next life's.
        (&here, 3, of_two.clone(), 401),
        (&service(2), 2, of_two.clone(), 401),
        // Another node's secret.
        (&router(Service::new(Few::new(1), Tokens::new(b"other"), Rate::default())), 2, of_two.clone(), 401),
        (&here, 2, format!("{of_two}A"), 401),
        (&here, 2, of_two[1..].to_owned(), 401),
        (&here, 2, "A".repeat(54), 401),
        (&here, 2, "A".repeat(9000), 401),
        (&here, 2, String::new(), 401),
    ] {
        let headers = with(&token);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(status(service, guest, "GET", "/latest/meta-data/", &headers).await, expected, "{guest} {token}");
    }
}

#[test]
fn a_token_ends() {
    let (tokens, guest) = (Tokens::new(SECRET), Documents::render(&instance(2, 1, Imds::V2)));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let token = tokens.issue(&guest, 60, now);
    assert!(tokens.holds(token.as_bytes(), &guest, now + Duration::from_secs(59)));
    assert!(!tokens.holds(token.as_bytes(), &guest, now + Duration::from_secs(60)));
}

#[tokio::test]
async fn a_vm_that_requires_tokens_shows_nothing_without_and_only_ec2_with_one() {
    let service = service(1);
    for path in ["/", "/latest/meta-data/", "/user-data", "/openstack", "/nothing"] {
        assert_eq!(status(&service, 4, "GET", path, &[]).await, 401, "{path}");
    }
    let token = token(&service, 4).await;
    let with = [("X-aws-ec2-metadata-token", token.as_str())];
    for (path, expected) in
        [("/latest/meta-data/", 200), ("/latest/user-data", 200), ("/user-data", 404), ("/openstack", 404)]
    {
        assert_eq!(status(&service, 4, "GET", path, &with).await, expected, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_be_looked_up_is_told_to_come_again() {
    let service = service(1);
    for guest in [13, 14] {
        let answer = ask(&service, guest, "GET", "/user-data", &[]).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers["retry-after"], "2");
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_and_others_are_not() {
    let service = router(Service::new(Few::new(1), Tokens::new(SECRET), Rate { per_second: 1, burst: 3 }));
    for expected in [200, 200, 200, 429, 429] {
        assert_eq!(status(&service, 2, "GET", "/user-data", &[]).await, expected);
    }
    assert!(ask(&service, 2, "GET", "/", &[]).await.headers.contains_key("retry-after"));
    assert_eq!(status(&service, 3, "GET", "/user-data", &[]).await, 200);
}

pub(super) struct Lab {
    wire: Wire,
    to_stack: mpsc::Sender<Vec<u8>>,
    guests: Mutex<HashMap<u8, (Guest, u16)>>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

pub(super) fn lab() -> Lab {
    let (to_stack, rx) = mpsc::channel(256);
    let (tx, from_stack) = mpsc::channel(256);
    let (wire, stop) = (Wire::new(from_stack), CancellationToken::new());
    let listener = Stack::start(rx, tx, SERVICE, Limits::default());
    let served = tokio::spawn(run(listener, service(1), stop.clone()));
    Lab { wire, to_stack, guests: Mutex::default(), stop, served }
}

impl Lab {
    /// Sends bytes from a guest, and returns all that comes back until the service closes.
    pub(super) async fn say(&self, guest: u8, bytes: &[u8]) -> String {
        let (guest, port) = {
            let mut guests = self.guests.lock().unwrap();
            let new = || (Guest::new(address(guest), &self.wire, self.to_stack.clone()), 3000);
            let (guest, port) = guests.entry(guest).or_insert_with(new);
            *port += 1;
            (guest.clone(), *port)
        };
        let talk = async {
            let (mut reader, mut writer) = tokio::io::split(guest.connect(port, SERVICE).await.unwrap());
            let mut answer = Vec::new();
            // The service may have closed before it has heard all.
            let (_, read) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
            read.unwrap();
            String::from_utf8(answer).unwrap()
        };
        timeout(LONG, talk).await.expect("the connection stays open")
    }
}

#[tokio::test(start_paused = true)]
async fn through_the_stack_each_guest_is_known_by_its_packets() {
    let lab = lab();
    for guest in [2, 3] {
        let request = b"GET /user-data HTTP/1.1\r\nHost: 10.77.0.2\r\nConnection: close\r\n\r\n";
        let answer = lab.say(guest, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n#cloud-config\n# of {guest}\n")), "{answer}");
    }
    let head = lab.say(2, b"HEAD /user-data HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(head.contains("content-length: 21\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Two requests in one go, in the oldest form there is for one of them.
    let both = lab.say(2, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET /user-data HTTP/1.0\r\n\r\n").await;
    assert!(both.contains("404") && both.ends_with("# of 2\n"), "{both}");
}

#[tokio::test(start_paused = true)]
async fn slow_large_and_broken_requests_end_with_their_connection() {
    let lab = lab();
    let started = tokio::time::Instant::now();
    lab.say(2, b"GET /user-data HTTP/1.1\r\nHos").await;
    lab.say(2, b"").await;
    // An idle connection is one whose next request is slow.
    assert!(lab.say(2, b"GET /user-data HTTP/1.1\r\nHost: a\r\n\r\n").await.ends_with("# of 2\n"));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let answer = lab.say(2, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(lab.say(2, b"\0\0\0\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let body = format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let answer = lab.say(2, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn it_stops_when_told_and_when_the_packets_end() {
    let lab1 = lab();
    assert!(lab1.say(2, b"GET /user-data HTTP/1.0\r\n\r\n").await.ends_with("# of 2\n"));
    lab1.stop.cancel();
    timeout(LONG, lab1.served).await.unwrap().unwrap();
    let lab2 = lab();
    drop(lab2.to_stack);
    timeout(LONG, lab2.served).await.unwrap().unwrap();
}

/// What the node relies on.
#[test]
fn the_parts_fit_together() {
    fn is_listener<L: axum::serve::Listener<Io = Stream>>() {}
    is_listener::<crate::stack::Listener>();
    assert_eq!(MTU, 1420);
}

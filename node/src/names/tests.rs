//! The zone as a table of questions and answers, and the server as anyone on the loopback sees it.

use super::{wire::respond, *};
use expect_test::{Expect, expect};
use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RecordType},
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

/// Names in memory.
#[derive(Debug, Default)]
pub(crate) struct Book {
    vms: Mutex<BTreeMap<String, Ipv4Addr>>,
    broken: bool,
}

impl Book {
    pub(crate) fn set(&self, vm: &str, ip: &str) {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner).insert(vm.to_owned(), ip.parse().unwrap());
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<String, Ipv4Addr>) -> T) -> Result<T, RecordsError> {
        if self.broken {
            return Err(RecordsError("the disk is gone".into()));
        }
        Ok(read(&self.vms.lock().unwrap()))
    }
}

#[async_trait]
impl Records for Book {
    async fn vm(&self, name: &VmName) -> Result<Option<Ipv4Addr>, RecordsError> {
        self.read(|vms| vms.get(name.as_str()).copied())
    }

    async fn node(&self, name: &NodeName) -> Result<Option<Ipv4Addr>, RecordsError> {
        self.read(|_| (name.as_str() == "alpha").then_some(Ipv4Addr::new(10, 77, 3, 1)))
    }

    async fn owner(&self, ip: Ipv4Addr) -> Result<Option<Owner>, RecordsError> {
        self.read(|vms| {
            let vm = vms.iter().find(|(_, taken)| **taken == ip);
            let vm = vm.map(|(name, _)| Owner::Vm(VmName::new(name.as_str()).unwrap()));
            let gateway = Owner::Node(NodeName::new("alpha").unwrap());
            vm.or_else(|| (ip == Ipv4Addr::new(10, 77, 3, 1)).then_some(gateway))
        })
    }
}

fn book() -> Arc<Book> {
    let book = Book::default();
    book.set("web", "10.77.3.2");
    book.set("db", "10.77.200.9");
    Arc::new(book)
}

fn zone() -> Zone {
    Zone::new("10.77.0.0/16".parse().unwrap())
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    message
}

async fn answer(request: &Message, records: &Book) -> Message {
    let answer = respond(&request.to_vec().unwrap(), &zone(), records).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn told(answer: &Message) -> String {
    let authority = if answer.metadata.authoritative { "ours" } else { "not ours" };
    let mut text = format!("{:?}, {authority}", answer.metadata.response_code);
    for (section, records) in [("", &answer.answers), ("authority: ", &answer.authorities)] {
        for record in records {
            text += &format!("\n{section}{record}");
        }
    }
    text
}

async fn check(name: &str, kind: RecordType, expected: Expect) {
    expected.assert_eq(&told(&answer(&question(name, kind), &book()).await));
}

#[tokio::test]
async fn names_lead_to_addresses() {
    check(
        "web.waifu.internal",
        RecordType::A,
        expect![[r#"
        NoError, ours
        web.waifu.internal. 5 IN A 10.77.3.2"#]],
    )
    .await;
    check(
        "DB.Waifu.Internal",
        RecordType::A,
        expect![[r#"
        NoError, ours
        DB.Waifu.Internal. 5 IN A 10.77.200.9"#]],
    )
    .await;
    check(
        "alpha.node.waifu.internal",
        RecordType::A,
        expect![[r#"
        NoError, ours
        alpha.node.waifu.internal. 5 IN A 10.77.3.1"#]],
    )
    .await;
    check(
        "web.waifu.internal",
        RecordType::ANY,
        expect![[r#"
        NoError, ours
        web.waifu.internal. 5 IN A 10.77.3.2"#]],
    )
    .await;
}

#[tokio::test]
async fn addresses_lead_to_names() {
    check(
        "9.200.77.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        NoError, ours
        9.200.77.10.in-addr.arpa. 5 IN PTR db.waifu.internal."#]],
    )
    .await;
    check(
        "1.3.77.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        NoError, ours
        1.3.77.10.in-addr.arpa. 5 IN PTR alpha.node.waifu.internal."#]],
    )
    .await;
    check(
        "3.3.77.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        NXDomain, ours
        authority: 77.10.in-addr.arpa. 0 IN SOA 77.10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "02.3.77.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        NXDomain, ours
        authority: 77.10.in-addr.arpa. 0 IN SOA 77.10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_told_from_what_is_there_in_another_form() {
    // A guest that asks for both families believes the answer for IPv4 only if this one is no NXDOMAIN.
    check(
        "web.waifu.internal",
        RecordType::AAAA,
        expect![[r#"
        NoError, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "nobody.waifu.internal",
        RecordType::A,
        expect![[r#"
        NXDomain, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "a.web.waifu.internal",
        RecordType::A,
        expect![[r#"
        NXDomain, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "_bad_.waifu.internal",
        RecordType::A,
        expect![[r#"
        NXDomain, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "node.waifu.internal",
        RecordType::A,
        expect![[r#"
        NoError, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "beta.node.waifu.internal",
        RecordType::A,
        expect![[r#"
        NXDomain, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "3.77.10.in-addr.arpa",
        RecordType::PTR,
        expect![[r#"
        NoError, ours
        authority: 77.10.in-addr.arpa. 0 IN SOA 77.10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
}

#[tokio::test]
async fn a_vm_may_be_called_like_the_branch_of_the_nodes() {
    let book = book();
    book.set("node", "10.77.3.7");
    let said = told(&answer(&question("node.waifu.internal", RecordType::A), &book).await);
    expect![[r#"
        NoError, ours
        node.waifu.internal. 5 IN A 10.77.3.7"#]]
    .assert_eq(&said);
}

#[tokio::test]
async fn the_zones_say_whose_they_are() {
    check(
        "waifu.internal",
        RecordType::SOA,
        expect![[r#"
        NoError, ours
        waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "waifu.internal",
        RecordType::NS,
        expect![[r#"
        NoError, ours
        waifu.internal. 0 IN NS waifu.internal."#]],
    )
    .await;
    check(
        "waifu.internal",
        RecordType::A,
        expect![[r#"
        NoError, ours
        authority: waifu.internal. 0 IN SOA waifu.internal. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
    check(
        "77.10.in-addr.arpa",
        RecordType::SOA,
        expect![[r#"
        NoError, ours
        77.10.in-addr.arpa. 0 IN SOA 77.10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 0"#]],
    )
    .await;
}

#[tokio::test]
async fn what_others_answer_for_is_refused() {
    for name in ["example.org", "internal", "node.waifud.internal", "2.3.78.10.in-addr.arpa", "10.in-addr.arpa", "."] {
        check(name, RecordType::A, expect!["Refused, not ours"]).await;
    }
    check("waifu.internal", RecordType::AXFR, expect!["Refused, not ours"]).await;
}

#[tokio::test]
async fn records_that_cannot_be_read_are_an_error_and_not_a_no() {
    let broken = Book { broken: true, ..Book::default() };
    let said = told(&answer(&question("web.waifu.internal", RecordType::A), &broken).await);
    assert_eq!(said, "ServFail, not ours");
}

#[tokio::test]
async fn odd_requests_are_answered_in_kind_or_not_at_all() {
    let mut edns = question("web.waifu.internal", RecordType::A);
    edns.set_edns(Edns::new());
    let said = answer(&edns, &book()).await;
    assert_eq!(said.edns.as_ref().unwrap().max_payload(), 1232);
    assert_eq!((said.metadata.id, said.queries.len()), (edns.metadata.id, 1));

    let mut newer = edns.clone();
    newer.edns.as_mut().unwrap().set_version(1);
    // BADVERS and BADSIG share a number (RFC 6891, RFC 8945).
    assert_eq!(u16::from(answer(&newer, &book()).await.metadata.response_code), 16);

    let mut update = question("web.waifu.internal", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(answer(&update, &book()).await.metadata.response_code, ResponseCode::NotImp);

    let mut chaos = question("web.waifu.internal", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(answer(&chaos, &book()).await.metadata.response_code, ResponseCode::Refused);

    let mut two = question("web.waifu.internal", RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(answer(&two, &book()).await.metadata.response_code, ResponseCode::FormErr);

    let request = question("web.waifu.internal", RecordType::A).to_vec().unwrap();
    let cut = respond(&request[..request.len() - 3], &zone(), &*book()).await.unwrap();
    assert_eq!(Message::from_vec(&cut).unwrap().metadata.response_code, ResponseCode::FormErr);
    assert_eq!(respond(&request[..11], &zone(), &*book()).await, None, "not even a header");
    let mut loops = request.clone();
    loops[2] |= 0x80;
    assert_eq!(respond(&loops, &zone(), &*book()).await, None, "an answer");
    assert_eq!(respond(&loops[..14], &zone(), &*book()).await, None, "a broken answer");
}

proptest::proptest! {
    #[test]
    fn no_message_breaks_it(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(respond(&bytes, &zone(), &*book()));
    }
}

#[test]
fn reverse_zones_are_where_dns_has_its_dots() {
    let zones = |net: &str| reverse_zones(net.parse().unwrap());
    assert_eq!(zones("10.77.0.0/16"), ["77.10.in-addr.arpa"]);
    assert_eq!(zones("10.0.0.0/8"), ["10.in-addr.arpa"]);
    assert_eq!(zones("192.168.7.0/24"), ["7.168.192.in-addr.arpa"]);
    assert_eq!(zones("172.16.0.0/12").len(), 16);
    assert_eq!(zones("172.16.0.0/12")[15], "31.172.in-addr.arpa");
    assert_eq!(zones("10.77.4.0/23"), ["4.77.10.in-addr.arpa", "5.77.10.in-addr.arpa"]);
    // Not the whole /24: the other half is somebody else's.
    assert_eq!(zones("10.77.4.128/25").len(), 128);
    assert_eq!(zones("10.77.4.128/25")[0], "128.4.77.10.in-addr.arpa");
}

#[tokio::test]
async fn an_address_is_found_where_each_has_a_zone_of_its_own() {
    let zone = Zone::new("10.77.3.0/28".parse().unwrap());
    for (name, code) in
        [("2.3.77.10.in-addr.arpa", ResponseCode::NoError), ("16.3.77.10.in-addr.arpa", ResponseCode::Refused)]
    {
        let request = question(name, RecordType::PTR).to_vec().unwrap();
        let answer = Message::from_vec(&respond(&request, &zone, &*book()).await.unwrap()).unwrap();
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert_eq!(answer.answers.len(), usize::from(code == ResponseCode::NoError));
    }
}

/// A port that is free for both protocols.
pub(crate) async fn serve(records: Arc<dyn Records>) -> NameServer {
    loop {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        match NameServer::start(any, zone(), records.clone()).await {
            Ok(server) => return server,
            // The one TCP got is taken in UDP.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Asks by UDP, once; none if nothing comes back in time.
pub(crate) async fn ask(server: SocketAddr, request: &Message, patience: Duration) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    socket.send(&request.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 1500];
    let length = tokio::time::timeout(patience, socket.recv(&mut buffer)).await.ok()?.ok()?;
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

const PATIENCE: Duration = Duration::from_secs(10);

async fn by_tcp(stream: &mut TcpStream, request: &Message) -> Message {
    let request = request.to_vec().unwrap();
    stream.write_all(&u16::try_from(request.len()).unwrap().to_be_bytes()).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test]
async fn both_protocols_are_served_and_a_new_vm_is_found_at_once() {
    let book = book();
    let server = serve(book.clone()).await;
    let request = question("new.waifu.internal", RecordType::A);
    let before = ask(server.address(), &request, PATIENCE).await.unwrap();
    assert_eq!(before.metadata.response_code, ResponseCode::NXDomain);
    book.set("new", "10.77.9.9");
    let after = ask(server.address(), &request, PATIENCE).await.unwrap();
    assert_eq!(told(&after), "NoError, ours\nnew.waifu.internal. 5 IN A 10.77.9.9");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(told(&by_tcp(&mut stream, &request).await), told(&after));
    }
    let address = server.address();
    server.stop().await;
    // Free again at once, in both protocols.
    NameServer::start(address, zone(), book).await.unwrap().stop().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_too_long_questions_end_theirs() {
    let server = serve(book()).await;
    let request = question("web.waifu.internal", RecordType::A);
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        by_tcp(&mut stream, &request).await;
        held.push(stream);
    }
    let mut late = TcpStream::connect(server.address()).await.unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), by_tcp(&mut late, &request)).await;
    assert!(waiting.is_err(), "one more than there may be is served");
    // UDP is not in their queue.
    assert!(ask(server.address(), &request, PATIENCE).await.is_some());
    let mut greedy = held.pop().unwrap();
    greedy.write_all(&5000_u16.to_be_bytes()).await.unwrap();
    assert_eq!(greedy.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is closed");
    let mut answer = vec![0; usize::from(late.read_u16().await.unwrap())];
    late.read_exact(&mut answer).await.unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1, "its turn came");
}

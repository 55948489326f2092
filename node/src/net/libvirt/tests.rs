//! Against a real libvirtd, in whose network namespace the test has to run: set WAIFUD_TEST_LIBVIRT_URI to its URI. It makes
//! and removes the network `waifud`, so a host that serves guests is no place for it; `tests/lab/test.sh` has one.

use super::*;
use crate::{
    names::{
        NameServer, Zone,
        tests::{Book, ask, question},
    },
    net::layout::example,
};
use hickory_proto::rr::RecordType;
use std::{net::SocketAddr, sync::Arc, time::Duration};

const URI: &str = "WAIFUD_TEST_LIBVIRT_URI";

fn vm() -> VmId {
    VmId::from_random([1; 16])
}

/// What every implementation of [`GuestNetwork`] must do.
async fn contract(network: &dyn GuestNetwork) {
    let (first, second) = (Ipv4Addr::new(10, 77, 3, 2), Ipv4Addr::new(10, 77, 3, 3));
    let (one, two) = (Mac::of(first), Mac::of(second));
    let reservation = |ip, mac| Reservation { ip, mac };
    assert_eq!(network.reserved().await.unwrap(), []);
    network.release(vm(), first, one).await.unwrap();
    for _ in 0..2 {
        network.reserve(vm(), first, one).await.unwrap();
    }
    network.reserve(vm(), second, two).await.unwrap();
    assert_eq!(network.reserved().await.unwrap(), [reservation(first, one), reservation(second, two)]);
    // A VM has another's address: the other's entry is stale.
    network.reserve(vm(), first, two).await.unwrap();
    assert_eq!(network.reserved().await.unwrap(), [reservation(first, two)]);
    network.reserve(vm(), second, two).await.unwrap();
    assert_eq!(network.reserved().await.unwrap(), [reservation(second, two)]);
    for _ in 0..2 {
        network.release(vm(), second, two).await.unwrap();
    }
    assert_eq!(network.reserved().await.unwrap(), []);
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract(&crate::net::fake::FakeNetwork::default()).await;
}

#[tokio::test]
#[ignore = "needs a real libvirt, named by WAIFUD_TEST_LIBVIRT_URI"]
async fn libvirt_keeps_the_contract() {
    let uri = std::env::var(URI).unwrap();
    let network = LibvirtNetwork::new(&uri, example());
    network.remove().await.unwrap();
    assert_eq!(network.reserved().await.unwrap(), [], "no network, no reservations");
    for _ in 0..2 {
        assert_eq!(network.ensure().await.unwrap(), Setup::Ready);
    }
    contract(&network).await;

    // Another layout: redefined and restarted, because no guest is plugged in; what is reserved stays.
    let ip = Ipv4Addr::new(10, 77, 3, 9);
    network.reserve(vm(), ip, Mac::of(ip)).await.unwrap();
    let changed = LibvirtNetwork::new(&uri, NetworkLayout { mtu: 1380, ..example() });
    assert_eq!(changed.ensure().await.unwrap(), Setup::Ready);
    assert_eq!(changed.reserved().await.unwrap().len(), 1);
    let mtu = fs::read_to_string("/sys/class/net/waifubr0/mtu").unwrap();
    assert_eq!(mtu.trim(), "1380");

    // With something plugged in, it is left running.
    let ip = |arguments: &str| {
        assert!(std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap().success())
    };
    ip("link add waifutest0 type veth peer name waifutest1");
    ip("link set waifutest0 master waifubr0");
    assert_eq!(network.ensure().await.unwrap(), Setup::Deferred(vec!["mtu"]));
    ip("link del waifutest0");
    assert_eq!(network.ensure().await.unwrap(), Setup::Ready);

    vms_of_all_nodes_have_names().await;

    network.remove().await.unwrap();
    network.remove().await.unwrap();
}

/// libvirt's dnsmasq asks the name server of this node, and remembers no failure.
async fn vms_of_all_nodes_have_names() {
    let book = Arc::new(Book::default());
    let _names = NameServer::start(example().names, Zone::new(example().cluster), book.clone()).await.unwrap();
    let dnsmasq = SocketAddr::from((example().gateway(), 53));
    let resolve = async |name: &str, kind| {
        let answer = ask(dnsmasq, &question(name, kind), Duration::from_secs(10)).await.unwrap();
        answer.answers.iter().map(|record| record.data.to_string()).collect::<Vec<_>>()
    };
    assert!(resolve("far.waifu.internal", RecordType::A).await.is_empty());
    book.set("far", "10.77.200.9");
    assert_eq!(resolve("far.waifu.internal", RecordType::A).await, ["10.77.200.9"]);
    assert_eq!(resolve("9.200.77.10.in-addr.arpa", RecordType::PTR).await, ["far.waifu.internal."]);
}

#[tokio::test]
async fn a_libvirtd_that_is_not_there_is_an_error_that_says_so() {
    let network = LibvirtNetwork::new("qemu+unix:///system?socket=/nonexistent/socket", example());
    let error = network.reserved().await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/socket"), "{error}");
}

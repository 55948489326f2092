//! From a VM's creation to its name: how long after the API's answer the guests of another node resolve it.
//!
//! The name server of their bridge is asked as a guest would ask it, over and over from the API's answer on, so that whatever
//! is kept of a name that does not exist yet counts too.

use super::{
    http::Connection,
    load::Measured,
    records::add_tiny,
    scale::Scale,
    stand_in::{StandIn, create_vms, gateway, stopped},
    table::{Figure, Table},
    writes::socket,
};
use crate::{
    cluster::{Cluster, SOON, WITH_GUESTS},
    lab::{Lab, tiny_image},
};
use anyhow::{Context, Result};
use http::Method;
use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::{Duration, Instant},
};
use tokio::net::UdpSocket;
use waifud_api::{paths, vm::VmCreated};

/// Between two questions. What is shorter than this is not seen.
const EVERY: Duration = Duration::from_millis(1);
/// A name server on this machine that has not answered by then has lost the question.
const PATIENCE: Duration = Duration::from_millis(200);

/// Measures and adds to the table.
pub(super) async fn measure(scale: &Scale, table: &mut Table, progress: &dyn Fn(&str)) -> Result<()> {
    // Made before a lab waits for it.
    tiny_image()?;
    let cluster = Cluster::start(Lab::new(3)?, &format!("cpus = 400\n{WITH_GUESTS}")).await?;
    add_tiny(&cluster).await?;
    let vm = create_vms(&cluster, 2, 1, b"#!/bin/sh\n").await?;
    let asker = StandIn::plug(cluster.host(2), vm, &["sleep", "infinity"])?;
    let server = SocketAddrV4::new(gateway(asker.address()), 53);

    progress("names: from a VM on one node to its name on another");
    let (api, names) = (socket(&cluster, 1)?, scale.names);
    let (took, lost) = asker.run(move || follow(api, server, names)).await?;

    table.part(format!("{names} names on another node, from create's answer"), "");
    table.row("p50", Figure::ms(took.quantile(0.5)), None, "");
    table.row("p99", Figure::ms(took.quantile(0.99)), None, "<= 1000 ms");
    // Of the moment when the node's first VM is made, and its name server starts anew.
    table.row("questions refused or unanswered, in all", Figure::Mean(lost as f64), None, "");
    Ok(())
}

async fn follow(api: impl AsRef<Path>, server: SocketAddrV4, names: usize) -> Result<(Measured, usize)> {
    let mut connection = Connection::open(api.as_ref()).await?;
    let resolver = Resolver::open(server).await?;
    let (mut took, mut lost) = (Vec::with_capacity(names), 0);
    for number in 0..names {
        let create = serde_json::to_vec(&stopped(1, &format!("name-{number}"))?)?;
        let answer = connection.send(Method::POST, paths::VMS, create.into()).await?;
        let begun = Instant::now();
        let vm = serde_json::from_slice::<VmCreated>(&answer)?.vm;
        let name = format!("{}.waifu.internal", vm.name);
        lost += tokio::time::timeout(SOON, resolver.until(&name, vm.ip)).await.with_context(|| format!("no {name}"))?;
        took.push(begun.elapsed());
    }
    Ok((Measured::of(took), lost))
}

/// Asks one server, one question at a time.
struct Resolver(UdpSocket);

impl Resolver {
    async fn open(server: SocketAddrV4) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(server).await?;
        Ok(Self(socket))
    }

    /// Asks until the name has this address, and gives how many questions were refused or not answered.
    async fn until(&self, name: &str, address: Ipv4Addr) -> usize {
        let mut lost = 0;
        for id in (0..=u16::MAX).cycle() {
            match tokio::time::timeout(PATIENCE, self.ask(id, name, address)).await {
                Ok(Ok(true)) => break,
                Ok(Ok(false)) => {}
                // A guest would see it too, and ask again: it is counted, and takes its time.
                Ok(Err(_)) | Err(_) => lost += 1,
            }
            tokio::time::sleep(EVERY).await;
        }
        lost
    }

    async fn ask(&self, id: u16, name: &str, address: Ipv4Addr) -> io::Result<bool> {
        self.0.send(&question(id, name)).await?;
        // The answer to an earlier question may come late.
        let mut answer = [0; 512];
        loop {
            let length = self.0.recv(&mut answer).await?;
            if answer.starts_with(&id.to_be_bytes()) {
                return Ok(says(&answer[..length], address));
            }
        }
    }
}

/// A question for the address of a name (RFC 1035, 4.1), with recursion desired.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        // Ours are valid: 63 bytes at most.
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Whether an answer is a success and ends with this address: nothing follows the only record that was asked for.
fn says(answer: &[u8], address: Ipv4Addr) -> bool {
    let succeeded = answer.get(3).is_some_and(|flags| flags & 0xf == 0);
    let records = answer.get(6..8).is_some_and(|count| count != [0, 0]);
    succeeded && records && answer.ends_with(&address.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_address_is_an_answer() {
        let address = Ipv4Addr::new(10, 77, 1, 2);
        let asked = question(7, "a.waifu.internal");
        assert_eq!(asked[..12], [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(asked[12..], *b"\x01a\x05waifu\x08internal\0\0\x01\0\x01");
        let mut answer = asked;
        assert!(!says(&answer, address), "no record");
        answer[2..8].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 77, 1, 2]);
        assert!(says(&answer, address));
        assert!(!says(&answer, Ipv4Addr::new(10, 77, 1, 3)));
        answer[3] |= 3;
        assert!(!says(&answer, address), "no such name");
        assert!(!says(&[], address));
    }
}

//! Looks at this node: libvirt, disks, clock, KVM, addresses, names, certificates, the shared cache.
//!
//! In: handles to what runs here, and the machine itself. Out: findings. Everything is looked at anew and at the same time, each
//! within [`WITHIN`]: what hangs is a finding, and never holds up the others. What a sight means is `judge.rs`, which is pure.

mod judge;

use super::clock;
use crate::{
    config::Config,
    facts::Facts,
    hypervisor::{Accel, Hypervisor},
    net::{MESH, conflicting},
};
use async_trait::async_trait;
use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RecordType},
};
use judge::{Certificate, Room};
use nix::sys::statvfs::statvfs;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};
use tokio::{net::UdpSocket, sync::watch};
use waifud_api::doctor::{Check, Finding};
use waifud_consensus::{Handle, Liveness};
use waifud_gossip::identity::Identity;
use waifud_metadata::cache::Cache;
use waifud_model::{ids::NodeId, size::ByteSize};
use waifud_web::ports::Doctor;

/// How long a look may take. What answers at all answers in milliseconds; whoever asks waits for the slowest.
const WITHIN: Duration = Duration::from_secs(2);
/// An answer of the name server to a question without records: a header and the question.
const ANSWER_MAX: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct NodeDoctor {
    me: NodeId,
    data_dir: PathBuf,
    bridge: String,
    names: SocketAddr,
    tls_cert: Option<PathBuf>,
    accel: Accel,
    consensus: Handle,
    liveness: watch::Receiver<Liveness>,
    identity: watch::Receiver<Arc<Identity>>,
    guests: OnceLock<Guests>,
}

/// What is there once guests are served: a machine that has just joined serves its API before.
#[derive(Debug)]
struct Guests {
    hypervisor: Arc<dyn Hypervisor>,
    cache: Option<Arc<Cache>>,
}

impl NodeDoctor {
    pub(super) fn new(
        me: NodeId,
        config: &Config,
        facts: &Facts,
        consensus: Handle,
        liveness: watch::Receiver<Liveness>,
        identity: watch::Receiver<Arc<Identity>>,
    ) -> Self {
        Self {
            me,
            data_dir: config.node.data_dir.clone(),
            bridge: config.network.bridge.clone(),
            names: config.network.names_listen,
            tls_cert: config.api.tls_cert.clone(),
            accel: facts.accel,
            consensus,
            liveness,
            identity,
            guests: OnceLock::new(),
        }
    }

    /// From now on guests are served, by these.
    pub(super) fn attach(&self, hypervisor: Arc<dyn Hypervisor>, cache: Option<Arc<Cache>>) {
        if self.guests.set(Guests { hypervisor, cache }).is_err() {
            tracing::error!("guests were served twice");
        }
    }

    fn clock(&self) -> Finding {
        let liveness = self.liveness.borrow();
        judge::clock(liveness.clock_offset_ms, liveness.alive.len())
    }

    fn disk(&self) -> Finding {
        match statvfs(&self.data_dir) {
            Ok(stat) => judge::disk(
                &self.data_dir,
                Room {
                    free: ByteSize::bytes(stat.blocks_available().saturating_mul(stat.fragment_size())),
                    all: ByteSize::bytes(stat.blocks().saturating_mul(stat.fragment_size())),
                    inodes_free: stat.files_available(),
                    inodes: stat.files(),
                },
            ),
            Err(errno) => judge::disk_unreadable(&self.data_dir, errno.desc()),
        }
    }

    async fn libvirt(&self) -> Finding {
        let Some(guests) = self.guests.get() else { return starting(Check::Libvirt) };
        let health = guests.hypervisor.health().borrow().clone();
        let listed = tokio::time::timeout(WITHIN, guests.hypervisor.list()).await;
        let listed = match listed {
            Ok(Ok(domains)) => Ok(domains.len()),
            Ok(Err(error)) => Err(said(&error)),
            Err(_) => Err(format!("no answer in {} s", WITHIN.as_secs())),
        };
        judge::libvirt(&health, listed)
    }

    async fn routes(&self) -> Finding {
        let (me, interfaces) = (self.me, [MESH, self.bridge.as_str()]);
        let missing: Vec<_> =
            interfaces.into_iter().filter(|name| !Path::new("/sys/class/net").join(name).exists()).collect();
        let read = self.consensus.read(move |view| {
            let others = view.nodes()?.into_iter().filter(|node| node.id != me).map(|node| node.subnet).collect();
            Ok((view.cluster()?.map(|cluster| cluster.cidr), others))
        });
        let (cluster, subnets): (_, Vec<_>) = match read.await {
            Ok((Some(cluster), subnets)) => (cluster, subnets),
            Ok((None, _)) => return starting(Check::Routes),
            Err(error) => return Finding::unknown(Check::Routes, said(&error)),
        };
        let found = tokio::time::timeout(WITHIN, conflicting(cluster, &subnets, &interfaces)).await;
        match found {
            Ok(Ok(conflicts)) => judge::routes(cluster, &missing, &conflicts),
            Ok(Err(error)) => Finding::unknown(Check::Routes, said(&error)),
            Err(_) => Finding::unknown(Check::Routes, "the kernel does not tell its routes"),
        }
    }

    async fn names(&self) -> Finding {
        let asked = tokio::time::timeout(WITHIN, ask_names(self.names)).await;
        let asked = match asked {
            Ok(asked) => asked.map_err(|error| error.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        judge::names(self.names, asked)
    }

    fn certificates(&self) -> Finding {
        let mut all = vec![Certificate {
            what: "this node's for its peers".to_owned(),
            ends: Ok(self.identity.borrow().expires_at()),
            renewed: true,
        }];
        if let Some(path) = &self.tls_cert {
            all.push(Certificate { what: path.display().to_string(), ends: judge::end_of(path), renewed: false });
        }
        judge::certificates(&all, SystemTime::now())
    }

    async fn cache(&self) -> Finding {
        let Some(guests) = self.guests.get() else { return starting(Check::Redis) };
        let Some(cache) = &guests.cache else { return judge::cache(None) };
        let asked = tokio::time::timeout(WITHIN, cache.answers()).await;
        judge::cache(Some(match asked {
            Ok(answer) => answer.map_err(|error| said(&error)),
            Err(_) => Err("no answer".to_owned()),
        }))
    }
}

#[async_trait]
impl Doctor for NodeDoctor {
    async fn examine(&self) -> Vec<Finding> {
        let (libvirt, routes, names, cache) = tokio::join!(self.libvirt(), self.routes(), self.names(), self.cache());
        let kvm = judge::kvm(self.accel);
        let findings = vec![self.clock(), self.disk(), libvirt, kvm, routes, names, self.certificates(), cache];
        tracing::debug!(at = clock::now().0, ?findings, "looked at this node");
        findings
    }
}

fn starting(check: Check) -> Finding {
    Finding::unknown(check, "guests are not served yet: waifud is starting, or this node has just joined")
}

/// An error with its causes, on one line.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

/// Asks the name server here whether it answers for the guests' domain.
async fn ask_names(server: SocketAddr) -> io::Result<()> {
    let server = match server.ip() {
        // What listens everywhere is asked at home.
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), server.port()),
        _ => server,
    };
    let socket = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0)).await?;
    socket.connect(server).await?;
    let mut question = Message::query();
    let name = Name::from_ascii(format!("{}.", crate::net::DOMAIN)).map_err(io::Error::other)?;
    question.add_query(Query::query(name, RecordType::SOA));
    socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
    let mut answer = [0; ANSWER_MAX];
    let length = socket.recv(&mut answer).await?;
    let answer = Message::from_vec(answer.get(..length).unwrap_or_default()).map_err(io::Error::other)?;
    let told = answer.metadata;
    // Whoever else has the port may well be a name server too.
    match (told.message_type, told.response_code, told.authoritative) {
        (MessageType::Response, ResponseCode::NoError, true) => Ok(()),
        (_, code, _) => Err(io::Error::other(format!("who answers there does not know the guests' domain ({code})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_server_that_is_not_there_is_an_error_and_one_that_is_answers() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        for (is_ours, code) in
            [(true, ResponseCode::NoError), (false, ResponseCode::NoError), (false, ResponseCode::Refused)]
        {
            let (asked, ()) = tokio::join!(ask_names(server), async {
                let mut question = [0; ANSWER_MAX];
                let (length, asker) = socket.recv_from(&mut question).await.unwrap();
                let mut message = Message::from_vec(&question[..length]).unwrap();
                assert_eq!(message.queries[0].name().to_string(), format!("{}.", crate::net::DOMAIN));
                message.metadata.message_type = MessageType::Response;
                (message.metadata.authoritative, message.metadata.response_code) = (is_ours, code);
                socket.send_to(&message.to_vec().unwrap(), asker).await.unwrap();
            });
            assert_eq!(asked.is_ok(), is_ours, "{asked:?}");
        }
        drop(socket);
        assert!(ask_names(server).await.is_err(), "nobody is there any more");
    }
}

//! The cache against a real redis-server that is absent, killed, stopped, full, answering nonsense, and lied in.

use super::*;
use crate::serve::tests::instance;
use proptest::prelude::*;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};
use tokio::io::AsyncWriteExt;
use waifud_model::cloud_init::Imds;

const SECRET: &[u8] = b"the cluster's secret";
/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A redis-server of the test's own, on a socket in its own directory. Killed when dropped.
struct Server {
    directory: tempfile::TempDir,
    process: Option<Child>,
}

impl Server {
    fn absent() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), process: None }
    }

    async fn new(options: &[&str]) -> Self {
        let mut server = Self::absent();
        server.start(options).await;
        server
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.directory.path().join("redis").display())
    }

    async fn start(&mut self, options: &[&str]) {
        self.process = Some(spawn(self.directory.path(), "0", options));
        self.connection().await;
    }

    /// A connection of the operator's own, as soon as the server is there.
    async fn connection(&self) -> MultiplexedConnection {
        connected(&redis::Client::open(self.url()).unwrap()).await
    }

    fn cache(&self) -> Cache {
        Cache::connect(&settings(&self.url()), SECRET).unwrap()
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(directory: &Path, port: &str, options: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--save", "", "--appendonly", "no", "--port", port, "--bind", "127.0.0.1", "--unixsocket", "redis"])
        .args(options)
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed")
}

async fn connected(client: &redis::Client) -> MultiplexedConnection {
    let started = Instant::now();
    loop {
        match client.get_multiplexed_async_connection().await {
            Ok(connection) => return connection,
            Err(error) => assert!(started.elapsed() < LONG, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

fn settings(url: &str) -> CacheSettings {
    CacheSettings { url: url.to_owned(), ca: None, cluster: cluster(), ttl: Duration::from_secs(3600) }
}

fn cluster() -> ClusterId {
    ClusterId::from_random([7; 16])
}

fn entry(number: u8, generation: u64) -> Entry {
    Entry::of(&instance(number, 1, Imds::Any), Generation(generation)).unwrap()
}

async fn put(cache: &Cache, entry: &Entry) {
    cache.put(entry.clone()).unwrap();
    tokio::time::timeout(LONG, cache.drained()).await.expect("never written");
}

/// The answer, which must not take longer than promised. Some milliseconds are the scheduler's.
async fn quick(asking: impl Future<Output = Result<Option<Entry>, CacheError>>) -> Result<Option<Entry>, CacheError> {
    let started = Instant::now();
    let answer = asking.await;
    assert!(started.elapsed() < READ_WITHIN * 4, "{:?}", started.elapsed());
    answer
}

#[tokio::test]
async fn what_one_node_writes_another_reads_and_so_do_operators() {
    let server = Server::new(&[]).await;
    let (writer, reader, entry) = (server.cache(), server.cache(), entry(2, 5));
    assert_eq!(reader.get_by_vm(entry.vm, Generation(1)).await.unwrap(), None);
    put(&writer, &entry).await;
    assert_eq!(reader.get_by_vm(entry.vm, Generation(5)).await.unwrap(), Some(entry.clone()));
    assert_eq!(reader.get_by_ip(entry.ip).await.unwrap(), Some(entry.clone()));
    assert_eq!(entry.to_instance().unwrap(), instance(2, 1, Imds::Any));
    // As an operator sees it.
    let mut redis = server.connection().await;
    let key = format!("waifud:{}:ci:{}", cluster(), entry.vm);
    let user_data: String = redis.hget(&key, "user-data").await.unwrap();
    let config: String = redis.hget(&key, "config").await.unwrap();
    let lives: u64 = redis.ttl(&key).await.unwrap();
    assert_eq!(user_data, "#cloud-config\n# of 2\n");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&config).unwrap()["name"], "vm-2");
    assert!((3500..=3600).contains(&lives), "{lives}");
    let by_ip: String = redis.get(format!("waifud:{}:ip:10.77.0.2", cluster())).await.unwrap();
    assert_eq!(by_ip, entry.vm.to_string());
    // Gone with the VM.
    writer.forget(entry.vm, entry.ip).unwrap();
    writer.drained().await;
    assert_eq!(reader.get_by_vm(entry.vm, Generation(1)).await.unwrap(), None);
    assert_eq!(reader.get_by_ip(entry.ip).await.unwrap(), None);
}

#[tokio::test]
async fn an_older_generation_is_no_answer() {
    let server = Server::new(&[]).await;
    let (cache, old) = (server.cache(), entry(2, 5));
    put(&cache, &old).await;
    assert_eq!(cache.get_by_vm(old.vm, Generation(6)).await.unwrap(), None);
    put(&cache, &entry(2, 6)).await;
    assert_eq!(cache.get_by_vm(old.vm, Generation(6)).await.unwrap(), Some(entry(2, 6)));
}

#[tokio::test]
async fn an_older_entry_takes_the_place_of_a_newer_one_only_if_that_is_not_to_be_believed() {
    let server = Server::new(&[]).await;
    let (before, after, new) = (server.cache(), server.cache(), entry(2, 6));
    put(&before, &new).await;
    put(&after, &entry(2, 5)).await;
    assert_eq!(after.get_by_vm(new.vm, Generation(6)).await.unwrap(), Some(new.clone()));
    let mut redis = server.connection().await;
    let key = format!("waifud:{}:ci:{}", cluster(), new.vm);
    let _: () = redis.hset(&key, "user-data", "forged").await.unwrap();
    put(&after, &entry(2, 5)).await;
    assert_eq!(after.get_by_vm(new.vm, Generation(5)).await.unwrap(), Some(entry(2, 5)));
    // Whatever type it has.
    let _: () = redis.set(&key, "a string").await.unwrap();
    put(&after, &entry(2, 5)).await;
    assert_eq!(after.get_by_vm(new.vm, Generation(5)).await.unwrap(), Some(entry(2, 5)));
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_nothing_and_gets_everything_when_it_comes() {
    let mut server = Server::absent();
    let (cache, entry) = (server.cache(), entry(2, 1));
    assert!(quick(cache.get_by_vm(entry.vm, Generation(1))).await.is_err());
    // The breaker is open now.
    assert!(matches!(cache.get_by_vm(entry.vm, Generation(1)).await, Err(CacheError::Unavailable(_))));
    cache.put(entry.clone()).unwrap();
    server.start(&[]).await;
    tokio::time::timeout(LONG, cache.drained()).await.unwrap();
    assert_eq!(cache.get_by_vm(entry.vm, Generation(1)).await.unwrap(), Some(entry));
}

#[tokio::test]
async fn a_server_that_is_killed_is_found_again() {
    let mut server = Server::new(&[]).await;
    let (cache, entry) = (server.cache(), entry(2, 1));
    put(&cache, &entry).await;
    server.kill();
    assert!(quick(cache.get_by_vm(entry.vm, Generation(1))).await.is_err());
    server.start(&[]).await;
    // Written again, and the successful write tells the readers too.
    put(&cache, &entry).await;
    assert_eq!(cache.get_by_vm(entry.vm, Generation(1)).await.unwrap(), Some(entry));
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_once() {
    let server = Server::new(&[]).await;
    let (cache, entry) = (server.cache(), entry(2, 1));
    put(&cache, &entry).await;
    server.signal("-STOP");
    assert!(matches!(quick(cache.get_by_ip(entry.ip)).await, Err(CacheError::Unavailable(_))));
    let started = Instant::now();
    for _ in 0..1000 {
        assert!(cache.get_by_vm(entry.vm, Generation(1)).await.is_err());
    }
    assert!(started.elapsed() < READ_WITHIN, "{:?}", started.elapsed());
    // Putting waits for nobody.
    cache.put(self::entry(3, 1)).unwrap();
    server.signal("-CONT");
    tokio::time::timeout(LONG, cache.drained()).await.unwrap();
    assert_eq!(cache.get_by_vm(entry.vm, Generation(1)).await.unwrap(), Some(entry));
}

#[tokio::test]
async fn a_server_that_is_full_still_answers_and_writes_wait() {
    let server = Server::new(&["--maxmemory-policy", "noeviction"]).await;
    let (cache, first, second) = (server.cache(), entry(2, 1), entry(3, 1));
    put(&cache, &first).await;
    let mut redis = server.connection().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec_async(&mut redis).await.unwrap();
    cache.put(second.clone()).unwrap();
    // Refused at least once.
    let started = Instant::now();
    loop {
        let errors: String = redis::cmd("INFO").arg("errorstats").query_async(&mut redis).await.unwrap();
        if errors.contains("OOM") {
            break;
        }
        assert!(started.elapsed() < LONG);
    }
    assert_eq!(cache.get_by_vm(first.vm, Generation(1)).await.unwrap(), Some(first));
    assert_eq!(cache.get_by_vm(second.vm, Generation(1)).await.unwrap(), None);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec_async(&mut redis).await.unwrap();
    tokio::time::timeout(LONG, cache.drained()).await.unwrap();
    assert_eq!(cache.get_by_vm(second.vm, Generation(1)).await.unwrap(), Some(second));
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_not_understood_and_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("redis");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html>$-7\r\n*999999999\r\n").await;
        }
    });
    let cache = Cache::connect(&settings(&format!("redis+unix://{}", path.display())), SECRET).unwrap();
    assert!(quick(cache.get_by_vm(entry(2, 1).vm, Generation(1))).await.is_err());
    assert!(quick(cache.get_by_ip(entry(2, 1).ip)).await.is_err());
}

#[tokio::test]
async fn nothing_that_was_not_written_by_the_cluster_is_believed() {
    let server = Server::new(&[]).await;
    let (cache, honest) = (server.cache(), entry(2, 1));
    let mut redis = server.connection().await;
    let key = |number| format!("waifud:{}:ci:{}", cluster(), entry(number, 1).vm);
    let forged = |answer: Result<Option<Entry>, CacheError>| {
        assert!(matches!(answer, Err(CacheError::Entry(EntryError::Forged))), "{answer:?}");
    };
    // Each field changed, one at a time.
    for (field, value) in [
        ("vm", entry(3, 1).vm.to_string()),
        ("ip", "10.77.0.3".to_owned()),
        ("generation", "2".to_owned()),
        ("instance", "2".to_owned()),
        ("expires", "99999999999".to_owned()),
        ("config", "{}".to_owned()),
        ("user-data", "#!/bin/sh\nrm -rf /\n".to_owned()),
        ("mac", "0".repeat(64)),
        ("mac", "nonsense".to_owned()),
    ] {
        put(&cache, &honest).await;
        let _: () = redis.hset(key(2), field, value).await.unwrap();
        forged(cache.get_by_vm(honest.vm, Generation(1)).await);
        let _: () = redis.hdel(key(2), field).await.unwrap();
        let answer = cache.get_by_vm(honest.vm, Generation(1)).await;
        assert!(matches!(answer, Err(CacheError::Entry(EntryError::Field(absent))) if absent == field), "{answer:?}");
    }
    // Somebody else's entry under this VM's key, and the pointer bent to it.
    put(&cache, &honest).await;
    put(&cache, &entry(3, 1)).await;
    let _: bool = redis::cmd("COPY").arg(key(3)).arg(key(2)).arg("REPLACE").query_async(&mut redis).await.unwrap();
    assert_eq!(cache.get_by_vm(honest.vm, Generation(1)).await.unwrap(), None);
    let pointer = format!("waifud:{}:ip:10.77.0.2", cluster());
    let _: () = redis.set(&pointer, entry(3, 1).vm.to_string()).await.unwrap();
    assert_eq!(cache.get_by_ip(honest.ip).await.unwrap(), None);
    for nonsense in ["", "x", "00000000-0000-0000-0000-000000000000"] {
        let _: () = redis.set(&pointer, nonsense).await.unwrap();
        assert!(matches!(cache.get_by_ip(honest.ip).await, Err(CacheError::Entry(EntryError::Field("vm")))));
    }
    // Another type than a hash, which the next write puts right.
    let _: () = redis.set(key(2), "garbage").await.unwrap();
    assert!(matches!(cache.get_by_vm(honest.vm, Generation(1)).await, Err(CacheError::Redis(_))));
    put(&cache, &honest).await;
    assert_eq!(cache.get_by_vm(honest.vm, Generation(1)).await.unwrap(), Some(honest.clone()));
    // Other clusters and other secrets see nothing of it.
    let stranger = Cache::connect(&settings(&server.url()), b"another secret").unwrap();
    forged(stranger.get_by_vm(honest.vm, Generation(1)).await);
    let other = CacheSettings { cluster: ClusterId::from_random([8; 16]), ..settings(&server.url()) };
    let other = Cache::connect(&other, SECRET).unwrap();
    assert_eq!(other.get_by_vm(honest.vm, Generation(1)).await.unwrap(), None);
}

#[tokio::test]
async fn over_tls_the_server_has_to_be_who_the_ca_says() {
    let directory = tempfile::tempdir().unwrap();
    let (ca, other) = (authority(), authority());
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &ca.0).unwrap();
    std::fs::write(directory.path().join("crt"), certificate.pem()).unwrap();
    std::fs::write(directory.path().join("key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.path().join("ca"), &ca.1).unwrap();
    // Free a moment ago; if somebody else takes it meanwhile, the server does not start and the test says so.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let tls = ["--tls-port", &port, "--tls-cert-file", "crt", "--tls-key-file", "key", "--tls-ca-cert-file", "ca"];
    let options = [&tls[..], &["--tls-auth-clients", "no"]].concat();
    let server = Server { process: Some(spawn(directory.path(), "0", &options)), directory };
    server.connection().await;
    let settings = |ca: &str| CacheSettings {
        ca: Some(ca.as_bytes().to_vec()),
        ..settings(&format!("rediss://localhost:{port}"))
    };
    let cache = Cache::connect(&settings(&ca.1), SECRET).unwrap();
    put(&cache, &entry(2, 1)).await;
    assert_eq!(cache.get_by_vm(entry(2, 1).vm, Generation(1)).await.unwrap(), Some(entry(2, 1)));
    let deceived = Cache::connect(&settings(&other.1), SECRET).unwrap();
    assert!(deceived.get_by_vm(entry(2, 1).vm, Generation(1)).await.is_err());
}

fn authority() -> (rcgen::CertifiedIssuer<'static, rcgen::KeyPair>, String) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let issuer = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let pem = issuer.pem();
    (issuer, pem)
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_at_once_and_passwords_are_not_shown() {
    for url in ["", "http://a", "redis://", "127.0.0.1:6379 "] {
        assert!(Cache::connect(&settings(url), SECRET).is_err(), "{url}");
    }
    let nonsense = CacheSettings { ca: Some(b"-----BEGIN CERTIFICATE-----\nx".to_vec()), ..settings("rediss://a") };
    assert!(Cache::connect(&nonsense, SECRET).is_err());
    assert!(!format!("{:?}", settings("redis://:hunter2@a")).contains("hunter2"));
    assert!(!format!("{:?}", entry(2, 1)).contains("cloud-config"));
}

#[tokio::test]
async fn what_waits_is_bounded_and_only_the_newest_of_a_vm_does() {
    let server = Server::absent();
    let cache = server.cache();
    let large = |number: u8, generation| Entry { user_data: vec![b'x'; 8 << 20], ..entry(number, generation) };
    for generation in 1..100 {
        cache.put(large(2, generation)).unwrap();
    }
    cache.put(large(3, 1)).unwrap();
    cache.put(large(4, 1)).unwrap();
    assert!(cache.put(large(5, 1)).is_err());
    // A small one still fits.
    cache.put(entry(6, 1)).unwrap();
}

#[test]
fn an_entry_ends_even_if_redis_keeps_it() {
    let (seal, entry) = (Seal::new(cluster(), SECRET), entry(2, 1));
    let fields = seal.write(&entry, 1000).map(Some);
    assert_eq!(seal.read(&fields, 999).unwrap(), Some(entry));
    assert_eq!(seal.read(&fields, 1000).unwrap(), None);
}

proptest! {
    #[test]
    fn no_bytes_are_taken_for_an_entry(fields in prop::collection::vec(any::<Option<Vec<u8>>>(), 0..10)) {
        let read = Seal::new(cluster(), SECRET).read(&fields, 0);
        prop_assert!(!matches!(read, Ok(Some(_))));
    }
}

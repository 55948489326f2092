//! The store with real images: what comes in, what is left behind, and what peers get.

use super::*;
use crate::{
    images::{
        PeerFault,
        peers::{NoPeers, PeerReader, PeerWriter},
    },
    small_disk::on_small_disk,
};
use futures::{StreamExt, stream};
use sha2::Digest;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use waifud_model::{
    ids::NodeId,
    name::TemplateName,
    template::{ImageFormat, Source},
    time::Timestamp,
};

fn settings(dir: &Path) -> StoreSettings {
    StoreSettings {
        dir: dir.join("images"),
        limits: Limits { max_size: ByteSize::mib(64), max_virtual_size: ByteSize::gib(2048) },
        download: DownloadSettings {
            addresses: crate::images::AddressPolicy::default(),
            timeout: Duration::from_secs(5),
            slowest: ByteSize::ZERO,
        },
        patience: Patience { open: Duration::from_secs(5), part: Duration::from_secs(5) },
    }
}

fn store(peers: Arc<dyn ImagePeers>) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(dir.path()), peers).unwrap();
    (dir, store)
}

/// The bytes of a qcow2 with `mib` mebibytes of data that do not repeat.
fn image(mib: u64) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, qcow2) = (dir.path().join("raw"), dir.path().join("qcow2"));
    let mut bytes = vec![0; (mib << 20) as usize];
    blake3::Hasher::new().update(&mib.to_le_bytes()).finalize_xof().fill(&mut bytes);
    fs::write(&raw, bytes).unwrap();
    let done = Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).args([&raw, &qcow2]).status();
    assert!(done.unwrap().success());
    fs::read(qcow2).unwrap()
}

fn blocks(bytes: &[u8]) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let blocks: Vec<_> = bytes.chunks(10_000).map(|block| Ok(Bytes::copy_from_slice(block))).collect();
    stream::iter(blocks)
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

async fn import(store: &Store, bytes: &[u8]) -> Result<ImportedImage, ImageError> {
    store.import(blocks(bytes), Expected::default(), &watch::Sender::default()).await
}

fn names(store: &Store) -> BTreeSet<String> {
    let dir = store.layout.image(Blake3([0; 32]), ImageFormat::Raw);
    let entries = fs::read_dir(dir.parent().unwrap()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn record(image: &ImportedImage) -> TemplateVersion {
    TemplateVersion {
        template: TemplateName::new("t").unwrap(),
        version: image.version,
        sha256: image.sha256,
        size: image.size,
        virtual_size: image.virtual_size,
        format: image.format,
        source: Source::Upload,
        origin: NodeId::from_random(1),
        added_at: Timestamp(0),
    }
}

#[tokio::test]
async fn what_was_taken_in_a_moment_ago_is_not_removed_as_idle() {
    let (_dir, store) = store(Arc::new(NoPeers));
    let bytes = image(1);
    let version = import(&store, &bytes).await.unwrap().version;
    assert!(!store.remove_idle(version, Duration::from_secs(60)).await.unwrap());
    assert!(store.present(version).await);
    assert!(store.remove_idle(version, Duration::ZERO).await.unwrap());
    assert!(!store.present(version).await);
    // The same bytes again: they count as new although they were here before.
    import(&store, &bytes).await.unwrap();
    import(&store, &bytes).await.unwrap();
    assert!(!store.remove_idle(version, Duration::from_secs(60)).await.unwrap());
    assert!(store.present(version).await);
}

#[tokio::test]
async fn an_image_comes_in() {
    let (_dir, store) = store(Arc::new(NoPeers));
    let bytes = image(3);
    let expected = Expected { sha256: Some(sha256(&bytes)), size: Some(ByteSize::bytes(bytes.len() as u64)) };
    let progress = watch::Sender::default();
    let imported = store.import(blocks(&bytes), expected, &progress).await.unwrap();
    assert_eq!(imported.version, Blake3::of(&bytes));
    assert_eq!(imported.virtual_size, ByteSize::mib(3));
    assert_eq!((imported.format, imported.size), (ImageFormat::Qcow2, ByteSize::bytes(bytes.len() as u64)));
    assert_eq!(*progress.borrow(), Progress { done: imported.size, total: Some(imported.size) });
    assert!(store.present(imported.version).await);
    let path = store.ensure(&record(&imported)).await.unwrap();
    assert!(path.ends_with(format!("{}.qcow2", imported.version)) && path.is_absolute());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    let all = BTreeSet::from([format!("{}.qcow2", imported.version), format!("{}.obao", imported.version)]);
    assert_eq!(names(&store), all);
    assert_eq!(import(&store, &bytes).await.unwrap(), imported, "the same bytes again");
    assert_eq!(names(&store), all);
    assert_eq!(store.list().await.unwrap(), [imported.version]);
    store.remove(imported.version).await.unwrap();
    store.remove(imported.version).await.unwrap();
    assert!(!store.present(imported.version).await && names(&store).is_empty());
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let (_dir, store) = store(Arc::new(NoPeers));
    let bytes = image(1);
    let wrong = Expected { sha256: Some(sha256(b"other")), size: None };
    let error = store.import(blocks(&bytes), wrong, &watch::Sender::default()).await.unwrap_err();
    assert!(matches!(error, ImageError::Sha256 { found, .. } if found == sha256(&bytes)), "{error}");
    let error = import(&store, b"hello").await.unwrap_err();
    assert!(matches!(error, ImageError::Refused(Refusal::NotAnImage { .. })), "{error}");
    let error = import(&store, &vec![0; 65 << 20]).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    let hint = |size| Expected { sha256: None, size: Some(size) };
    let error = store.import(blocks(b""), hint(ByteSize::gib(1)), &watch::Sender::default()).await.unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    let broken = blocks(&bytes[..20_000]).chain(stream::iter([Err(io::ErrorKind::ConnectionReset.into())]));
    let error = store.import(broken, Expected::default(), &watch::Sender::default()).await.unwrap_err();
    assert!(matches!(error, ImageError::Upload { .. }), "{error}");
    assert_eq!(names(&store), BTreeSet::new());
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing_behind() {
    let (_dir, store) = store(Arc::new(NoPeers));
    let progress = watch::Sender::<Progress>::default();
    let mut seen = progress.subscribe();
    let endless = blocks(&image(1)).chain(stream::pending());
    {
        let expected = Expected::default();
        let import = store.import(endless, expected, &progress);
        let begun = seen.wait_for(|p| p.done > ByteSize::mib(1));
        tokio::select! {
            _ = import => panic!("it cannot end"),
            begun = begun => drop(begun.unwrap()),
        }
    }
    // The writing thread hears of it on its own time.
    let gone = async {
        while !names(&store).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn a_start_clears_what_a_crash_left_but_keeps_what_was_fetched() {
    let (dir, store) = store(Arc::new(NoPeers));
    let version = Blake3::of(b"x");
    let (part, tree) = store.layout.part(version);
    for path in [&part, &tree, &part.with_file_name(".import-Xyz123")] {
        fs::write(path, b"half").unwrap();
    }
    let store = Store::open(settings(dir.path()), Arc::new(NoPeers)).unwrap();
    assert_eq!(names(&store).len(), 2);
    assert_eq!(store.unfinished().await.unwrap(), [version]);
    assert_eq!(store.list().await.unwrap(), []);
    store.remove(version).await.unwrap();
    assert_eq!(names(&store), BTreeSet::new());
}

#[test]
fn a_full_disk_is_named_and_left_clean() {
    on_small_disk("images::store::tests::a_full_disk_is_named_and_left_clean", "1m", |disk| {
        let store = Store::open(settings(disk), Arc::new(NoPeers)).unwrap();
        let bytes = image(2);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hint = Expected { sha256: None, size: Some(ByteSize::mib(2)) };
        let early = runtime.block_on(store.import(stream::pending(), hint, &watch::Sender::default())).unwrap_err();
        assert!(matches!(&early, ImageError::NoSpace { needed, .. } if *needed == ByteSize::mib(2)), "{early}");
        let late = runtime.block_on(import(&store, &bytes)).unwrap_err();
        assert!(matches!(&late, ImageError::NoSpace { .. }), "{late}");
        assert_eq!(names(&store), BTreeSet::new());
    });
}

/// Nodes that serve over pipes in memory.
#[derive(Debug, Default)]
struct Cluster {
    nodes: Vec<(NodeId, Behaviour)>,
    opened: AtomicUsize,
}

#[derive(Debug, Clone)]
enum Behaviour {
    /// Serves what its store has.
    Serve(Arc<Store>),
    /// Serves, and breaks the connection after so many bytes.
    Break(Arc<Store>, u64),
    /// Proves parts of another image.
    Lie(Arc<Tree>),
    /// Never answers.
    Hang,
    /// Cannot be reached.
    Down,
}

#[async_trait]
impl ImagePeers for Cluster {
    async fn holders(&self, _: Blake3) -> Vec<NodeId> {
        self.nodes.iter().map(|(node, _)| *node).collect()
    }

    async fn open(&self, node: NodeId) -> io::Result<(PeerReader, PeerWriter)> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let (_, behaviour) = self.nodes.iter().find(|(id, _)| *id == node).unwrap().clone();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (reader, writer) = tokio::io::split(near);
        let (far_reader, far_writer) = tokio::io::split(far);
        match behaviour.clone() {
            Behaviour::Down => return Err(io::ErrorKind::ConnectionRefused.into()),
            Behaviour::Hang => {
                tokio::spawn(async move {
                    let _held = (far_reader, far_writer);
                    std::future::pending::<()>().await;
                });
            }
            Behaviour::Lie(tree) => {
                tokio::spawn(lie(tree, far_reader, far_writer));
            }
            Behaviour::Serve(store) | Behaviour::Break(store, _) => {
                tokio::spawn(async move { store.serve_blocks(far_reader, far_writer).await });
            }
        }
        let reader: PeerReader = match behaviour {
            Behaviour::Break(_, after) => Box::new(tokio::io::AsyncReadExt::take(reader, after)),
            _ => Box::new(reader),
        };
        Ok((reader, Box::new(writer)))
    }
}

async fn lie(tree: Arc<Tree>, mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) {
    use crate::images::wire::{self, Answer, Request};
    while let Ok(Some(Request { start, end, .. })) = wire::receive(&mut reader).await {
        let part = tree.encode(start..end).unwrap();
        wire::send(&mut writer, &Answer::Part(part.len() as u64)).await.unwrap();
        // Nobody listens to a liar to the end.
        tokio::io::AsyncWriteExt::write_all(&mut writer, &part).await.ok();
    }
}

fn node(n: u64) -> NodeId {
    NodeId::from_random(n)
}

fn cluster(behaviours: impl IntoIterator<Item = Behaviour>) -> Cluster {
    let nodes = behaviours.into_iter().zip(1..).map(|(behaviour, n)| (node(n), behaviour)).collect();
    Cluster { nodes, opened: AtomicUsize::default() }
}

/// A store with an image, and what the cluster records of it. 9 MiB are three parts.
async fn holder() -> (TempDir, Arc<Store>, TemplateVersion) {
    let (dir, store) = store(Arc::new(NoPeers));
    let imported = import(&store, &image(9)).await.unwrap();
    (dir, Arc::new(store), record(&imported))
}

#[tokio::test]
async fn an_image_is_fetched_from_several_nodes() {
    let (_a, first, wanted) = holder().await;
    let (_b, second, _) = holder().await;
    let (_dir, store) = store(Arc::new(cluster([Behaviour::Serve(first.clone()), Behaviour::Serve(second)])));
    let path = store.ensure(&wanted).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), fs::read(first.ensure(&wanted).await.unwrap()).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    assert_eq!(names(&store), names(&first));
    // What was fetched can be handed on: the tree came with it.
    let (_c, third) = self::store(Arc::new(cluster([Behaviour::Serve(Arc::new(store))])));
    third.ensure(&wanted).await.unwrap();
}

#[tokio::test]
async fn who_comes_second_waits_for_the_first() {
    let (_a, holder, wanted) = holder().await;
    let peers = Arc::new(cluster([Behaviour::Serve(holder)]));
    let (_dir, store) = store(peers.clone());
    let (first, second) = tokio::join!(store.ensure(&wanted), store.ensure(&wanted));
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(peers.opened.load(Ordering::Relaxed), 1);
    assert_eq!(*store.fetching().borrow(), BTreeMap::new());
}

#[tokio::test]
async fn a_node_that_lies_is_named_and_others_make_up_for_it() {
    let (_a, honest, wanted) = holder().await;
    // One byte is another, and the tree is made anew over it: every hash fits, but for the root.
    let dir = tempfile::tempdir().unwrap();
    let (path, tree) = (dir.path().join("image"), dir.path().join("tree"));
    let mut bytes = fs::read(honest.ensure(&wanted).await.unwrap()).unwrap();
    bytes[5 << 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let root = Tree::build(&path, &tree).unwrap();
    let liar = Behaviour::Lie(Arc::new(Tree::open(root, &path, &tree).unwrap()));

    let (_dir, deceived) = store(Arc::new(cluster([liar.clone()])));
    let error = deceived.ensure(&wanted).await.unwrap_err();
    let ImageError::Fetch(FetchError::Failed { faults, .. }) = &error else { panic!("{error}") };
    assert!(matches!(faults.0[..], [(named, PeerFault::Lied)] if named == node(1)), "{error}");
    assert!(error.to_string().contains(&node(1).to_string()), "{error}");
    assert!(!deceived.present(wanted.version).await);
    let (part, part_tree) = deceived.layout.part(wanted.version);
    let ours = Tree::part(wanted.version, wanted.size.as_bytes(), &part, &part_tree).unwrap();
    assert_eq!(ours.missing().unwrap(), vec![0..wanted.size.as_bytes()], "nothing of it was kept");

    let (_dir, store) = store(Arc::new(cluster([liar, Behaviour::Serve(honest)])));
    let path = store.ensure(&wanted).await.unwrap();
    assert_eq!(Blake3::of(&fs::read(path).unwrap()), wanted.version);
}

#[tokio::test]
async fn a_node_whose_disk_fails_says_so_and_passes_nothing_on() {
    let (_a, failing, wanted) = holder().await;
    let path = failing.ensure(&wanted).await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    let (_dir, store) = store(Arc::new(cluster([Behaviour::Serve(failing)])));
    let error = store.ensure(&wanted).await.unwrap_err();
    let ImageError::Fetch(FetchError::Failed { faults, .. }) = &error else { panic!("{error}") };
    assert!(matches!(faults.0[..], [(_, PeerFault::Unreadable)]), "{error}");
}

#[tokio::test]
async fn what_was_fetched_before_is_kept_and_gone_on_from() {
    let (_a, holder, wanted) = holder().await;
    let dir = tempfile::tempdir().unwrap();
    let first =
        Store::open(settings(dir.path()), Arc::new(cluster([Behaviour::Break(holder.clone(), 5 << 20)]))).unwrap();
    let error = first.ensure(&wanted).await.unwrap_err();
    assert!(matches!(&error, ImageError::Fetch(FetchError::Failed { faults, .. }) if faults.0.len() == 1), "{error}");
    assert_eq!(first.unfinished().await.unwrap(), [wanted.version]);
    let (part, part_tree) = first.layout.part(wanted.version);
    let missing = Tree::part(wanted.version, wanted.size.as_bytes(), &part, &part_tree).unwrap().missing().unwrap();
    assert_eq!(missing, vec![4 << 20..wanted.size.as_bytes()]);
    // A byte that the disk lost in between is noticed, and fetched again.
    let mut bytes = fs::read(&part).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let second = Store::open(settings(dir.path()), Arc::new(cluster([Behaviour::Serve(holder)]))).unwrap();
    let path = second.ensure(&wanted).await.unwrap();
    assert_eq!(Blake3::of(&fs::read(path).unwrap()), wanted.version);
    assert_eq!(second.unfinished().await.unwrap(), []);
}

#[tokio::test]
async fn nodes_that_fail_in_any_way_are_passed_over() {
    let (_a, holder, wanted) = holder().await;
    let (_b, empty) = store(Arc::new(NoPeers));
    let failing =
        [Behaviour::Down, Behaviour::Serve(Arc::new(empty)), Behaviour::Break(holder.clone(), 100), Behaviour::Hang];
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let impatient = |dir: &Path| StoreSettings {
        patience: Patience { open: Duration::from_secs(1), part: Duration::from_secs(1) },
        ..settings(dir)
    };
    let alone = Store::open(impatient(dir.path()), Arc::new(cluster(failing.clone()))).unwrap();
    let error = alone.ensure(&wanted).await.unwrap_err();
    let ImageError::Fetch(FetchError::Failed { faults, .. }) = &error else { panic!("{error}") };
    let named: BTreeSet<_> = faults.0.iter().map(|(node, _)| *node).collect();
    assert_eq!(named, (1..=4).map(node).collect(), "{error}");
    let helped = cluster(failing.into_iter().chain([Behaviour::Serve(holder)]));
    let store = Store::open(impatient(other.path()), Arc::new(helped)).unwrap();
    store.ensure(&wanted).await.unwrap();
}

#[tokio::test]
async fn nobody_having_it_is_said() {
    let (_a, _, wanted) = holder().await;
    let (_dir, store) = store(Arc::new(NoPeers));
    let error = store.ensure(&wanted).await.unwrap_err();
    assert!(matches!(error, ImageError::Fetch(FetchError::NoHolder(version)) if version == wanted.version), "{error}");
}

#[tokio::test]
async fn a_record_that_does_not_fit_the_bytes_is_noticed() {
    let (_a, holder, wanted) = holder().await;
    let (_dir, store) = store(Arc::new(cluster([Behaviour::Serve(holder)])));
    let wrong = TemplateVersion { virtual_size: ByteSize::gib(1), ..wanted };
    let error = store.ensure(&wrong).await.unwrap_err();
    assert!(matches!(error, ImageError::Refused(Refusal::OtherThanRecorded { .. })), "{error}");
    assert!(!store.present(wrong.version).await);
}

#[tokio::test]
async fn a_server_answers_nonsense_with_a_refusal() {
    use crate::images::wire::{self, Answer, Request};
    let (_a, holder, wanted) = holder().await;
    let (near, far) = tokio::io::duplex(64 << 10);
    let (far_reader, far_writer) = tokio::io::split(far);
    let server = tokio::spawn(async move { holder.serve_blocks(far_reader, far_writer).await });
    let (mut reader, mut writer) = tokio::io::split(near);
    for (start, end) in [(5, 5), (9, 3), (0, u64::MAX), (wanted.size.as_bytes(), wanted.size.as_bytes() + 1)] {
        wire::send(&mut writer, &Request { version: wanted.version, start, end }).await.unwrap();
        assert_eq!(wire::receive(&mut reader).await.unwrap(), Some(Answer::Refused), "{start}..{end}");
    }
    wire::send(&mut writer, &Request { version: Blake3::of(b"no"), start: 0, end: 1 }).await.unwrap();
    assert_eq!(wire::receive(&mut reader).await.unwrap(), Some(Answer::NotHere));
    tokio::io::AsyncWriteExt::write_all(&mut writer, &u32::MAX.to_le_bytes()).await.unwrap();
    assert_eq!(server.await.unwrap().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

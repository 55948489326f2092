//! The directory of disks with the real `qemu-img`, and the rules that the fake must follow too.

use super::*;
use crate::{small_disk::on_small_disk, volumes::fake::FakeVolumes};
use std::process::Command;
use tempfile::TempDir;
use waifud_model::ids::Generation;

const MIB: ByteSize = ByteSize::mib(1);

fn vm(n: u8) -> VmId {
    VmId::from_random([n; 16])
}

fn mib(n: u64) -> ByteSize {
    ByteSize::mib(n)
}

/// Runs `qemu-img` for a test and gives what it printed.
fn qemu_img(args: &[&str]) -> String {
    let output = Command::new("qemu-img").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn base(dir: &Path, format: &str, size: &str) -> PathBuf {
    let path = dir.join(format!("base.{format}"));
    qemu_img(&["create", "-q", "-f", format, path.to_str().unwrap(), size]);
    path
}

fn volumes() -> (TempDir, DirVolumes) {
    let dir = tempfile::tempdir().unwrap();
    let volumes = DirVolumes::open(dir.path().join("volumes")).unwrap();
    (dir, volumes)
}

/// The lives of which there is a root disk.
async fn lives(volumes: &dyn Volumes) -> Vec<u32> {
    volumes.disks(vm(1)).await.unwrap().roots.into_keys().collect()
}

/// What every implementation of [`Volumes`] must do; `base` makes a disk of 8 MiB.
async fn contract(volumes: &dyn Volumes, base: &Path, other: &Path) {
    assert_eq!(volumes.find(vm(1), 1).await.unwrap(), None);
    volumes.remove(vm(1)).await.unwrap();
    let made = volumes.ensure(vm(1), 1, Some((base, ImageFormat::Qcow2)), mib(16)).await.unwrap();
    assert_eq!(
        volumes.ensure(vm(1), 1, Some((base, ImageFormat::Qcow2)), mib(16)).await.unwrap(),
        made,
        "a repetition does no harm"
    );
    assert_eq!(volumes.find(vm(1), 1).await.unwrap().as_ref(), Some(&made));
    assert_eq!(
        volumes.ensure(vm(1), 1, Some((base, ImageFormat::Qcow2)), mib(32)).await.unwrap(),
        made,
        "it grows in its place"
    );
    let shrunk = volumes.ensure(vm(1), 1, Some((base, ImageFormat::Qcow2)), mib(16)).await.unwrap_err();
    assert!(matches!(shrunk, VolumeError::Shrink { have, wanted, .. } if have == mib(32) && wanted == mib(16)));
    let moved = volumes.ensure(vm(1), 1, Some((other, ImageFormat::Qcow2)), mib(32)).await.unwrap_err();
    assert!(matches!(moved, VolumeError::OtherBase { have, .. } if have.as_deref() == Some(base)));
    volumes.ensure(vm(0), 1, Some((base, ImageFormat::Qcow2)), mib(16)).await.unwrap();
    let iso = volumes.ensure(vm(2), 1, Some((base, ImageFormat::Iso)), mib(16)).await.unwrap_err();
    assert!(matches!(iso, VolumeError::NotABase { .. }), "{iso}");

    // Another life has a disk of its own, with a base or without.
    let second = volumes.ensure(vm(1), 2, None, mib(16)).await.unwrap();
    assert_eq!(volumes.ensure(vm(1), 2, None, mib(24)).await.unwrap(), second);
    assert_ne!(second, made);
    let based = volumes.ensure(vm(1), 2, Some((base, ImageFormat::Qcow2)), mib(24)).await.unwrap_err();
    assert!(matches!(based, VolumeError::OtherBase { have: None, .. }), "{based}");
    volumes.ensure(vm(1), 10, None, mib(16)).await.unwrap();
    assert_eq!(lives(volumes).await, [1, 2, 10]);
    volumes.remove_old_lives(vm(1), 2).await.unwrap();
    volumes.remove_old_lives(vm(1), 2).await.unwrap();
    assert_eq!(lives(volumes).await, [2, 10]);
    assert_eq!(volumes.find(vm(1), 1).await.unwrap(), None);

    // Data disks outlast lives, and are told apart by place, name and when they came.
    let data = |slot, name: &str, born| DataVolume { slot, name: name.parse().unwrap(), born: Generation(born) };
    let (db, log, again) = (data(3, "db", 1), data(3, "log", 1), data(3, "db", 7));
    let disk = volumes.ensure_data(vm(1), &db, mib(1)).await.unwrap();
    assert_eq!(volumes.ensure_data(vm(1), &db, mib(2)).await.unwrap(), disk);
    let shrunk = volumes.ensure_data(vm(1), &db, mib(1)).await.unwrap_err();
    assert!(matches!(shrunk, VolumeError::Shrink { .. }), "{shrunk}");
    assert_eq!(volumes.find_data(vm(1), &db).await.unwrap(), Some(disk.clone()));
    for other in [&log, &again] {
        assert_eq!(volumes.find_data(vm(1), other).await.unwrap(), None);
        assert_ne!(volumes.ensure_data(vm(1), other, mib(1)).await.unwrap(), disk);
    }
    volumes.ensure_data(vm(1), &data(0, "log", 1), mib(1)).await.unwrap();
    volumes.remove_data(vm(1), &log).await.unwrap();
    volumes.remove_data(vm(1), &log).await.unwrap();
    volumes.remove_old_lives(vm(1), u32::MAX).await.unwrap();
    assert!(lives(volumes).await.is_empty());
    let left = volumes.disks(vm(1)).await.unwrap().data;
    assert_eq!(left[&db], disk.path);
    assert_eq!(left.into_keys().collect::<Vec<_>>(), [data(0, "log", 1), db, again]);
    let mut both = vec![vm(0), vm(1)];
    both.sort_unstable();
    assert_eq!(volumes.list().await.unwrap(), both);
    volumes.remove(vm(1)).await.unwrap();
    volumes.remove(vm(1)).await.unwrap();
    assert_eq!(volumes.list().await.unwrap(), [vm(0)]);
}

#[tokio::test]
async fn the_directory_keeps_the_contract() {
    let (dir, volumes) = volumes();
    let first = base(dir.path(), "qcow2", "8M");
    let second = dir.path().join("second.qcow2");
    fs::copy(&first, &second).unwrap();
    contract(&volumes, &first, &second).await;
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    contract(&FakeVolumes::default(), Path::new("/a"), Path::new("/b")).await;
}

#[tokio::test]
async fn a_disk_names_its_base_and_the_bases_format() {
    let (dir, volumes) = volumes();
    let raw = base(dir.path(), "raw", "8M");
    let made = volumes.ensure(vm(1), 1, Some((&raw, ImageFormat::Raw)), mib(16)).await.unwrap();
    let info: serde_json::Value =
        serde_json::from_str(&qemu_img(&["info", "--output=json", made.path.to_str().unwrap()])).unwrap();
    assert_eq!(info["backing-filename"], raw.to_str().unwrap());
    assert_eq!(info["backing-filename-format"], "raw");
    assert_eq!(info["virtual-size"], 16 << 20);
    assert_eq!(info["format"], "qcow2");
}

#[tokio::test]
async fn a_disk_smaller_than_its_base_is_refused_and_leaves_nothing() {
    let (dir, volumes) = volumes();
    let base = base(dir.path(), "qcow2", "8M");
    let error = volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), MIB).await.unwrap_err();
    assert!(matches!(&error, VolumeError::BelowBase { have, .. } if *have == mib(8)), "{error}");
    assert_eq!(fs::read_dir(&volumes.dir.0).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_base_is_named() {
    let (dir, volumes) = volumes();
    let error = volumes.ensure(vm(1), 1, Some((&dir.path().join("gone"), ImageFormat::Qcow2)), MIB).await.unwrap_err();
    assert!(error.to_string().contains("cannot open") && error.to_string().contains("gone"), "{error}");
}

#[tokio::test]
async fn what_a_crash_left_is_removed_and_nothing_else() {
    let (dir, volumes) = volumes();
    let base = base(dir.path(), "qcow2", "8M");
    volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(8)).await.unwrap();
    fs::write(volumes.dir.0.join(".new-abcdef.qcow2"), b"half").unwrap();
    fs::write(volumes.dir.0.join("notes.txt"), b"mine").unwrap();
    let again = DirVolumes::open(volumes.dir.0.clone()).unwrap();
    assert_eq!(again.list().await.unwrap(), [vm(1)]);
    let mut names = again.dir.names().unwrap();
    names.sort();
    assert_eq!(names, [format!("{}.qcow2", vm(1)), "notes.txt".to_owned()]);
}

#[tokio::test]
async fn what_is_not_ours_is_not_used() {
    let (dir, volumes) = volumes();
    let base = base(dir.path(), "qcow2", "8M");
    fs::write(
        volumes.dir.disk(vm(1), &Which::Root(1)),
        b"not a disk at all, but long enough to hold the header of one: ".repeat(4),
    )
    .unwrap();
    let error = volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(8)).await.unwrap_err();
    assert!(matches!(error, VolumeError::Foreign { .. }), "{error}");
    std::os::unix::fs::symlink(&base, volumes.dir.disk(vm(2), &Which::Root(1))).unwrap();
    let error = volumes.find(vm(2), 1).await.unwrap_err();
    assert!(matches!(error, VolumeError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn a_disk_in_use_does_not_grow() {
    use std::io::{BufRead, BufReader, Write};
    let (dir, volumes) = volumes();
    let base = base(dir.path(), "qcow2", "8M");
    let made = volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(8)).await.unwrap();
    let mut user = Command::new("qemu-io")
        .args(["-f", "qcow2", made.path.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It answers only once it has the disk open, and locked.
    user.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
    let mut line = String::new();
    BufReader::new(user.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains('8'), "{line}");
    assert_eq!(volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(8)).await.unwrap(), made);
    let error = volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(16)).await.unwrap_err();
    assert!(matches!(error, VolumeError::InUse { .. }), "{error}");
    drop(user.stdin.take());
    user.wait().unwrap();
    volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(16)).await.unwrap();
}

#[test]
fn a_full_disk_is_named_and_left_clean() {
    on_small_disk("volumes::dir::tests::a_full_disk_is_named_and_left_clean", "64k", |disk| {
        let bases = tempfile::tempdir().unwrap();
        let base = base(bases.path(), "qcow2", "8M");
        let volumes = DirVolumes::open(disk.join("volumes")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(volumes.ensure(vm(1), 1, Some((&base, ImageFormat::Qcow2)), mib(8))).unwrap_err();
        assert!(matches!(&error, VolumeError::NoSpace { .. }), "{error}");
        assert_eq!(volumes.dir.names().unwrap(), Vec::<String>::new());
    });
}

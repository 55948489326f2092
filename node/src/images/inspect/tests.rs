//! Real images and what `qemu-img` makes of them, each damaged in one way: every way has its own refusal.

use super::*;
use std::{fs, io::Write, os::unix::fs::FileExt, process::Command};
use tempfile::TempDir;

const MAX: ByteSize = ByteSize::gib(2048);

struct Images(TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = Command::new(program).args(args).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A qcow2 of `size` with data in the first and the last mebibyte.
    fn qcow2(&self, name: &str, options: &str, size: &str) -> PathBuf {
        self.run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, name, size]);
        self.run("qemu-io", &["-f", "qcow2", "-c", "write -P 7 0 1M", "-c", "write -P 9 7M 1M", name]);
        self.path(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    /// A good qcow2 with some bytes replaced.
    fn patched(&self, at: u64, bytes: &[u8]) -> PathBuf {
        let path = self.qcow2("patched.qcow2", "cluster_size=64k", "8M");
        patch(&path, at, bytes);
        path
    }

    /// An empty raw disk of `len` bytes with an MBR partition of `sectors` from sector 64 on.
    fn mbr(&self, len: u64, sectors: u32) -> PathBuf {
        let path = self.file("disk.raw", b"");
        File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let mut entry = [0; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&64u32.to_le_bytes());
        entry[12..].copy_from_slice(&sectors.to_le_bytes());
        patch(&path, 446, &entry);
        patch(&path, 510, &[0x55, 0xaa]);
        path
    }
}

fn patch(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn number(path: &Path, at: u64) -> u64 {
    let mut bytes = [0; 8];
    File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    u64::from_be_bytes(bytes)
}

async fn refusal(path: &Path) -> Refusal {
    match inspect(&QemuImg::default(), path, MAX).await {
        Err(ImageError::Refused(refusal)) => refusal,
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// Asserts that the refusal is of the expected kind, and that its message says what it should.
macro_rules! refused {
    ($path:expr, $pattern:pat, $says:literal) => {{
        let refusal = refusal(&$path).await;
        assert!(matches!(refusal, $pattern), "{refusal:?}");
        assert!(refusal.to_string().contains($says), "{refusal}");
    }};
}

#[tokio::test]
async fn what_qemu_makes_is_taken() {
    let images = Images::new();
    for (name, options) in [
        ("v2", "compat=0.10"),
        ("v3", "compat=1.1"),
        ("small-clusters", "cluster_size=512"),
        ("large-clusters", "cluster_size=2M"),
        ("subclusters", "extended_l2=on,cluster_size=128k"),
        ("lazy", "lazy_refcounts=on"),
        ("preallocated", "preallocation=metadata"),
    ] {
        let path = images.qcow2(name, options, "8M");
        let seen = inspect(&QemuImg::default(), &path, MAX).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(seen, Inspected { format: ImageFormat::Qcow2, virtual_size: ByteSize::mib(8) }, "{name}");
    }
    for (name, kind) in [("zlib", "compression_type=zlib"), ("zstd", "compression_type=zstd")] {
        images.run("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", kind, "v3", name]);
        inspect(&QemuImg::default(), &images.path(name), MAX).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let raw = images.mbr(1 << 20, 1024);
    let seen = inspect(&QemuImg::default(), &raw, MAX).await.unwrap();
    assert_eq!(seen, Inspected { format: ImageFormat::Raw, virtual_size: ByteSize::mib(1) });
}

#[tokio::test]
async fn a_cd_is_told_from_a_disk_even_with_a_partition_table() {
    let images = Images::new();
    // An image as installers have it: it can be written to a USB stick too.
    let hybrid = images.mbr(1 << 20, 1024);
    let blocks = ((1u32 << 20) / 2048).to_le_bytes();
    for (at, bytes) in [(0x8000, &b"\x01CD001\x01"[..]), (0x8050, &blocks[..]), (0x8080, &2048u16.to_le_bytes()[..])] {
        patch(&hybrid, at, bytes);
    }
    let seen = inspect(&QemuImg::default(), &hybrid, MAX).await.unwrap();
    assert_eq!(seen, Inspected { format: ImageFormat::Iso, virtual_size: ByteSize::mib(1) });
    let whole = fs::read(&hybrid).unwrap();
    refused!(images.file("cut", &whole[..1 << 19]), Refusal::Truncated { .. }, "the CD's volume");
    assert!(matches!(refusal(&images.file("stub", &whole[0x7000..0x8007])).await, Refusal::NotAnImage { .. }));
}

#[tokio::test]
async fn what_reaches_into_this_host_is_refused() {
    let images = Images::new();
    images.qcow2("base", "compat=1.1", "8M");
    images.run("qemu-img", &["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "overlay"]);
    refused!(images.path("overlay"), Refusal::BackingFile(_), "backing file (\"base\"); flatten it");
    images.run("qemu-img", &["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "thief", "8M"]);
    refused!(images.path("thief"), Refusal::BackingFile(_), "/etc/shadow");
    images.run("qemu-img", &["create", "-q", "-f", "qcow2", "-o", "data_file=outside", "external", "8M"]);
    refused!(images.path("external"), Refusal::ExternalData(_), "another file (\"outside\")");
}

#[tokio::test]
async fn what_would_exhaust_this_host_is_refused() {
    let images = Images::new();
    images.run("qemu-img", &["create", "-q", "-f", "qcow2", "huge", "3T"]);
    refused!(images.path("huge"), Refusal::TooLarge { .. }, "a disk of 3 TiB; at most 2 TiB");
    refused!(images.patched(36, &0x1000_0000u32.to_be_bytes()), Refusal::Bomb(_), "L1 table of more than 32 MiB");
    refused!(images.patched(56, &0x1000_0000u32.to_be_bytes()), Refusal::Bomb(_), "reference count table");
    refused!(images.patched(60, &u32::MAX.to_be_bytes()), Refusal::Bomb(_), "snapshots");
    // Two L1 entries that name one table: a small file that reads as a large disk.
    let path = images.qcow2("twice", "cluster_size=512", "8M");
    let l1 = number(&path, 40);
    patch(&path, l1 + 8, &number(&path, l1).to_be_bytes());
    refused!(path, Refusal::Bomb(_), "used twice");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    let images = Images::new();
    refused!(images.patched(32, &2u32.to_be_bytes()), Refusal::Encrypted, "encrypted");
    refused!(images.patched(4, &9u32.to_be_bytes()), Refusal::Version(9), "version 9");
    refused!(images.patched(72, &(1u64 << 40).to_be_bytes()), Refusal::UnknownFeatures(_), "feature 40");
    refused!(images.patched(72, &2u64.to_be_bytes()), Refusal::Corrupt(_), "marked so");
    refused!(images.patched(72, &1u64.to_be_bytes()), Refusal::Corrupt(_), "not closed cleanly");
    refused!(images.patched(20, &63u32.to_be_bytes()), Refusal::Corrupt(_), "clusters of 2^63");
    refused!(images.patched(24, &0u64.to_be_bytes()), Refusal::Corrupt(_), "no size");
    refused!(images.patched(24, &(1u64 << 40).to_be_bytes()), Refusal::Corrupt(_), "too short for the disk");
    refused!(images.patched(40, &12345u64.to_be_bytes()), Refusal::Corrupt(_), "does not begin with a cluster");
    refused!(images.patched(100, &u32::MAX.to_be_bytes()), Refusal::Corrupt(_), "a header of 4294967295 bytes");
    // Wrong reference counts: nothing that our own look sees, only QEMU's.
    let path = images.patched(0, b"QFI");
    let refcounts = number(&path, number(&path, 48));
    patch(&path, refcounts, &[0; 64]);
    refused!(path, Refusal::Corrupt(_), "corrupt");
}

#[tokio::test]
async fn what_is_cut_off_is_refused_wherever_it_is_cut() {
    let images = Images::new();
    let whole = fs::read(images.qcow2("whole", "cluster_size=64k", "8M")).unwrap();
    for keep in [8, 71, 90, 65_000, 200_000, whole.len() / 2, whole.len() - 65_536] {
        let path = images.file("cut", &whole[..keep]);
        let refusal = refusal(&path).await;
        assert!(matches!(refusal, Refusal::Truncated { .. }), "{keep} of {}: {refusal:?}", whole.len());
    }
    refused!(images.mbr(1 << 20, 4096), Refusal::Truncated { .. }, "a partition would end at");
    refused!(images.mbr((1 << 20) + 1, 1024), Refusal::Truncated { .. }, "the last sector");
    let gpt = images.mbr(1 << 20, 2047 - 64);
    patch(&gpt, 512, b"EFI PART");
    patch(&gpt, 512 + 32, &4095u64.to_le_bytes());
    refused!(gpt, Refusal::Truncated { .. }, "the backup GPT");
    patch(&gpt, 512 + 32, &2047u64.to_le_bytes());
    inspect(&QemuImg::default(), &gpt, MAX).await.unwrap();
}

#[tokio::test]
async fn other_files_are_called_what_they_are() {
    let images = Images::new();
    refused!(images.file("empty", b""), Refusal::Empty, "empty");
    refused!(images.file("gz", b"\x1f\x8b\x08 and so on"), Refusal::Packed { .. }, "gzip-compressed; unpack it");
    refused!(images.file("xz", b"\xfd7zXZ\0 and so on"), Refusal::Packed { .. }, "xz");
    refused!(images.file("page", b"\n<!DOCTYPE html><html>"), Refusal::NotAnImage { .. }, "a web page");
    refused!(images.file("page2", b"<HTML>"), Refusal::NotAnImage { .. }, "a web page");
    refused!(images.file("text", b"hello"), Refusal::NotAnImage { .. }, "no partition table");
    refused!(images.mbr(1 << 20, 0), Refusal::NotAnImage { .. }, "its partition table is empty");
    let boot = images.mbr(1 << 20, 1024);
    patch(&boot, 446, &[0x31; 16]);
    refused!(boot, Refusal::NotAnImage { .. }, "a boot sector but no partition table");
    for (format, name) in [("vmdk", "VMDK"), ("vdi", "VDI"), ("vhdx", "VHDX"), ("vpc", "VHD"), ("qed", "QED")] {
        images.run("qemu-img", &["create", "-q", "-f", format, format, "8M"]);
        let refusal = refusal(&images.path(format)).await;
        assert_eq!(refusal, Refusal::OtherFormat { format: name });
    }
}

#[tokio::test]
async fn a_qemu_img_that_cannot_run_is_no_verdict() {
    let images = Images::new();
    let path = images.qcow2("good", "compat=1.1", "8M");
    let tool = QemuImg::replaced("sleep-that-does-not-exist", std::time::Duration::from_secs(5));
    let error = inspect(&tool, &path, MAX).await.unwrap_err();
    assert!(!matches!(error, ImageError::Refused(_)), "{error}");
    // One that dies is: it was the image that killed it.
    let dying = images.file("dying", b"#!/bin/sh\nkill -ABRT $$\n");
    fs::set_permissions(&dying, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let error = inspect(&QemuImg::replaced(dying, std::time::Duration::from_secs(5)), &path, MAX).await.unwrap_err();
    assert!(matches!(error, ImageError::Refused(Refusal::Bomb(_))), "{error}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    /// Whatever the bytes: a verdict, no panic, no endless loop.
    #[test]
    fn any_bytes_get_a_verdict(
        mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..4096),
        version in 2u32..4,
        cluster_bits in 0u32..70,
    ) {
        if bytes.len() > 24 {
            bytes[..4].copy_from_slice(b"QFI\xfb");
            bytes[4..8].copy_from_slice(&version.to_be_bytes());
            bytes[20..24].copy_from_slice(&cluster_bits.to_be_bytes());
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        proptest::prop_assert!(look_at(&file, MAX).is_err());
    }
}

//! The seed disk, read by rule, by `blkid` and by the kernel.

use super::*;
use crate::instance::tests::{data, sample};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const NETWORK: &str = "version: 2\nethernets:\n  all:\n    match: {name: 'e*'}\n    dhcp4: true\n";

fn documents() -> Documents {
    let mut vm = sample();
    vm.cloud_init.user_data = data((0..=255).cycle().take(5000).collect::<Vec<u8>>());
    vm.cloud_init.network_config = data(NETWORK);
    Documents::render(&vm)
}

/// A folder of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("waifud-seed-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn an_image_is_a_megabyte_and_always_the_same() {
    let image = image(&documents());
    assert_eq!(image.len(), SIZE);
    assert_eq!(image, super::image(&documents()));
}

#[test]
fn a_larger_image_is_of_whole_megabytes_too() {
    let mut vm = sample();
    vm.cloud_init.ssh_keys = vec!["x".repeat(SIZE)];
    assert_eq!(image(&Documents::render(&vm)).len(), 2 * SIZE);
}

/// The image as ECMA-119 says it is to be read: not with this module's own constants.
#[test]
fn its_files_are_where_the_folder_says() {
    let image = image(&documents());
    let u32_at = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let volume = 16 * 2048;
    assert_eq!(&image[volume..volume + 7], b"\x01CD001\x01");
    assert_eq!(&image[volume + 40..volume + 72], format!("{:32}", "cidata").as_bytes());
    assert_eq!(u32_at(volume + 80) * 2048, image.len());
    assert_eq!(image[volume + 881], 1);
    let mut at = u32_at(volume + 156 + 2) * 2048;
    let mut names = Vec::new();
    while image[at] != 0 {
        let record = &image[at..at + usize::from(image[at])];
        if let Some(nm) = record.windows(2).position(|w| w == b"NM") {
            let name = std::str::from_utf8(&record[nm + 5..nm + usize::from(record[nm + 2])]).unwrap();
            let (start, len) = (u32_at(at + 2) * 2048, u32_at(at + 10));
            assert_eq!(&image[start..start + len], &documents().nocloud(name).unwrap().bytes()[..], "{name}");
            names.push(name.to_owned());
        }
        at += record.len();
    }
    assert_eq!(names, ["meta-data", "network-config", "user-data"]);
}

#[test]
fn user_data_is_there_even_if_there_is_none() {
    let mut vm = sample();
    vm.cloud_init.network_config = data(NETWORK);
    let image = image(&Documents::render(&vm));
    let has = |name: &str| image.windows(name.len()).any(|w| w == name.as_bytes());
    assert!(has("user-data") && !has("vendor-data") && has("network-config"));
}

/// blkid is how cloud-init finds the disk. Not every machine has it.
#[test]
fn blkid_finds_the_volume() {
    let scratch = Scratch::new("blkid");
    let path = scratch.0.join("seed.iso");
    fs::write(&path, image(&documents())).unwrap();
    let Ok(out) = Command::new("blkid").args(["-p", "-o", "export"]).arg(&path).output() else { return };
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.lines().any(|l| l == "LABEL=cidata") && said.lines().any(|l| l == "TYPE=iso9660"), "{said}");
}

/// The kernel is who reads it in the end. Mounting needs root, a loop device and the file system.
#[test]
fn linux_mounts_it_and_reads_the_same_bytes() {
    let scratch = Scratch::new("mount");
    let (path, target) = (scratch.0.join("seed.iso"), scratch.0.join("mnt"));
    fs::write(&path, image(&documents())).unwrap();
    fs::create_dir(&target).unwrap();
    let mounted = Command::new("mount").args(["-t", "iso9660", "-o", "ro,loop"]).args([&path, &target]).output();
    if !mounted.is_ok_and(|out| out.status.success()) {
        return;
    }
    let read = |dir: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        let mut files: Vec<_> =
            entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect();
        files.sort();
        files
    };
    let files = read(&target);
    assert!(Command::new("umount").arg(&target).status().unwrap().success());
    let wanted: Vec<_> = ["meta-data", "network-config", "user-data"]
        .map(|name| (name.to_owned(), documents().nocloud(name).unwrap().bytes().to_vec()))
        .into();
    assert_eq!(files, wanted);
}

//! What a file is, told from its bytes alone; names and content types lie. In: an open file; out: an [`ImageFormat`], or the
//! [`Refusal`] that says what it is instead.

use super::{
    qcow2,
    refusal::{LookError, Refusal},
};
use std::{fs::File, os::unix::fs::FileExt};
use waifud_model::template::ImageFormat;

/// Sizes of sectors that GPT disks are made with.
const SECTORS: [u64; 2] = [512, 4096];

/// Beginnings of files that people bring by mistake.
const PACKED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\xfd7zXZ\0", "xz-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"BZh", "bzip2-compressed"),
    (b"PK\x03\x04", "a zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
];

/// Beginnings of other hypervisors' images.
const FORMATS: [(&[u8], &str); 5] = [
    (b"KDMV", "VMDK"),
    (b"# Disk DescriptorFile", "VMDK"),
    (b"vhdxfile", "VHDX"),
    (b"conectix", "VHD"),
    (b"QED\0", "QED"),
];

/// Tells what `file` is.
pub(crate) fn detect(file: &File) -> Result<ImageFormat, LookError> {
    let len = file.metadata()?.len();
    let mut head = vec![0; len.min(2 * SECTORS[1]) as usize];
    file.read_exact_at(&mut head, 0)?;
    if head.is_empty() {
        return Err(Refusal::Empty.into());
    }
    if head.starts_with(&qcow2::MAGIC) {
        return Ok(ImageFormat::Qcow2);
    }
    if let Some((_, kind)) = PACKED.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Refusal::Packed { kind }.into());
    }
    if let Some((_, format)) = FORMATS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(Refusal::OtherFormat { format }.into());
    }
    // VirtualBox's begin with a text that differs by program.
    if head.get(0x40..0x44) == Some(&[0x7f, 0x10, 0xda, 0xbe]) {
        return Err(Refusal::OtherFormat { format: "VDI" }.into());
    }
    // A tar archive has its magic behind the first member's name.
    if head.get(257..262) == Some(b"ustar") {
        return Err(Refusal::Packed { kind: "a tar archive" }.into());
    }
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).unwrap_or(0);
    if head[start..].iter().take(14).map(u8::to_ascii_lowercase).collect::<Vec<_>>().starts_with(b"<!doctype html")
        || head[start..].to_ascii_lowercase().starts_with(b"<html")
    {
        return Err(
            Refusal::NotAnImage { why: "it is a web page; the address is that of a page, not of the image" }.into()
        );
    }
    // Before the partition table: installers' CDs have one too, so that they can be written to a USB stick.
    if iso(file, len)? {
        return Ok(ImageFormat::Iso);
    }
    raw(&head, len)?;
    Ok(ImageFormat::Raw)
}

/// True for the image of a CD or DVD (ISO 9660, ECMA-119): its volume descriptors begin with the 17th sector, the first of
/// them is mostly the primary one, and says how large the volume is.
fn iso(file: &File, len: u64) -> Result<bool, LookError> {
    const SECTOR: u64 = 2048;
    const PRIMARY: u8 = 1;
    if len < 17 * SECTOR {
        return Ok(false);
    }
    let mut descriptor = [0; 130];
    file.read_exact_at(&mut descriptor, 16 * SECTOR)?;
    if &descriptor[1..6] != b"CD001" {
        return Ok(false);
    }
    // ECMA-119, 8.4.8 and 8.4.12: both numbers stand there twice, with the lowest byte first and last.
    let blocks = descriptor[80..84].try_into().map_or(0, u32::from_le_bytes);
    let block = descriptor[128..130].try_into().map_or(0, u16::from_le_bytes);
    let end = u64::from(blocks) * u64::from(block);
    if descriptor[0] == PRIMARY && end > len {
        return Err(Refusal::Truncated { what: "the CD's volume", end, have: len }.into());
    }
    Ok(true)
}

/// A raw disk is taken only with a partition table that fits into it: there is nothing else to know one by.
fn raw(head: &[u8], len: u64) -> Result<(), Refusal> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return Err(Refusal::NotAnImage { why: "there is no partition table (MBR or GPT)" });
    }
    if !len.is_multiple_of(512) {
        return Err(Refusal::Truncated { what: "the last sector", end: len.next_multiple_of(512), have: len });
    }
    for sector in SECTORS {
        let Some(header) = head.get(sector as usize..sector as usize + 92).filter(|h| h.starts_with(b"EFI PART"))
        else {
            continue;
        };
        // UEFI 2.10, table 5-5: the address of the backup header, which is the disk's last sector.
        let backup = header[32..40].try_into().map_or(u64::MAX, u64::from_le_bytes);
        let end = backup.saturating_add(1).saturating_mul(sector);
        return if end > len { Err(Refusal::Truncated { what: "the backup GPT", end, have: len }) } else { Ok(()) };
    }
    mbr(&head[446..510], len)
}

/// The four entries of a classic partition table.
fn mbr(table: &[u8], len: u64) -> Result<(), Refusal> {
    let number = |entry: &[u8], at: usize| entry[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    let mut partitions = 0;
    for entry in table.chunks_exact(16) {
        if entry[0] & 0x7f != 0 {
            // The same signature ends file system boot sectors, which have code here.
            return Err(Refusal::NotAnImage { why: "there is a boot sector but no partition table (MBR or GPT)" });
        }
        let (first, count) = (u64::from(number(entry, 8)), u64::from(number(entry, 12)));
        if entry[4] == 0 || count == 0 {
            continue;
        }
        partitions += 1;
        let end = (first + count) * 512;
        if end > len {
            return Err(Refusal::Truncated { what: "a partition", end, have: len });
        }
    }
    if partitions == 0 { Err(Refusal::NotAnImage { why: "its partition table is empty" }) } else { Ok(()) }
}

//! The disk that a VM with a network-config of its own gets: NoCloud's documents as files on a volume named `cidata`.
//!
//! In: [`Documents`]. Out: the bytes of an ISO 9660 image.
//!
//! The disk has *all* documents, and its VM must not have a seed address in its SMBIOS serial. cloud-init applies a
//! network-config before there is a network only if it finds it in the stage `init-local`, and there a seed address that
//! is to be fetched by HTTP, be it in the serial or in the disk's `meta-data`, makes it pass the disk over (22.4
//! `cloudinit/sources/DataSourceNoCloud.py`: `supported_seed_starts`). It would read the disk again in the network stage, when
//! the network it describes is up already by DHCP. From 24.3 on what HTTP says of the network would even replace the disk's.
//!
//! The image is of whole [`SIZE`]s, in nearly all cases one, so that the node can write a new one in place under a
//! running guest: a host that grows or replaces the file is not noticed by QEMU. The guest reads it at its next boot.
//!
//! ```text
//! sector 16 volume ─ 17 end of volumes ─ 18, 19 path tables ─ 20 the one folder ─ 21… files, each from a new sector
//! ```
//! ECMA-119 for the layout; IEEE P1282 (Rock Ridge) for names in small letters with a `-`, which ISO 9660 itself has not.

use crate::Documents;

/// Sizes of images are multiples of this. One holds the largest documents there are (64 KiB of each kind, twice 64 KiB
/// and base64 where a default is merged in) several times over.
pub const SIZE: usize = 1 << 20;

/// The volume's name, by which cloud-init finds it.
pub const LABEL: &str = "cidata";

const SECTOR: usize = 2048;

/// ECMA-119 6.2.1: the first sectors are the system's own.
const VOLUME: usize = 16;
const VOLUMES_END: usize = 17;
const PATHS_LITTLE: usize = 18;
const PATHS_BIG: usize = 19;
const FOLDER: usize = 20;
const FILES: usize = 21;

/// 1970: an image has no date, so that the same documents are the same image.
const RECORDING_DATE: [u8; 7] = [70, 1, 1, 0, 0, 0, 0];

/// A file mode as `stat` has it: a folder and a file that root alone reads. What is in them is secret.
const FOLDER_MODE: u32 = 0o040_500;
const FILE_MODE: u32 = 0o100_400;

/// Names as Linux shows them and as ISO 9660 has them, in ISO 9660's order. The first two must be there.
const NAMES: [(&str, &str); 4] = [
    ("meta-data", "META_DATA.;1"),
    ("network-config", "NETWORK_CONFIG.;1"),
    ("user-data", "USER_DATA.;1"),
    ("vendor-data", "VENDOR_DATA.;1"),
];

/// cloud-init takes a disk for a seed only if it has these, be they empty.
const REQUIRED: [&str; 2] = ["meta-data", "user-data"];

/// The image. The same documents give the same bytes.
#[must_use]
pub fn image(documents: &Documents) -> Vec<u8> {
    let found = NAMES.iter().filter_map(|&(name, iso)| Some((name, iso, documents.nocloud(name)?.bytes())));
    let files: Vec<_> = found.filter(|(name, _, bytes)| !bytes.is_empty() || REQUIRED.contains(name)).collect();

    let mut image = vec![0; FILES * SECTOR];
    let mut folder = folder_records();
    for (name, iso, bytes) in files {
        let at = image.len() / SECTOR;
        let rock_ridge = [posix(FILE_MODE, 1), named(name)].concat();
        folder.extend(record(iso.as_bytes(), at, bytes.len(), false, &rock_ridge));
        image.extend_from_slice(bytes);
        image.resize(image.len().next_multiple_of(SECTOR), 0);
    }
    // Four records of some hundred bytes: far less than a sector.
    put(&mut image, FOLDER, &folder);
    put(&mut image, PATHS_LITTLE, &path_table(u32::to_le_bytes, u16::to_le_bytes));
    put(&mut image, PATHS_BIG, &path_table(u32::to_be_bytes, u16::to_be_bytes));
    put(&mut image, VOLUMES_END, b"\xffCD001\x01");
    image.resize(image.len().next_multiple_of(SIZE), 0);
    let volume = volume(image.len() / SECTOR);
    put(&mut image, VOLUME, &volume);
    image
}

fn put(image: &mut [u8], sector: usize, bytes: &[u8]) {
    if let Some(room) = image.get_mut(sector * SECTOR..).and_then(|rest| rest.get_mut(..bytes.len())) {
        room.copy_from_slice(bytes);
    }
}

/// The primary volume descriptor (ECMA-119 8.4).
fn volume(sectors: usize) -> Vec<u8> {
    let mut out = b"\x01CD001\x01\0".to_vec();
    let text = |out: &mut Vec<u8>, text: &str, len: usize| out.extend(format!("{text:len$}").bytes());
    text(&mut out, "", 32);
    text(&mut out, LABEL, 32);
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend([0; 32]);
    // One volume, the first of one.
    out.extend(both16(1));
    out.extend(both16(1));
    out.extend(both16(SECTOR));
    out.extend(both32(path_table(u32::to_le_bytes, u16::to_le_bytes).len()));
    // Where the path tables are; there are no second copies.
    out.extend(number32(PATHS_LITTLE).to_le_bytes());
    out.extend([0; 4]);
    out.extend(number32(PATHS_BIG).to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], FOLDER, SECTOR, true, &[]));
    // The set, publisher, preparer and application; then files with a copyright, an abstract, a bibliography: none.
    text(&mut out, "", 4 * 128 + 3 * 37);
    // Four dates, none given: digits of zero, and the zone of Greenwich.
    for _ in 0..4 {
        out.extend(b"0000000000000000\0");
    }
    out.push(1);
    out
}

/// The folder's records of itself and of its parent, which is itself, and what Rock Ridge announces itself by.
fn folder_records() -> Vec<u8> {
    // SUSP 5.3 and 5.5: that there is such a thing here, and which. Its description may be empty.
    let sharing = b"SP\x07\x01\xbe\xef\0";
    let extension = b"ER\x12\x01\x0a\0\0\x01RRIP_1991A";
    let itself = [sharing.as_slice(), &posix(FOLDER_MODE, 2), extension].concat();
    let mut out = record(&[0], FOLDER, SECTOR, true, &itself);
    out.extend(record(&[1], FOLDER, SECTOR, true, &posix(FOLDER_MODE, 2)));
    out
}

/// One record of a folder (ECMA-119 9.1).
fn record(name: &[u8], sector: usize, len: usize, folder: bool, rock_ridge: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(sector));
    out.extend(both32(len));
    out.extend(RECORDING_DATE);
    out.extend([u8::from(folder) << 1, 0, 0]);
    out.extend(both16(1));
    out.push(byte(name.len()));
    out.extend(name);
    pad(&mut out);
    out.extend(rock_ridge);
    pad(&mut out);
    out[0] = byte(out.len());
    out
}

/// Records, and what is in them, begin at even places.
fn pad(out: &mut Vec<u8>) {
    if !out.len().is_multiple_of(2) {
        out.push(0);
    }
}

/// Rock Ridge's mode, links, user and group (P1282 4.1.1, in the form of version 1.10).
fn posix(mode: u32, links: usize) -> Vec<u8> {
    let mut out = b"PX\x24\x01".to_vec();
    out.extend(mode.to_le_bytes());
    out.extend(mode.to_be_bytes());
    out.extend(both32(links));
    out.extend(both32(0));
    out.extend(both32(0));
    out
}

/// Rock Ridge's name (P1282 4.1.4).
fn named(name: &str) -> Vec<u8> {
    let mut out = b"NM".to_vec();
    out.extend([byte(5 + name.len()), 1, 0]);
    out.extend(name.bytes());
    out
}

/// The one entry of the table of folders: the root, its own parent (ECMA-119 9.4).
fn path_table(long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(long(number32(FOLDER)));
    out.extend(short(1));
    out.extend([0, 0]);
    out
}

/// A number in both orders of bytes, as ISO 9660 has them.
fn both32(n: usize) -> Vec<u8> {
    [number32(n).to_le_bytes(), number32(n).to_be_bytes()].concat()
}

/// The same in 16 bits: of constants only, all below 2^16.
fn both16(n: usize) -> Vec<u8> {
    let n = n as u16;
    [n.to_le_bytes(), n.to_be_bytes()].concat()
}

/// Sizes and places in an image of a few megabytes.
const fn number32(n: usize) -> u32 {
    n as u32
}

/// Lengths of names and of records, all below 256.
const fn byte(n: usize) -> u8 {
    n as u8
}

#[cfg(test)]
mod tests;

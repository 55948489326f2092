//! What guests have written to their serial ports: kept by libvirt in a file a VM, bounded, read and removed here.
//!
//! ```text
//!   <vm>.log      written by QEMU or virtlogd, always at its end          0 ……hole…… │ kept ……………… │ end
//!   <vm>.starts   where in it the guest's lives began, the newest last                ▲ given back from the front
//! ```
//!
//! The file is bounded by giving the blocks of its front back to the file system (`fallocate(2)`, punch hole): nothing is
//! copied, nothing that is written meanwhile is lost, and a place in the file stays the same place. virtlogd has a bound of
//! its own (2 MiB and three old files, by its configuration), but it is not everywhere: QEMU may write the file itself. Where
//! virtlogd begins a new file, the old ones are its own to keep; only their removal is ours.

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    unistd::{Whence, lseek64},
};
use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};
use waifud_model::ids::VmId;

/// A log's disk use at which its front is given back.
const MOST: u64 = 4 << 20;
/// What is left of it then: some ten thousand lines.
const KEPT: u64 = 2 << 20;
/// Given back in whole blocks of this size, which is a multiple of every usual file system's.
const BLOCK: u64 = 64 << 10;
/// Lives that are remembered: this one, the one before, and some for whoever looks at the file.
const LIVES: usize = 8;
/// What is read at once.
const CHUNK: usize = 64 << 10;

/// The logs of a node's guests.
#[derive(Debug, Clone)]
pub struct SerialLogs {
    dir: PathBuf,
}

/// A part of a log: its first byte, and the first that does not belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl SerialLogs {
    /// Those in this directory.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The file of one guest.
    #[must_use]
    pub fn path(&self, vm: VmId) -> PathBuf {
        self.dir.join(format!("{vm}.log"))
    }

    fn starts(&self, vm: VmId) -> PathBuf {
        self.dir.join(format!("{vm}.starts"))
    }

    /// The guest is about to be started: what it writes from now on is another life's.
    ///
    /// # Errors
    /// If that cannot be noted.
    pub fn begin(&self, vm: VmId) -> io::Result<()> {
        let now = match fs::metadata(self.path(vm)) {
            Ok(log) => log.len(),
            // This will be its first; what is noted was of another file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return gone(fs::remove_file(self.starts(vm))),
            Err(error) => return Err(error),
        };
        let mut lives = self.lives(vm);
        // A log that is shorter than it was is another file.
        lives.retain(|begin| *begin < now);
        lives.push(now);
        let kept = lives.len().saturating_sub(LIVES);
        let text: String = lives[kept..].iter().map(|begin| format!("{begin}\n")).collect();
        let new = self.dir.join(format!("{vm}.starts.new"));
        File::create(&new)?.write_all(text.as_bytes())?;
        fs::rename(new, self.starts(vm))
    }

    fn lives(&self, vm: VmId) -> Vec<u64> {
        let text = fs::read_to_string(self.starts(vm)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The guest's log is removed, with all that belongs to it.
    ///
    /// # Errors
    /// If it may still be there.
    pub fn remove(&self, vm: VmId) -> io::Result<()> {
        let prefix = format!("{vm}.");
        let files = match fs::read_dir(&self.dir) {
            Ok(files) => files,
            Err(error) => return gone(Err(error)),
        };
        for entry in files {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
                gone(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }

    /// The log, if the guest has one.
    pub(super) fn open(&self, vm: VmId) -> io::Result<Option<File>> {
        match File::open(self.path(vm)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was written in this life of the guest, or in the one before.
    pub(super) fn life(&self, vm: VmId, log: &File, previous: bool) -> io::Result<Part> {
        let (end, first) = (log.metadata()?.len(), first_kept(log)?);
        let lives: Vec<u64> = self.lives(vm).into_iter().filter(|begin| *begin <= end).collect();
        let this = lives.last().copied();
        let part = if previous {
            let before = lives.len().checked_sub(2).map_or(0, |n| lives[n]);
            let end = this.unwrap_or(0);
            Part { begin: if before < end { before } else { 0 }, end }
        } else {
            Part { begin: this.unwrap_or(0), end }
        };
        Ok(Part { begin: part.begin.max(first).min(part.end), end: part.end })
    }

    /// Keeps every log in its bounds. One that cannot be is told of, and is no reason to leave the others.
    pub(super) fn trim(&self) {
        let logs = match fs::read_dir(&self.dir) {
            Ok(logs) => logs,
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "the consoles' logs cannot be listed");
                return;
            }
        };
        for path in logs.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "log"))
        {
            if let Err(error) = trim(&path) {
                tracing::warn!(%error, path = %path.display(), "a console's log cannot be kept in its bounds");
            }
        }
    }
}

/// What is not there was removed.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives the front of a log back if there is much of it.
fn trim(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    // Blocks are of 512 bytes, whatever the file system's are (stat(2)).
    if found.blocks() * 512 <= MOST {
        return Ok(());
    }
    let file = File::options().write(true).open(path)?;
    let end = file.metadata()?.len().saturating_sub(KEPT) / BLOCK * BLOCK;
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(&file, hole, 0, i64::try_from(end).unwrap_or(i64::MAX)) {
        // This file system cannot: the bound comes before the lines. Whoever writes does so at the end, wherever that is.
        Err(Errno::EOPNOTSUPP) => file.set_len(0),
        other => Ok(other?),
    }
}

/// The first byte that was not given back; in the middle of a line, usually, so the next line's.
pub(super) fn first_kept(log: &File) -> io::Result<u64> {
    let data = match lseek64(log, 0, Whence::SeekData) {
        Ok(data) => u64::try_from(data).unwrap_or(0),
        // There is nothing but a hole, or nothing at all.
        Err(Errno::ENXIO) => return Ok(log.metadata()?.len()),
        Err(error) => return Err(error.into()),
    };
    if data == 0 {
        return Ok(0);
    }
    let mut chunk = vec![0; CHUNK];
    let count = log.read_at(&mut chunk, data)?;
    let line = chunk[..count].iter().position(|byte| *byte == b'\n');
    Ok(data + line.map_or(0, |at| at as u64 + 1))
}

/// Where the last `lines` lines of a part begin.
pub(super) fn tail(log: &File, part: Part, lines: u32) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    // The newline that ends the last line begins none.
    let (mut left, mut at, mut last) = (u64::from(lines), part.end, true);
    if lines == 0 {
        return Ok(part.end);
    }
    while at > part.begin {
        let from = at.saturating_sub(CHUNK as u64).max(part.begin);
        let chunk = &mut chunk[..usize::try_from(at - from).unwrap_or(CHUNK)];
        log.read_exact_at(chunk, from)?;
        for (n, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' && !std::mem::take(&mut last) {
                left -= 1;
                if left == 0 {
                    return Ok(from + n as u64 + 1);
                }
            }
            last = false;
        }
        at = from;
    }
    Ok(part.begin)
}

/// The first place from this one on that was not given back.
pub(super) fn next_kept(log: &File, from: u64) -> io::Result<u64> {
    match lseek64(log, i64::try_from(from).unwrap_or(i64::MAX), Whence::SeekData) {
        Ok(data) => Ok(u64::try_from(data).unwrap_or(from)),
        // It is at the end, or behind it.
        Err(Errno::ENXIO) => Ok(from),
        Err(error) => Err(error.into()),
    }
}

/// Reads on from a place, at most [`CHUNK`] and up to `end`.
pub(super) fn read(log: &mut File, from: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(from))?;
    log.take(end.saturating_sub(from).min(CHUNK as u64)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    const VM: [u8; 16] = [7; 16];

    struct Guest {
        logs: SerialLogs,
        vm: VmId,
        _dir: tempfile::TempDir,
    }

    impl Guest {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { logs: SerialLogs::new(dir.path().to_owned()), vm: VmId::from_random(VM), _dir: dir }
        }

        /// As QEMU does: at the end, wherever that is by then.
        fn writer(&self) -> File {
            OpenOptions::new().create(true).append(true).open(self.logs.path(self.vm)).unwrap()
        }

        fn write(&self, text: &str) {
            self.writer().write_all(text.as_bytes()).unwrap();
        }

        fn life(&self, previous: bool) -> String {
            let mut log = self.logs.open(self.vm).unwrap().unwrap();
            let part = self.logs.life(self.vm, &log, previous).unwrap();
            let mut text = Vec::new();
            while part.begin + (text.len() as u64) < part.end {
                text.extend(read(&mut log, part.begin + text.len() as u64, part.end).unwrap());
            }
            String::from_utf8(text).unwrap()
        }

        fn tail(&self, lines: u32) -> String {
            let log = self.logs.open(self.vm).unwrap().unwrap();
            let part = self.logs.life(self.vm, &log, false).unwrap();
            let begin = tail(&log, part, lines).unwrap();
            let mut text = vec![0; usize::try_from(part.end - begin).unwrap()];
            log.read_exact_at(&mut text, begin).unwrap();
            String::from_utf8(text).unwrap()
        }
    }

    #[test]
    fn lives_are_told_apart() {
        let guest = Guest::new();
        assert!(guest.logs.open(guest.vm).unwrap().is_none());
        guest.logs.begin(guest.vm).unwrap();
        guest.write("boot 1\npanic\n");
        assert_eq!((guest.life(false).as_str(), guest.life(true).as_str()), ("boot 1\npanic\n", ""));
        guest.logs.begin(guest.vm).unwrap();
        assert_eq!((guest.life(false).as_str(), guest.life(true).as_str()), ("", "boot 1\npanic\n"));
        guest.write("boot 2\n");
        guest.logs.begin(guest.vm).unwrap();
        guest.write("boot 3\n");
        assert_eq!((guest.life(false).as_str(), guest.life(true).as_str()), ("boot 3\n", "boot 2\n"));
        for _ in 0..20 {
            guest.write("again\n");
            guest.logs.begin(guest.vm).unwrap();
        }
        assert_eq!(guest.logs.lives(guest.vm).len(), LIVES);
        assert_eq!(guest.life(true), "again\n");
    }

    #[test]
    fn a_start_that_is_tried_again_is_one_life() {
        let guest = Guest::new();
        guest.write("boot 1\n");
        guest.logs.begin(guest.vm).unwrap();
        guest.logs.begin(guest.vm).unwrap();
        guest.write("boot 2\n");
        assert_eq!((guest.life(false).as_str(), guest.life(true).as_str()), ("boot 2\n", "boot 1\n"));
    }

    #[test]
    fn a_log_made_anew_by_somebody_else_begins_anew() {
        let guest = Guest::new();
        guest.write("a long boot\n");
        guest.logs.begin(guest.vm).unwrap();
        fs::rename(guest.logs.path(guest.vm), guest.logs.path(guest.vm).with_extension("log.0")).unwrap();
        guest.write("new\n");
        assert_eq!(guest.life(false), "new\n");
    }

    #[test]
    fn the_last_lines() {
        let guest = Guest::new();
        guest.write("one\ntwo\nthree\n");
        assert_eq!(guest.tail(2), "two\nthree\n");
        assert_eq!(guest.tail(3), "one\ntwo\nthree\n");
        assert_eq!(guest.tail(9), "one\ntwo\nthree\n");
        assert_eq!(guest.tail(0), "");
        guest.write("login: ");
        assert_eq!(guest.tail(1), "login: ");
        assert_eq!(guest.tail(2), "three\nlogin: ");
        guest.write(&format!("{}\nend\n", "x".repeat(3 * CHUNK)));
        assert_eq!(guest.tail(1), "end\n");
        assert!(guest.tail(2).starts_with("login: xxx"));
    }

    #[test]
    fn a_log_is_bounded_and_loses_nothing_of_its_end() {
        let guest = Guest::new();
        guest.logs.begin(guest.vm).unwrap();
        let (mut writer, mut number) = (guest.writer(), 0);
        for _ in 0..6 {
            for _ in 0..(1 << 20) / 16 {
                writeln!(writer, "line {number:010}").unwrap();
                number += 1;
            }
            guest.logs.trim();
            let log = fs::metadata(guest.logs.path(guest.vm)).unwrap();
            assert!(log.blocks() * 512 <= MOST + BLOCK, "{} blocks", log.blocks());
        }
        let life = guest.life(false);
        assert!(life.len() as u64 >= KEPT - BLOCK, "{} bytes", life.len());
        let lines: Vec<&str> = life.lines().collect();
        for (n, line) in lines.iter().rev().enumerate() {
            assert_eq!(*line, format!("line {:010}", number - 1 - n));
        }
        assert_eq!(guest.tail(1), format!("line {:010}\n", number - 1));
    }

    #[test]
    fn all_of_it_goes_and_only_that() {
        let guest = Guest::new();
        guest.write("x\n");
        guest.logs.begin(guest.vm).unwrap();
        fs::write(guest.logs.path(guest.vm).with_extension("log.0"), "old").unwrap();
        let other = guest.logs.path(VmId::from_random([8; 16]));
        fs::write(&other, "y").unwrap();
        guest.logs.remove(guest.vm).unwrap();
        guest.logs.remove(guest.vm).unwrap();
        let left: Vec<PathBuf> = fs::read_dir(&guest.logs.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [other]);
    }
}

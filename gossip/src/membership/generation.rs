//! The number of a node's life. Peers take the news of a higher one for newer, so it must grow with every start.
//!
//! It is kept in a file, and begins at the hours of the Unix epoch: where the file was lost, the number most likely still
//! grows. Not seconds, because the number of every node is in every message, and hours are two bytes shorter.

use super::GossipError;
use crate::durable;
use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Seconds.
const HOUR: u64 = 3_600;

/// Keeps and gives the next generation.
pub(super) async fn next(path: PathBuf) -> Result<u64, GossipError> {
    let kept = path.clone();
    let outcome = tokio::task::spawn_blocking(move || advance(&kept, SystemTime::now())).await;
    outcome.map_err(io::Error::other).flatten().map_err(|source| GossipError::Generation { path, source })
}

fn advance(path: &Path, now: SystemTime) -> io::Result<u64> {
    let last = match durable::read(path)? {
        None => 0,
        Some(text) => String::from_utf8_lossy(&text).trim().parse().unwrap_or_else(|_| {
            tracing::warn!(path = %path.display(), "the gossip generation does not read; the clock gives a new one");
            0
        }),
    };
    let clock = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / HOUR);
    let next = clock.max(last + 1);
    durable::replace(path, format!("{next}\n").as_bytes())?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_grows_also_when_the_clock_goes_back_or_the_file_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation");
        let at = |hours| SystemTime::UNIX_EPOCH + Duration::from_secs(hours * HOUR);
        assert_eq!(advance(&path, at(1000)).unwrap(), 1000);
        assert_eq!(advance(&path, at(1000)).unwrap(), 1001);
        assert_eq!(advance(&path, at(5)).unwrap(), 1002);
        assert_eq!(advance(&path, at(2000)).unwrap(), 2000);
        std::fs::write(&path, "no number").unwrap();
        assert_eq!(advance(&path, at(2001)).unwrap(), 2001);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(advance(&path, at(2002)).unwrap(), 2002);
    }
}

//! How nodes ask each other for parts of images. One stream carries any number of questions, each answered before the next.
//! In and out: frames on a pair of byte streams that someone else has authenticated.
//!
//! ```text
//!   asks:     u32 length, postcard Request
//!   answers:  u32 length, postcard Answer, then as many bytes as Answer::Part says
//! ```
//!
//! Nothing here trusts the other side: lengths are checked before memory is taken.

use super::tree::encoded_max;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use waifud_model::digest::Blake3;

/// The largest part that is asked for at once: large enough that the round trip does not matter, small enough to hold in
/// memory for each of several peers.
pub(super) const PART_MAX: u64 = 4 << 20;

/// Requests and answers are a few dozen bytes.
const FRAME_MAX: u32 = 1024;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Of which version.
    pub(super) version: Blake3,
    /// From this byte.
    pub(super) start: u64,
    /// Up to, but not including, this one; at most [`PART_MAX`] further.
    pub(super) end: u64,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// So many bytes follow: the part as Bao encodes it.
    Part(u64),
    /// The version is not here.
    NotHere,
    /// It is here, but this part of it cannot be read.
    Unreadable,
    /// The question makes no sense.
    Refused,
}

/// Sends a frame.
pub(super) async fn send<T: Serialize + Sync>(to: &mut (impl AsyncWrite + Unpin), frame: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(frame).map_err(io::Error::other)?;
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&len.to_le_bytes()).await?;
    to.write_all(&bytes).await
}

/// Receives a frame; `None` where the stream ends before one begins.
pub(super) async fn receive<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut len = [0; 4];
    match from.read(&mut len[..1]).await? {
        0 => return Ok(None),
        _ => from.read_exact(&mut len[1..]).await?,
    };
    let len = u32::from_le_bytes(len);
    if len > FRAME_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {len} bytes")));
    }
    let mut bytes = vec![0; len as usize];
    from.read_exact(&mut bytes).await?;
    postcard::from_bytes(&bytes).map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Receives the bytes that follow [`Answer::Part`] of a question for `asked` bytes.
pub(super) async fn receive_part(from: &mut (impl AsyncRead + Unpin), len: u64, asked: u64) -> io::Result<Vec<u8>> {
    if len > encoded_max(asked) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes for {asked} that were asked for")));
    }
    let mut part = vec![0; len as usize];
    from.read_exact(&mut part).await?;
    Ok(part)
}

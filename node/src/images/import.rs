//! Takes an image in from a stream of bytes: written and hashed on the way, compared, looked at, and only then given its
//! name. In: bytes from a client or from a download; out: what the replicated state records of a version. Whatever goes
//! wrong, and when the caller gives up, nothing is left behind.

use super::{ImageError, inspect::inspect, layout::Layout, progress::Progress, qemu_img::QemuImg, tree::Tree};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256 as Sha256Hasher};
use std::{io::Write, pin::pin};
use tempfile::NamedTempFile;
use tokio::sync::{mpsc, watch};
use waifud_model::{
    digest::{Blake3, Sha256},
    size::ByteSize,
    template::ImageFormat,
};

/// Blocks between the network and the disk: enough to keep both busy, few enough that a slow disk is felt by the sender.
const QUEUE: usize = 16;

/// An image that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedImage {
    /// BLAKE3 of its bytes: its name.
    pub version: Blake3,
    /// SHA-256 of its bytes.
    pub sha256: Sha256,
    /// How many bytes it has.
    pub size: ByteSize,
    /// Size of the disk a guest sees.
    pub virtual_size: ByteSize,
    /// How its bytes are to be read.
    pub format: ImageFormat,
}

/// What is known before the first byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// The SHA-256 that its publisher states; anything else is refused.
    pub sha256: Option<Sha256>,
    /// How many bytes there will be. Only a hint: it refuses early what will not fit.
    pub size: Option<ByteSize>,
}

/// Limits of what is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a file.
    pub max_size: ByteSize,
    /// Largest disk that an image may make.
    pub max_virtual_size: ByteSize,
}

/// The bytes, written, and what they hash to.
struct Written {
    file: NamedTempFile,
    version: Blake3,
    sha256: Sha256,
    size: ByteSize,
}

/// What the writing thread is told.
enum Block {
    More(Bytes),
    /// There is no more. Without this word, the end of the queue means that the sender gave up.
    End,
}

/// Takes the image in.
pub(super) async fn import<S, E>(
    layout: &Layout,
    tool: &QemuImg,
    limits: Limits,
    stream: S,
    expected: Expected,
    progress: &watch::Sender<Progress>,
) -> Result<ImportedImage, ImageError>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: Into<ImageError>,
{
    if let Some(size) = expected.size {
        if size > limits.max_size {
            return Err(ImageError::TooLarge { max: limits.max_size });
        }
        layout.require(size)?;
    }
    progress.send_replace(Progress { done: ByteSize::ZERO, total: expected.size });
    let written = receive(layout, limits, stream, expected.size, progress).await?;
    if let Some(expected) = expected.sha256.filter(|sha256| *sha256 != written.sha256) {
        return Err(ImageError::Sha256 { expected, found: written.sha256 });
    }
    let seen = inspect(tool, written.file.path(), limits.max_virtual_size).await?;
    let imported = ImportedImage {
        version: written.version,
        sha256: written.sha256,
        size: written.size,
        virtual_size: seen.virtual_size,
        format: seen.format,
    };
    let layout = layout.clone();
    blocking(move || settle(&layout, &written, seen.format)).await?;
    Ok(imported)
}

/// Passes the stream on to the writing thread.
async fn receive<S, E>(
    layout: &Layout,
    limits: Limits,
    stream: S,
    size: Option<ByteSize>,
    progress: &watch::Sender<Progress>,
) -> Result<Written, ImageError>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: Into<ImageError>,
{
    let (blocks, queue) = mpsc::channel(QUEUE);
    let writer = {
        let layout = layout.clone();
        blocking(move || write(&layout, queue, size))
    };
    let feed = async move {
        let mut stream = pin!(stream);
        let mut done = ByteSize::ZERO;
        while let Some(block) = stream.next().await {
            let block = block.map_err(Into::into)?;
            done = done + ByteSize::bytes(block.len() as u64);
            if done > limits.max_size {
                return Err(ImageError::TooLarge { max: limits.max_size });
            }
            progress.send_modify(|p| p.done = done);
            if blocks.send(Block::More(block)).await.is_err() {
                // The writer has ended, and its own result says why.
                return Ok(());
            }
        }
        blocks.send(Block::End).await.ok();
        Ok(())
    };
    let (fed, written) = tokio::join!(feed, writer);
    fed?;
    // Without an error of the feed, `End` was sent, so the writer gives a result of its own.
    written?.ok_or_else(|| ImageError::Upload { source: std::io::ErrorKind::UnexpectedEof.into() })
}

/// Writes blocks as they come, hashing them on the way. `None` if the sender gave up.
fn write(
    layout: &Layout,
    mut queue: mpsc::Receiver<Block>,
    expected: Option<ByteSize>,
) -> Result<Option<Written>, ImageError> {
    let mut file = layout.temporary()?;
    let (mut version, mut sha256, mut size) = (blake3::Hasher::new(), Sha256Hasher::new(), ByteSize::ZERO);
    loop {
        match queue.blocking_recv() {
            Some(Block::More(block)) => {
                size = size + ByteSize::bytes(block.len() as u64);
                let needed = expected.unwrap_or(size).max(size);
                file.write_all(&block).map_err(|e| layout.write_error(file.path(), needed, e))?;
                version.update(&block);
                sha256.update(&block);
            }
            Some(Block::End) => break,
            None => return Ok(None),
        }
    }
    file.as_file().sync_all().map_err(|e| layout.write_error(file.path(), size, e))?;
    let version = Blake3(*version.finalize().as_bytes());
    Ok(Some(Written { file, version, sha256: Sha256(sha256.finalize().into()), size }))
}

/// Makes the tree, which reads everything back from the disk, and gives both their names.
fn settle(layout: &Layout, written: &Written, format: ImageFormat) -> Result<(), ImageError> {
    if layout.find(written.version).is_some() {
        // The same bytes are here already, and may be in use.
        return Ok(());
    }
    let tree = layout.temporary()?;
    let root = Tree::build(written.file.path(), tree.path());
    let root = root.map_err(|e| layout.write_error(tree.path(), written.size, e))?;
    if root != written.version {
        return Err(ImageError::Misread { path: written.file.path().to_owned(), expected: written.version });
    }
    layout.publish(written.version, format, written.file.path(), tree.path())?;
    Ok(())
}

/// Runs `work` on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let broken =
        |e: tokio::task::JoinError| ImageError::Io { doing: "work on", path: "images".into(), source: e.into() };
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

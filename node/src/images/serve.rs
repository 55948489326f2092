//! Gives peers parts of the images that are here. In: a pair of byte streams from an authenticated node; out: parts with
//! their proofs. Reads only whole images that have their names; nothing half-fetched is handed on.

use super::{
    layout::Layout,
    tree::Tree,
    wire::{self, Answer, PART_MAX, Request},
};
use std::{io, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use waifud_model::digest::Blake3;

/// A peer that asks nothing for so long, or takes nothing of what it asked for, has lost interest.
const IDLE: Duration = Duration::from_secs(60);

/// Answers questions until the peer ends the stream.
pub(super) async fn serve(
    layout: &Layout,
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut open: Option<(Blake3, Arc<Tree>)> = None;
    while let Some(request) = within_idle(wire::receive::<Request>(reader)).await? {
        let (answer, part) = answer(layout, &mut open, request).await?;
        let reply = async {
            wire::send(writer, &answer).await?;
            writer.write_all(&part).await?;
            writer.flush().await
        };
        within_idle(reply).await?;
    }
    writer.shutdown().await
}

async fn within_idle<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(IDLE, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The answer to one question. Questions of one stream are nearly always about one version, whose files stay open.
async fn answer(
    layout: &Layout,
    open: &mut Option<(Blake3, Arc<Tree>)>,
    request: Request,
) -> io::Result<(Answer, Vec<u8>)> {
    let Request { version, start, end } = request;
    let tree = match open.take().filter(|(of, _)| *of == version) {
        Some((_, tree)) => tree,
        None => match open_tree(layout.clone(), version).await? {
            Some(tree) => Arc::new(tree),
            None => return Ok((Answer::NotHere, Vec::new())),
        },
    };
    *open = Some((version, tree.clone()));
    if start >= end || end > tree.len() || end - start > PART_MAX {
        return Ok((Answer::Refused, Vec::new()));
    }
    match tokio::task::spawn_blocking(move || tree.encode(start..end)).await? {
        Ok(part) => Ok((Answer::Part(part.len() as u64), part)),
        Err(error) => {
            tracing::error!(%version, start, end, %error, "an image on this node's disk cannot be read back as it was stored");
            Ok((Answer::Unreadable, Vec::new()))
        }
    }
}

async fn open_tree(layout: Layout, version: Blake3) -> io::Result<Option<Tree>> {
    let open = move || match layout.find(version) {
        Some((path, _)) => Tree::open(version, &path, &layout.tree(version)).map(Some),
        None => Ok(None),
    };
    tokio::task::spawn_blocking(open).await?
}

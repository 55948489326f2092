//! Sends a template's bytes from a local file, with progress.

use super::{
    Answer, Client, ClientError, IdempotencyKey, answer,
    calls::with_query,
    request::{Body, Request},
};
use crate::{headers, paths, template::TemplateVersion};
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::io::ReaderStream;
use waifud_model::{digest::Sha256, name::TemplateName};

/// One read and one HTTP chunk: large enough that their number does not matter, small beside any memory.
const CHUNK: usize = 256 << 10;

/// Told how many bytes were sent, and how many there are.
type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

impl Client {
    /// Sends a file as a version of a template. The answer comes when it is there and verified.
    ///
    /// `progress` is called with the bytes sent and the bytes in all; it begins anew if another endpoint must be tried.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]; and if the file cannot be read.
    pub async fn upload_template(
        &self,
        name: &TemplateName,
        sha256: Option<Sha256>,
        file: &Path,
        progress: impl Fn(u64, u64) + Send + Sync + 'static,
    ) -> Result<Answer<TemplateVersion>, ClientError> {
        let (file, progress): (PathBuf, Progress) = (file.to_owned(), Arc::new(progress));
        let query: Vec<_> = sha256.iter().map(|sum| ("sha256", sum.to_string())).collect();
        let request = Request {
            method: reqwest::Method::POST,
            path: with_query(&paths::template(paths::TEMPLATE_VERSIONS, name), &query),
            headers: Vec::new(),
            body: Body::Opened(Box::new(move || open(file.clone(), Arc::clone(&progress)).boxed())),
            // A broken upload is the user's to repeat: it may be gigabytes.
            repeatable: false,
            answer_timeout: None,
        };
        let request = request.header(headers::IDEMPOTENCY_KEY, IdempotencyKey::random());
        let (endpoint, response) = self.send(&request).await?;
        answer::json(&endpoint, response).await
    }
}

async fn open(path: PathBuf, progress: Progress) -> Result<(reqwest::Body, u64), ClientError> {
    let opened = async {
        let file = tokio::fs::File::open(&path).await?;
        let facts = file.metadata().await?;
        if facts.is_file() { Ok((file, facts.len())) } else { Err(io::Error::other("it is not a plain file")) }
    };
    let (file, length) = opened.await.map_err(|source| ClientError::File { path, source })?;
    let sent = AtomicU64::new(0);
    let chunks = ReaderStream::with_capacity(file, CHUNK).inspect(move |chunk: &io::Result<Bytes>| {
        if let Ok(chunk) = chunk {
            let before = sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            progress(before + chunk.len() as u64, length);
        }
    });
    Ok((reqwest::Body::wrap_stream(chunks), length))
}

//! What happened, line by line, and a digest over all of it. Two runs with the same digest did the same.

use super::lock;
use std::{
    fmt,
    io::Write,
    sync::{Arc, Mutex},
};
use tokio::time::Instant;

/// The trace of one run. Cloning gives another hand on the same one.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    began: Instant,
    digest: blake3::Hasher,
    echo: Option<Box<dyn Write + Send>>,
}

impl Trace {
    /// An empty one; time counts from now.
    pub(crate) fn new(echo: Option<Box<dyn Write + Send>>) -> Self {
        Self(Arc::new(Mutex::new(Inner { began: Instant::now(), digest: blake3::Hasher::new(), echo })))
    }

    /// Adds a line.
    pub(crate) fn line(&self, what: fmt::Arguments<'_>) {
        let mut inner = lock(&self.0);
        let line = format!("{:>11.6} {what}\n", inner.began.elapsed().as_secs_f64());
        inner.digest.update(line.as_bytes());
        if let Some(echo) = &mut inner.echo {
            // Who reads the trace may stop reading; the run goes on.
            let _ = echo.write_all(line.as_bytes());
        }
    }

    /// The digest so far, in hex.
    pub(crate) fn digest(&self) -> String {
        lock(&self.0).digest.finalize().to_hex().to_string()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trace")
    }
}

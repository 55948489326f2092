//! The log as it is written. That of the whole process, searched for what must never stand in it; that of one test, for what must.

use std::{
    io,
    sync::{Mutex, PoisonError},
};
use tokio::sync::mpsc;
use tracing::{level_filters::LevelFilter, subscriber::DefaultGuard};

/// What was sought and found, and how much was searched. One for all tests: consensus writes from threads of its own,
/// which belong to no test.
static SEARCHED: Mutex<Searched> = Mutex::new(Searched { needle: "", lines: 0, found: Vec::new() });

struct Searched {
    needle: &'static str,
    lines: usize,
    found: Vec<String>,
}

/// Lines of the log that hold a text.
pub(crate) struct Log;

impl Log {
    /// Looks for `needle` from now on, in everything down to debug level. Once a process.
    pub(crate) fn search(needle: &'static str) -> Self {
        SEARCHED.lock().unwrap_or_else(PoisonError::into_inner).needle = needle;
        tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_writer(|| Search).init();
        Self
    }

    /// The lines that are written on this thread, which is a test's own, as long as the guard is there.
    pub(crate) fn here() -> (mpsc::UnboundedReceiver<String>, DefaultGuard) {
        let (sender, lines) = mpsc::unbounded_channel();
        let writer = move || Listener(sender.clone());
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        (lines, tracing::subscriber::set_default(log))
    }

    /// How many lines were searched, and those that hold the text.
    pub(crate) fn lines(&self) -> (usize, Vec<String>) {
        let searched = SEARCHED.lock().unwrap_or_else(PoisonError::into_inner);
        (searched.lines, searched.found.clone())
    }
}

struct Search;

impl io::Write for Search {
    /// Called once a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut searched = SEARCHED.lock().unwrap_or_else(PoisonError::into_inner);
        searched.lines += 1;
        if text.contains(searched.needle) {
            searched.found.push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Listener(mpsc::UnboundedSender<String>);

impl io::Write for Listener {
    /// Called once a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

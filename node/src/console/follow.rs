//! A guest's log as a stream: a part of it, or what is written from now on too.
//!
//! In: a log file and where to begin. Out: chunks, read when they are asked for. Files have no wake-ups that work on all file
//! systems, so one that is followed is looked at again and again, while somebody follows.

use super::logs::{self, Part, SerialLogs};
use bytes::Bytes;
use futures::stream;
use std::{fs::File, io, os::unix::fs::MetadataExt as _, time::Duration};
use waifud_api::console::LogsQuery;
use waifud_model::ids::VmId;
use waifud_web::console::Log;

/// How often a log that is followed is looked at: soon enough for a person.
const LOOK: Duration = Duration::from_millis(250);

/// The part of the log that is asked for.
///
/// # Errors
/// If it cannot be read.
pub(super) async fn log(logs: SerialLogs, vm: VmId, asked: LogsQuery) -> io::Result<Log> {
    let (file, part) = blocking({
        let logs = logs.clone();
        move || begin(&logs, vm, asked)
    })
    .await?;
    let reading = Reading { logs, vm, file, at: part.begin, end: (!asked.follow).then_some(part.end) };
    let bytes = stream::try_unfold(reading, Reading::next);
    Ok(Log { offset: part.begin, bytes: Box::pin(bytes) })
}

fn begin(logs: &SerialLogs, vm: VmId, asked: LogsQuery) -> io::Result<(Option<File>, Part)> {
    let Some(file) = logs.open(vm)? else { return Ok((None, Part { begin: 0, end: 0 })) };
    let mut part = logs.life(vm, &file, asked.previous)?;
    if let Some(from) = asked.from {
        // Of another file, if it is behind the end: then all there is is new.
        part.begin = if from <= part.end { from.max(logs::first_kept(&file)?) } else { part.begin };
    } else if let Some(lines) = asked.tail {
        part.begin = logs::tail(&file, part, lines)?;
    }
    Ok((Some(file), part))
}

struct Reading {
    logs: SerialLogs,
    vm: VmId,
    /// None until there is one.
    file: Option<File>,
    at: u64,
    /// None: without an end.
    end: Option<u64>,
}

/// One look at the file.
enum Look {
    Bytes(Vec<u8>),
    NotYet,
    End,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        loop {
            let look;
            (self, look) = blocking(move || {
                let look = self.look()?;
                Ok((self, look))
            })
            .await?;
            match look {
                Look::Bytes(bytes) => return Ok(Some((bytes.into(), self))),
                Look::NotYet => tokio::time::sleep(LOOK).await,
                Look::End => return Ok(None),
            }
        }
    }

    fn look(&mut self) -> io::Result<Look> {
        let follows = self.end.is_none();
        let Some(file) = &mut self.file else {
            self.file = self.logs.open(self.vm)?;
            return Ok(if follows { Look::NotYet } else { Look::End });
        };
        // A reader that is slower than the guest finds that its place was given back.
        self.at = logs::next_kept(file, self.at)?;
        let bytes = logs::read(file, self.at, self.end.unwrap_or(u64::MAX))?;
        if !bytes.is_empty() {
            self.at += bytes.len() as u64;
            return Ok(Look::Bytes(bytes));
        }
        if !follows {
            return Ok(Look::End);
        }
        let this = file.metadata()?;
        match self.logs.open(self.vm)? {
            // The VM was deleted.
            None => return Ok(Look::End),
            // Somebody began a new one, or emptied this one.
            Some(new) if new.metadata()?.ino() != this.ino() => (self.file, self.at) = (Some(new), 0),
            Some(_) if this.len() < self.at => self.at = 0,
            Some(_) => {}
        }
        Ok(Look::NotYet)
    }
}

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(f).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

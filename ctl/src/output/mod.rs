//! What goes to stdout and stderr, and in which form. The only place that writes to either.
//!
//! On a terminal: aligned, short, relative, coloured. In a pipe: full values, RFC 3339, tabs, no header. In a format that was
//! asked for: that format, wherever it goes.

mod data;
mod detail;
mod table;
mod terminal;
mod time;

pub(crate) use detail::Details;
pub(crate) use table::{Cell, Column, Look, Row, aligned_text};
pub(crate) use terminal::{Terminal, Tone};
pub(crate) use time::{elapsed, now, parse_span, short_span};

use crate::{cli::Global, exit::Failure};
use serde::Serialize;
use std::io::{self, Write as _};

/// A form of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// Aligned columns, more of them.
    Wide,
    /// What the API sent.
    Json,
    /// The same as YAML.
    Yaml,
    /// Comma-separated values with a header (RFC 4180).
    Csv,
    /// Names only, one a line.
    Name,
}

/// Writes results to stdout.
#[derive(Debug)]
pub(crate) struct Out {
    format: Option<Format>,
    columns: Vec<String>,
    look: Look,
    terminal: Terminal,
}

impl Out {
    pub(crate) fn new(global: &Global, terminal: Terminal) -> Self {
        let look = Look { human: terminal.out, colour: terminal.colour_out, now: now() };
        Self { format: global.output, columns: global.columns.clone(), look, terminal }
    }

    /// Is the result for a program that reads a structure or a name, rather than for eyes?
    pub(crate) fn is_for_programs(&self) -> bool {
        self.format.is_some() || !self.terminal.out
    }

    /// In this form, for this reader: what tests need.
    #[cfg(test)]
    pub(crate) const fn of(format: Option<Format>, look: Look, terminal: Terminal) -> Self {
        Self { format, columns: Vec::new(), look, terminal }
    }

    /// Did the user say which form?
    pub(crate) fn has_format(&self) -> bool {
        self.format.is_some()
    }

    /// Writes several things.
    pub(crate) fn list<R: Row>(&self, rows: &[R]) -> Result<(), Failure> {
        stdout(&self.list_text(rows)?)
    }

    /// What [`Out::list`] writes.
    pub(crate) fn list_text<R: Row>(&self, rows: &[R]) -> Result<String, Failure> {
        let look = &self.look;
        match self.format {
            Some(Format::Json) => data::json(&rows),
            Some(Format::Yaml) => data::yaml(&rows),
            Some(Format::Name) => Ok(rows.iter().map(|row| row.name() + "\n").collect()),
            Some(Format::Csv) => table::csv(rows, &self.columns, look),
            Some(Format::Wide) => table::aligned(rows, true, &self.columns, look),
            Some(Format::Table) => table::aligned(rows, false, &self.columns, look),
            None if self.terminal.out => table::aligned(rows, false, &self.columns, look),
            None => table::plain(rows, &self.columns, look),
        }
    }

    /// Writes one thing: as a structure, a name or a row where that was asked for, else with all its details.
    pub(crate) fn one<R: Row>(&self, row: &R, details: impl FnOnce(&Look) -> Details) -> Result<(), Failure> {
        match self.format {
            Some(Format::Json) => stdout(&data::json(row)?),
            Some(Format::Yaml) => stdout(&data::yaml(row)?),
            Some(Format::Csv | Format::Wide | Format::Name) => self.list(std::slice::from_ref(row)),
            Some(Format::Table) | None => stdout(&details(&self.look).render()),
        }
    }

    /// Writes something that is not a list of one kind of thing: as a structure, or as a text of its own.
    pub(crate) fn whole(&self, value: &impl Serialize, text: impl FnOnce(&Look) -> String) -> Result<(), Failure> {
        match self.format {
            Some(Format::Json) => stdout(&data::json(value)?),
            Some(Format::Yaml) => stdout(&data::yaml(value)?),
            _ => stdout(&text(&self.look)),
        }
    }

    /// Writes the things that something larger consists of: as a structure the whole of it, else a row for each.
    pub(crate) fn parts<R: Row>(&self, whole: &impl Serialize, rows: &[R]) -> Result<(), Failure> {
        match self.format {
            Some(Format::Json) => stdout(&data::json(whole)?),
            Some(Format::Yaml) => stdout(&data::yaml(whole)?),
            _ => self.list(rows),
        }
    }

    /// Writes one item of a stream, on a line of its own where the format has such.
    pub(crate) fn item<R: Row>(&self, row: &R) -> Result<(), Failure> {
        match self.format {
            Some(Format::Json) => stdout(&data::json_line(row)?),
            Some(Format::Yaml) => stdout(&format!("---\n{}", data::yaml(row)?)),
            Some(Format::Csv) => stdout(&table::csv_line(row, &self.columns, &self.look)?),
            Some(Format::Name) => stdout(&(row.name() + "\n")),
            Some(Format::Table | Format::Wide) | None => {
                let look = Look { now: now(), ..self.look };
                stdout(&table::plain(std::slice::from_ref(row), &self.columns, &look)?)
            }
        }
    }
}

/// Writes data.
pub(crate) fn stdout(text: &str) -> Result<(), Failure> {
    bytes(text.as_bytes())
}

/// Writes data that may be no text.
pub(crate) fn bytes(data: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(data).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::Io { what: "stdout", source },
    })
}

/// Writes what is not data. A stderr that is gone leaves nobody to be told.
pub(crate) fn stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A text from elsewhere without what would move the cursor or change the colours: VM errors and labels are not ours.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

//! What goes to stdout and stderr, and in which form. The only place that writes to either.
//!
//! On a terminal: aligned, short, relative, coloured. In a pipe: full values, RFC 3339, tabs, no header. In a format that was
//! asked for: that format, wherever it goes.

mod data;
mod detail;
mod echo;
mod screen;
mod select;
mod table;
mod terminal;
mod time;

pub(crate) use detail::Details;
pub(crate) use echo::Echo;
pub(crate) use screen::Screen;
pub(crate) use select::Select;
pub(crate) use table::{Cell, Column, Look, Row, aligned_text};
pub(crate) use terminal::{Terminal, Tone};
pub(crate) use time::{elapsed, now, parse_span, short_span};

use crate::{cli::Global, exit::Failure, settings::Defaults};
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
    /// The configured form is for eyes: what a script reads must not depend on whose machine it runs on.
    pub(crate) fn new(global: &Global, defaults: &Defaults, terminal: Terminal) -> Self {
        // Who asks for a table has eyes, wherever it goes: less, watch, a mail.
        let human = terminal.out || matches!(global.output, Some(Format::Table | Format::Wide));
        let look = Look { human, colour: terminal.colour_out, now: now() };
        let format = global.output.or_else(|| defaults.output().filter(|_| terminal.out));
        Self { format, columns: global.columns.clone(), look, terminal }
    }

    /// Refuses columns that are none before anything is done: a change must not be made and then not be shown.
    pub(crate) fn check<R: Row>(&self) -> Result<(), Failure> {
        table::check::<R>(&self.columns)
    }

    /// Rows where rows are asked for or a program reads them, else a page of its own; a structure where that is asked for.
    pub(crate) fn page_or_rows<R: Row>(&self, rows: &[R], text: impl FnOnce(&Look) -> String) -> Result<(), Failure> {
        if self.format.is_none() && !self.terminal.out { self.list(rows) } else { self.page(&rows, rows, text) }
    }

    /// Is the result a table on a terminal, which can be drawn anew in its place?
    pub(crate) fn is_table_on_terminal(&self) -> bool {
        self.terminal.out && matches!(self.format, None | Some(Format::Table | Format::Wide))
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
        stdout(&self.one_text(row, details)?)
    }

    /// What [`Out::one`] writes.
    pub(crate) fn one_text<R: Row>(&self, row: &R, details: impl FnOnce(&Look) -> Details) -> Result<String, Failure> {
        match self.format {
            Some(Format::Json) => data::json(row),
            Some(Format::Yaml) => data::yaml(row),
            Some(Format::Csv | Format::Wide | Format::Name) => self.list_text(std::slice::from_ref(row)),
            Some(Format::Table) | None if !self.columns.is_empty() => self.list_text(std::slice::from_ref(row)),
            Some(Format::Table) | None => Ok(details(&self.look).render()),
        }
    }

    /// Writes one thing that has a text of its own, which a shell reads: a token, an address.
    pub(crate) fn word<R: Row>(&self, row: &R, text: &str) -> Result<(), Failure> {
        match self.format {
            Some(Format::Json) => stdout(&data::json(row)?),
            Some(Format::Yaml) => stdout(&data::yaml(row)?),
            Some(Format::Csv | Format::Wide | Format::Table) => self.list(std::slice::from_ref(row)),
            None if !self.columns.is_empty() => self.list(std::slice::from_ref(row)),
            Some(Format::Name) | None => stdout(&format!("{text}\n")),
        }
    }

    /// The same output at a later moment: ages count from now.
    pub(crate) fn later(&self) -> Self {
        Self { look: Look { now: now(), ..self.look }, columns: self.columns.clone(), ..*self }
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

    /// Writes what stands before the first item of a stream, in formats that have such.
    pub(crate) fn head<R: Row>(&self) -> Result<(), Failure> {
        table::check::<R>(&self.columns)?;
        if self.format == Some(Format::Csv) { stdout(&table::csv_head::<R>(&self.columns)?) } else { Ok(()) }
    }

    /// Writes a page: a structure, rows for each of its parts where rows were asked for, else a text of its own.
    pub(crate) fn page<R: Row>(
        &self,
        whole: &impl Serialize,
        rows: &[R],
        text: impl FnOnce(&Look) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Some(Format::Csv | Format::Name | Format::Wide) => self.list(rows),
            _ if !self.columns.is_empty() => self.parts(whole, rows),
            _ => self.whole(whole, text),
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

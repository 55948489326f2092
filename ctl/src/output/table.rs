//! Lists of one kind of thing as columns: aligned for eyes, tab-separated for pipes, CSV for spreadsheets.

use super::{Tone, printable};
use crate::exit::Failure;
use comfy_table::{Cell as TableCell, CellAlignment, Color, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;
use std::time::Duration;
use waifud_api::time::Time;
use waifud_model::{digest::Blake3, size::ByteSize};

/// A thing that can stand in a list.
pub(crate) trait Row: Serialize {
    /// Its columns, in order.
    const COLUMNS: &'static [Column];

    /// Its values, one for each column.
    fn cells(&self, look: &Look) -> Vec<Cell>;

    /// What it is called.
    fn name(&self) -> String;
}

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its heading; in lower case also its name for `--columns`.
    pub(crate) head: &'static str,
    /// Shown only in the wide form.
    pub(crate) wide: bool,
    /// Aligned to the right, as numbers are.
    pub(crate) right: bool,
}

impl Column {
    pub(crate) const fn text(head: &'static str) -> Self {
        Self { head, wide: false, right: false }
    }

    pub(crate) const fn number(head: &'static str) -> Self {
        Self { head, wide: false, right: true }
    }

    pub(crate) const fn wide(head: &'static str) -> Self {
        Self { head, wide: true, right: false }
    }
}

/// A value and its tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// For whom values are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// For eyes: short and relative. Else full and absolute.
    pub(crate) human: bool,
    /// May colours be used?
    pub(crate) colour: bool,
    /// What relative times are relative to.
    pub(crate) now: Time,
}

impl Look {
    /// A number of bytes.
    pub(crate) fn size(&self, size: ByteSize) -> String {
        if self.human { size.to_string() } else { size.as_bytes().to_string() }
    }

    /// How long ago, or when.
    pub(crate) fn since(&self, at: Option<Time>) -> String {
        match at {
            None => "-".to_owned(),
            Some(at) if self.human => super::short_span(at.age(self.now)),
            Some(at) => at.to_string(),
        }
    }

    /// How long it is until then.
    pub(crate) fn until(&self, at: Time) -> String {
        match self.now.age(at) {
            _ if !self.human => at.to_string(),
            Duration::ZERO => "now".to_owned(),
            span => format!("in {}", super::short_span(span)),
        }
    }

    /// A digest, or enough of it for eyes.
    pub(crate) fn digest(&self, digest: Blake3) -> String {
        if self.human { digest.short() } else { digest.to_string() }
    }

    /// Something used and something in all.
    pub(crate) fn share(&self, used: ByteSize, all: ByteSize) -> String {
        if self.human { used.part_of(all) } else { format!("{}/{}", self.size(used), self.size(all)) }
    }

    /// A list of words.
    pub(crate) fn words<T: ToString>(&self, words: impl IntoIterator<Item = T>) -> String {
        let words: Vec<_> = words.into_iter().map(|word| word.to_string()).collect();
        if words.is_empty() { "-".to_owned() } else { words.join(",") }
    }
}

/// The numbers of the columns to be shown.
fn chosen<R: Row>(wide: bool, names: &[String]) -> Result<Vec<usize>, Failure> {
    if names.is_empty() {
        return Ok((0..R::COLUMNS.len()).filter(|n| wide || !R::COLUMNS[*n].wide).collect());
    }
    names.iter().map(|name| find::<R>(name)).collect()
}

/// The number of the column of this name.
pub(super) fn find<R: Row>(name: &str) -> Result<usize, Failure> {
    R::COLUMNS.iter().position(|column| column.head.eq_ignore_ascii_case(name.trim())).ok_or_else(|| {
        let known: Vec<_> = R::COLUMNS.iter().map(|column| column.head.to_lowercase()).collect();
        let near = crate::suggest::nearest(name, known.iter().map(String::as_str));
        let near = near.map_or_else(|| "; there".to_owned(), |near| format!("; did you mean {near}? There"));
        Failure::Usage(format!("there is no column {name:?}{near} are {}", known.join(", ")))
    })
}

/// Are all of these columns?
pub(super) fn check<R: Row>(names: &[String]) -> Result<(), Failure> {
    names.iter().try_for_each(|name| find::<R>(name).map(drop))
}

/// Aligned columns with a heading.
pub(super) fn aligned<R: Row>(rows: &[R], wide: bool, names: &[String], look: &Look) -> Result<String, Failure> {
    Ok(align(rows, &chosen::<R>(wide, names)?, look))
}

/// All columns, aligned, with a heading: a table within a page.
pub(crate) fn aligned_text<R: Row>(rows: &[R], look: &Look) -> String {
    let columns: Vec<_> = (0..R::COLUMNS.len()).collect();
    align(rows, &columns, look)
}

fn align<R: Row>(rows: &[R], columns: &[usize], look: &Look) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).force_no_tty();
    if look.colour {
        table.enforce_styling();
    }
    table.set_header(columns.iter().map(|n| R::COLUMNS[*n].head));
    for row in rows {
        let cells = row.cells(look);
        table.add_row(columns.iter().map(|n| table_cell(&cells[*n])));
    }
    for (place, n) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(place) {
            column.set_padding((0, 2));
            if R::COLUMNS[*n].right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table.trim_fmt() + "\n"
}

fn table_cell(cell: &Cell) -> TableCell {
    let text = TableCell::new(printable(&cell.text));
    match cell.tone {
        Tone::Plain => text,
        Tone::Good => text.fg(Color::DarkGreen),
        Tone::Warn => text.fg(Color::DarkYellow),
        Tone::Bad => text.fg(Color::DarkRed),
    }
}

/// Full values between tabs, without a heading: for `cut`, `awk` and `while read`.
pub(super) fn plain<R: Row>(rows: &[R], names: &[String], look: &Look) -> Result<String, Failure> {
    let columns = chosen::<R>(false, names)?;
    let line = |row: &R| {
        let cells = row.cells(look);
        let texts: Vec<_> = columns.iter().map(|n| printable(&cells[*n].text)).collect();
        texts.join("\t") + "\n"
    };
    Ok(rows.iter().map(line).collect())
}

/// All columns, full values, with a heading.
pub(super) fn csv<R: Row>(rows: &[R], names: &[String], look: &Look) -> Result<String, Failure> {
    let mut text = csv_head::<R>(names)?;
    for row in rows {
        text.push_str(&csv_line(row, names, look)?);
    }
    Ok(text)
}

/// The heading of CSV.
pub(super) fn csv_head<R: Row>(names: &[String]) -> Result<String, Failure> {
    let heads = chosen::<R>(true, names)?.into_iter().map(|n| R::COLUMNS[n].head.to_lowercase());
    Ok(heads.collect::<Vec<_>>().join(",") + "\r\n")
}

/// One line of CSV, full values.
pub(super) fn csv_line<R: Row>(row: &R, names: &[String], look: &Look) -> Result<String, Failure> {
    let cells = row.cells(&Look { human: false, ..*look });
    let fields: Vec<_> = chosen::<R>(true, names)?.into_iter().map(|n| csv_field(&cells[n].text)).collect();
    Ok(fields.join(",") + "\r\n")
}

fn csv_field(text: &str) -> String {
    if text.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_model::time::Timestamp;

    #[derive(Serialize)]
    struct Pet(&'static str, u32);

    impl Row for Pet {
        const COLUMNS: &'static [Column] = &[Column::text("NAME"), Column::number("AGE"), Column::wide("NOTE")];

        fn cells(&self, _: &Look) -> Vec<Cell> {
            vec![self.0.into(), self.1.to_string().into(), "says \"hi\", softly".into()]
        }

        fn name(&self) -> String {
            self.0.to_owned()
        }
    }

    const PETS: [Pet; 2] = [Pet("cat", 3), Pet("gold\tfish\u{1b}[2J", 101)];
    const LOOK: Look = Look { human: true, colour: false, now: Time(Timestamp(0)) };

    #[test]
    fn forms_of_a_list() {
        expect![[r#"
            NAME           AGE
            cat              3
            gold fish [2J  101
        "#]]
        .assert_eq(&aligned(&PETS, false, &[], &LOOK).unwrap());
        expect![[r#"
            NAME  AGE  NOTE
        "#]]
        .assert_eq(&aligned(&PETS[..0], true, &[], &LOOK).unwrap());
        expect![[r#"
            3|cat
            101|gold fish [2J
        "#]]
        .assert_eq(&plain(&PETS, &["age".to_owned(), "NAME".to_owned()], &LOOK).unwrap().replace('\t', "|"));
        expect![[r#"
            name,age,note
            cat,3,"says ""hi"", softly"
        "#]]
        .assert_eq(&csv(&PETS[..1], &[], &LOOK).unwrap().replace('\r', ""));
    }

    #[test]
    fn an_unknown_column_is_told_the_known_ones() {
        let error = aligned(&PETS, false, &["colour".to_owned()], &LOOK).unwrap_err();
        expect![[r#"there is no column "colour"; there are name, age, note"#]].assert_eq(&error.to_string());
    }
}

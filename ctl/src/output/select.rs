//! Which rows of a list are wanted: the filter language of VMs, for every other list, with the columns as keys.
//!
//! `role=leader label.zone=a n1`: all terms must hold; a word without `=` is looked for in the name. VMs are filtered by the
//! server, which knows more of them than their columns; other lists are short, and filtered here.

use super::{Look, Row, table};
use crate::exit::Failure;

/// Terms, as they were typed.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Select {
    /// Only what matches, with columns as keys: see waifuctl help filters
    #[arg(value_name = "KEY=VALUE|NAME")]
    filter: Vec<String>,
}

#[derive(Debug)]
enum Term {
    /// A column's value, or one of several between commas.
    Is(usize, String),
    /// A label: `key=value` within the column of labels.
    Label(usize, String),
    /// A part of the name.
    Name(String),
}

impl Select {
    /// The rows that match.
    ///
    /// # Errors
    /// If a key is no column.
    pub(crate) fn keep<R: Row>(&self, rows: Vec<R>) -> Result<Vec<R>, Failure> {
        let terms: Vec<_> = self.filter.iter().map(|word| term::<R>(word)).collect::<Result<_, _>>()?;
        if terms.is_empty() {
            return Ok(rows);
        }
        // Full values: what is compared must not depend on who looks.
        let look = Look { human: false, colour: false, now: super::now() };
        Ok(rows.into_iter().filter(|row| matches(row, &terms, &look)).collect())
    }
}

fn term<R: Row>(word: &str) -> Result<Term, Failure> {
    let Some((key, value)) = word.split_once('=') else { return Ok(Term::Name(word.to_lowercase())) };
    match key.strip_prefix("label.") {
        Some(label) => Ok(Term::Label(table::find::<R>("labels")?, format!("{label}={value}"))),
        None => table::find::<R>(key).map(|n| Term::Is(n, value.to_owned())).map_err(|unknown| {
            let labels = table::find::<R>("labels").map(|_| format!("; a label is label.{key}={value}"));
            Failure::Usage(format!("{unknown}{}", labels.unwrap_or_default()))
        }),
    }
}

fn matches<R: Row>(row: &R, terms: &[Term], look: &Look) -> bool {
    let cells = row.cells(look);
    let among = |n: usize, value: &str| {
        let text = &cells[n].text;
        text.eq_ignore_ascii_case(value) || text.split(',').any(|part| part.eq_ignore_ascii_case(value))
    };
    terms.iter().all(|term| match term {
        Term::Is(n, value) | Term::Label(n, value) => among(*n, value),
        Term::Name(part) => row.name().to_lowercase().contains(part),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Cell, Column};
    use serde::Serialize;

    #[derive(Debug, Serialize)]
    struct Thing(&'static str, &'static str, &'static str);

    impl Row for Thing {
        const COLUMNS: &'static [Column] = &[Column::text("NAME"), Column::text("STATUS"), Column::wide("LABELS")];

        fn cells(&self, _: &Look) -> Vec<Cell> {
            vec![self.0.into(), self.1.into(), self.2.into()]
        }

        fn name(&self) -> String {
            self.0.to_owned()
        }
    }

    fn kept(words: &[&str]) -> Result<String, Failure> {
        let things = vec![Thing("n1", "alive", "zone=a"), Thing("n2", "alive,cordoned", "disk=ssd,zone=b")];
        let select = Select { filter: words.iter().map(|word| (*word).to_owned()).collect() };
        let names: Vec<_> = select.keep(things)?.iter().map(Row::name).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn columns_are_keys() {
        for (words, names) in [
            (&[][..], "n1 n2"),
            (&["status=alive"], "n1 n2"),
            (&["status=cordoned"], "n2"),
            (&["label.zone=a"], "n1"),
            (&["label.zone=a", "status=cordoned"], ""),
            (&["N2"], "n2"),
        ] {
            assert_eq!(kept(words).unwrap(), names, "{words:?}");
        }
        let error = kept(&["sttaus=alive"]).unwrap_err();
        assert!(error.to_string().contains("did you mean status?"), "{error}");
        let error = kept(&["zone=a"]).unwrap_err();
        assert!(error.to_string().ends_with("a label is label.zone=a"), "{error}");
    }
}

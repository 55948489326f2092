//! What is different, or would be: a line a field.

use crate::output::{Cell, Column, Look, Row};
use serde::Serialize;
use waifud_api::event::Change;

/// One field before and after.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Line(Change);

/// A line for each change.
pub(crate) fn lines(changes: &[Change]) -> Vec<Line> {
    changes.iter().cloned().map(Line).collect()
}

impl Row for Line {
    const COLUMNS: &'static [Column] = &[Column::text("FIELD"), Column::text("NOW"), Column::text("WANTED")];

    fn cells(&self, _: &Look) -> Vec<Cell> {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        vec![self.0.field.clone().into(), shown(&self.0.old).into(), shown(&self.0.new).into()]
    }

    fn name(&self) -> String {
        self.0.field.clone()
    }
}

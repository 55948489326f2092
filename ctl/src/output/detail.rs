//! One thing with all that is known of it: a name and a value a line.

use super::printable;

/// Names and values, in the order in which they are to be read.
#[derive(Debug, Default)]
pub(crate) struct Details(Vec<(&'static str, String)>);

impl Details {
    /// With one more line.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    /// With one more line, if there is something to be said.
    pub(crate) fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// With a line for each value; the name stands before the first.
    pub(crate) fn with_each<T: ToString>(mut self, name: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        for (n, value) in values.into_iter().enumerate() {
            self = self.with(if n == 0 { name } else { "" }, value);
        }
        self
    }

    pub(crate) fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        self.0.iter().map(|(name, value)| format!("{name:width$}  {}\n", printable(value))).collect()
    }
}

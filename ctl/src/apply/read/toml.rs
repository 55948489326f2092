//! TOML as a tree.
//!
//! A table that is a document for a guest becomes JSON, which is YAML too and reads the same by all its versions: TOML says of
//! every value what it is, so nothing is lost.

use super::tree::{Fault, INLINE, Path, Tree, as_text, is_encoded};
use serde_json::{Map, Number, Value};
use std::{borrow::Cow, collections::BTreeMap};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Reads `text`, or tells all that is wrong with it.
pub(super) fn read(file: &str, text: &str) -> Result<Tree, Vec<Fault>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let breaks = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut reader = Reader { file, breaks, lines: BTreeMap::from([(Vec::new(), 1)]), faults: Vec::new() };
    for error in errors {
        let line = error.span().map(|span| reader.line(span.start));
        reader.faults.push(Fault { file: file.to_owned(), line, what: error.message().to_owned() });
    }
    if !reader.faults.is_empty() {
        return Err(reader.faults);
    }
    let value = reader.table(root.get_ref(), &mut Vec::new());
    if reader.faults.is_empty() { Ok(Tree { value, lines: reader.lines }) } else { Err(reader.faults) }
}

struct Reader<'a> {
    file: &'a str,
    /// Where each line ends.
    breaks: Vec<usize>,
    lines: BTreeMap<Path, usize>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn line(&self, byte: usize) -> usize {
        1 + self.breaks.partition_point(|at| *at < byte)
    }

    fn table(&mut self, table: &DeTable<'_>, path: &mut Path) -> Value {
        let mut map = Map::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            path.push(name.clone());
            let line = self.line(key.span().start);
            self.lines.insert(path.clone(), line);
            let value = self.value(value, path);
            path.pop();
            map.insert(name, value);
        }
        Value::Object(map)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &mut Path) -> Value {
        match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::String(time.to_string()),
            DeValue::Integer(number) => {
                let read = i64::from_str_radix(number.as_str(), number.radix()).map(Number::from);
                self.number(value.span().start, read.ok())
            }
            DeValue::Float(number) => {
                let read = number.as_str().parse().ok().and_then(Number::from_f64);
                self.number(value.span().start, read)
            }
            DeValue::Array(list) => {
                let mut items = Vec::new();
                for (n, item) in list.iter().enumerate() {
                    path.push(n.to_string());
                    let line = self.line(item.span().start);
                    self.lines.insert(path.clone(), line);
                    items.push(self.value(item, path));
                    path.pop();
                }
                Value::Array(items)
            }
            DeValue::Table(table) => match (self.table(table, path), path.last()) {
                (Value::Object(map), Some(key)) if INLINE.contains(&key.as_str()) && !is_encoded(&map) => {
                    // A map of texts, numbers and lists can always be written.
                    let json = serde_json::to_string_pretty(&map).unwrap_or_default();
                    Value::String(as_text(key, Cow::Owned(json)))
                }
                (value, _) => value,
            },
        }
    }

    fn number(&mut self, at: usize, number: Option<Number>) -> Value {
        if number.is_none() {
            let what = "a number that is too large, or none".to_owned();
            self.faults.push(Fault { file: self.file.to_owned(), line: Some(self.line(at)), what });
        }
        number.map_or(Value::Null, Value::Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_have_their_lines() {
        let text = "# two\n[[vm]]\nname = 'a'\ndisks = { data = '1G' }\n\n[[vm]]\nname = \"b\"\ncpus = 0x2\n[vm.labels]\nenv = 'x'\n";
        let tree = read("a.toml", text).unwrap();
        let value = json!({ "vm": [
            { "name": "a", "disks": { "data": "1G" } }, { "name": "b", "cpus": 2, "labels": { "env": "x" } }
        ] });
        assert_eq!(tree.value, value);
        let line = |path: &str| tree.line(&path.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(line("vm 0 name"), Some(3));
        assert_eq!(line("vm 0 disks data"), Some(4));
        assert_eq!(line("vm 1 cpus"), Some(8));
        assert_eq!(line("vm 1 labels env"), Some(10));
        assert_eq!(line("vm 1 nope"), Some(6));
    }

    #[test]
    fn a_guest_s_table_becomes_json() {
        let text = "[user_data]\npackages = ['vim']\nswitch = 'yes'\n[network_config]\nversion = 2\n";
        let tree = read("a.toml", text).unwrap();
        let config = "#cloud-config\n{\n  \"packages\": [\n    \"vim\"\n  ],\n  \"switch\": \"yes\"\n}\n";
        assert_eq!(tree.value["user_data"], json!(config));
        assert_eq!(tree.value["network_config"], json!("{\n  \"version\": 2\n}\n"));
    }

    #[test]
    fn all_that_is_wrong_has_its_line() {
        let faults = read("a.toml", "a = 1\nb = \na = 2\nc = nan\n").unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [Some(2), Some(3)], "{faults:?}");
        let faults = read("a.toml", "a = 1\nc = nan\n").unwrap_err();
        assert_eq!(faults[0].line, Some(2));
    }
}

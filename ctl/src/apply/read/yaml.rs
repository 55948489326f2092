//! YAML as trees, one a document.
//!
//! Scalars are read by YAML 1.2's core schema. A mapping that is a document for a guest is not: cloud-init reads by other rules
//! (YAML 1.1's), so `0644` and `yes` mean something else to it. Such a mapping is taken as the text it is written in.

use super::tree::{DEPTH_MAX, Fault, INLINE, Path, Tree, VALUES_MAX, as_text, is_encoded};
use granit_parser::{Event, Parser, ScalarStyle, Span, StructureStyle};
use serde_json::{Map, Number, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

/// Reads all documents of `text`; empty ones are none.
pub(super) fn read(file: &str, text: &str) -> Result<Vec<Tree>, Fault> {
    let mut reader = Reader {
        file,
        text,
        trees: Vec::new(),
        lines: BTreeMap::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        values: 0,
    };
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| reader.fault(error.marker().line(), error.kind().to_string()))?;
        reader.take(event, span)?;
    }
    Ok(reader.trees)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    trees: Vec<Tree>,
    /// Of the document that is open.
    lines: BTreeMap<Path, usize>,
    open: Vec<Open>,
    anchors: HashMap<usize, Value>,
    values: usize,
}

/// A mapping or a sequence that is not complete.
struct Open {
    into: Filling,
    anchor: usize,
    /// Where it begins: byte, line, column.
    start: (usize, usize, usize),
    flow: bool,
    /// The last line that something of it stands on.
    last_line: usize,
}

enum Filling {
    Sequence(Vec<Value>),
    /// With the key whose value comes next, if one does.
    Mapping(Map<String, Value>, Option<String>),
}

impl Reader<'_> {
    fn fault(&self, line: usize, what: impl Into<String>) -> Fault {
        Fault { file: self.file.to_owned(), line: Some(line), what: what.into() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) => {
                self.lines.clear();
                self.anchors.clear();
            }
            Event::Scalar(value, style, anchor, tag) => {
                let text = tag.is_some_and(|tag| tag.suffix() == "str") || style != ScalarStyle::Plain;
                let value = if text { Value::String(value.into_owned()) } else { plain(&value) };
                self.node(value, anchor, line, last_line(span))?;
            }
            Event::Alias(id) => {
                let Some(value) = self.anchors.get(&id).cloned() else {
                    return Err(self.fault(line, "an alias of something that is not complete yet"));
                };
                self.values += count(&value);
                self.node(value, 0, line, line)?;
            }
            Event::SequenceStart(style, anchor, _) => self.begin(Filling::Sequence(Vec::new()), style, anchor, span)?,
            Event::MappingStart(style, anchor, _) => {
                self.begin(Filling::Mapping(Map::new(), None), style, anchor, span)?
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, into: Filling, style: StructureStyle, anchor: usize, span: Span) -> Result<(), Fault> {
        let line = span.start.line();
        if self.open.len() == DEPTH_MAX {
            return Err(self.fault(line, "it is nested too deeply"));
        }
        let byte = span.byte_range().map_or(0, |range| range.start);
        let start = (byte, line, span.start.col());
        self.open.push(Open { into, anchor, start, flow: style == StructureStyle::Flow, last_line: line });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // The end of a block is wherever the next thing begins; a bracket is part of what it closes.
        let last = if open.flow { span.end.line() } else { open.last_line };
        let value = match open.into {
            Filling::Sequence(list) => Value::Array(list),
            Filling::Mapping(map, _)
                if self.awaited().is_some_and(|key| INLINE.contains(&key)) && !is_encoded(&map) =>
            {
                let end = span.byte_range().map_or(open.start.0, |range| range.end);
                let text = if open.flow {
                    self.text.get(open.start.0..end).unwrap_or_default().into()
                } else {
                    self.lines_of(open.start, last)
                };
                Value::String(as_text(self.awaited().unwrap_or_default(), text))
            }
            Filling::Mapping(map, _) => Value::Object(map),
        };
        self.node(value, open.anchor, open.start.1, last)
    }

    /// The lines of a block, moved to the left by its indentation.
    fn lines_of(&self, (_, first, indent): (usize, usize, usize), last: usize) -> Cow<'_, str> {
        let line = |line: &str| {
            let spaces = line.bytes().take(indent).take_while(|byte| *byte == b' ').count();
            line.get(spaces..).unwrap_or_default().to_owned()
        };
        self.text.split_inclusive('\n').skip(first - 1).take(last + 1 - first).map(line).collect::<String>().into()
    }

    /// The key whose value is open.
    fn awaited(&self) -> Option<&str> {
        match self.open.last() {
            Some(Open { into: Filling::Mapping(_, Some(key)), .. }) => Some(key),
            _ => None,
        }
    }

    /// The way to the value that comes next.
    fn path(&self) -> Path {
        let step = |open: &Open| match &open.into {
            Filling::Sequence(list) => list.len().to_string(),
            Filling::Mapping(_, key) => key.clone().unwrap_or_default(),
        };
        self.open.iter().map(step).collect()
    }

    /// A value is complete.
    fn node(&mut self, value: Value, anchor: usize, line: usize, last: usize) -> Result<(), Fault> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.fault(line, format!("more than {VALUES_MAX} values")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        let path = self.path();
        let fault = |what: String| Fault { file: self.file.to_owned(), line: Some(line), what };
        let Some(open) = self.open.last_mut() else {
            self.lines.insert(Vec::new(), line);
            if !value.is_null() {
                self.trees.push(Tree { value, lines: std::mem::take(&mut self.lines) });
            }
            return Ok(());
        };
        open.last_line = open.last_line.max(last);
        match &mut open.into {
            Filling::Sequence(list) => {
                self.lines.insert(path, line);
                list.push(value);
            }
            Filling::Mapping(map, awaited) => match awaited.take() {
                Some(key) => {
                    map.insert(key, value);
                }
                None => {
                    let key = match value {
                        Value::String(key) => key,
                        Value::Bool(_) | Value::Number(_) | Value::Null => value.to_string(),
                        Value::Array(_) | Value::Object(_) => return Err(fault("a key must be one word".to_owned())),
                    };
                    if key == "<<" {
                        return Err(fault("mappings are not merged here (<<); write out what is meant".to_owned()));
                    }
                    if map.contains_key(&key) {
                        return Err(fault(format!("{key:?} stands twice")));
                    }
                    // A value is looked for where its key stands.
                    let mut path = path;
                    path.pop();
                    path.push(key.clone());
                    self.lines.insert(path, line);
                    *awaited = Some(key);
                }
            },
        }
        Ok(())
    }
}

/// A block of text ends where the next line begins.
fn last_line(span: Span) -> usize {
    let (start, end) = (span.start.line(), span.end.line());
    if span.end.col() == 0 && end > start { end - 1 } else { end }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// A scalar without quotes, by the core schema (YAML 1.2.2, 10.3.2). What is no number of ours stays a text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let integer = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok().map(Number::from),
        (_, Some(octal)) => u64::from_str_radix(octal, 8).ok().map(Number::from),
        _ if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let unsigned = text.strip_prefix('+').unwrap_or(text);
            unsigned.parse::<u64>().map(Number::from).or_else(|_| unsigned.parse::<i64>().map(Number::from)).ok()
        }
        _ => None,
    };
    let float = || {
        let shaped = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
        if shaped { text.parse().ok().and_then(Number::from_f64) } else { None }
    };
    integer.or_else(float).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Tree {
        let mut trees = read("a.yaml", text).unwrap();
        assert_eq!(trees.len(), 1, "{trees:?}");
        trees.remove(0)
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        let tree = one(
            "a: [1, -2, +3, 0x10, 0o17, 1.5, 1e3, .5, ~, true, no, 4G, 1.2.3.4, '5', \"6\", !!str 7, 2026-01-01]\n",
        );
        let values =
            json!([1, -2, 3, 16, 15, 1.5, 1000.0, 0.5, null, true, "no", "4G", "1.2.3.4", "5", "6", "7", "2026-01-01"]);
        assert_eq!(tree.value["a"], values);
    }

    #[test]
    fn documents_have_their_lines() {
        let trees = read("a.yaml", "# first\na: 1\nb:\n  - x\n  - c: 2\n---\n---\n- a: 3\n").unwrap();
        assert_eq!(trees.len(), 2);
        let line = |tree: usize, path: &[&str]| {
            trees[tree].line(&path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(line(0, &["a"]), Some(2));
        assert_eq!(line(0, &["b"]), Some(3));
        assert_eq!(line(0, &["b", "1", "c"]), Some(5));
        assert_eq!(line(0, &["b", "1", "nope"]), Some(5));
        assert_eq!(line(1, &["0", "a"]), Some(8));
    }

    #[test]
    fn a_guest_s_mapping_is_the_text_it_is_written_in() {
        let text = "\
name: a
user_data:
  # why
  write_files:
    - path: /x   # here
      permissions: 0644
      content: |
        yes

        no
  runcmd: [ [a, b],
    'c' ]

# the next field
cpus: 2
network_config: {version: 2}
";
        let tree = one(text);
        let config = "\
#cloud-config
write_files:
  - path: /x   # here
    permissions: 0644
    content: |
      yes

      no
runcmd: [ [a, b],
  'c' ]
";
        assert_eq!(tree.value["user_data"], json!(config));
        assert_eq!(tree.value["network_config"], json!("{version: 2}\n"));
        assert_eq!(tree.value["cpus"], json!(2));
        assert_eq!(one("user_data: {base64: AAAA}\n").value["user_data"], json!({ "base64": "AAAA" }));
        assert_eq!(one("user_data: |\n  #!/bin/sh\n  date\n").value["user_data"], json!("#!/bin/sh\ndate\n"));
    }

    #[test]
    fn aliases_stand_for_their_anchors() {
        assert_eq!(one("a: &x {k: [1]}\nb: *x\n").value, json!({ "a": { "k": [1] }, "b": { "k": [1] } }));
    }

    #[test]
    fn what_cannot_be_read_has_its_line() {
        for (text, line, words) in [
            ("a: 1\nb: [1\n", 2, ""),
            ("a: 1\na: 2\n", 2, "twice"),
            ("a: 1\n<<: {b: 1}\n", 2, "merged"),
            ("a: 1\n[x]: 2\n", 2, "one word"),
            ("a: *b\n", 1, ""),
        ] {
            let fault = read("a.yaml", text).unwrap_err();
            assert!(fault.what.contains(words), "{fault}");
            assert_eq!(fault.line, Some(line), "{fault}");
        }
        let mut bomb = "a: &a0 [1]\n".to_owned();
        for n in 1..40 {
            bomb.push_str(&format!("b{n}: &a{n} [{0}, {0}]\n", format!("*a{}", n - 1)));
        }
        assert!(read("a.yaml", &bomb).unwrap_err().what.contains("values"));
        assert!(
            read("a.yaml", &format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1)))
                .unwrap_err()
                .what
                .contains("deeply")
        );
    }
}

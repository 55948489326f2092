//! The shape of a YAML document: is it YAML, what is at its root, which keys has its top level, which keys are there twice.
//!
//! It works on the parser's events and keeps no values, so none can get into a message, and aliases cost nothing:
//! they are not followed. It is as strict as PyYAML, which cloud-init reads with, where PyYAML is stricter than the
//! parser (characters, one document).

use super::CheckError;
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::{borrow::Cow, collections::BTreeMap, ops::Range};

/// What is at the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    Empty,
    Scalar,
    Sequence,
    Mapping,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) line: usize,
    /// A plain value, for the few keys that name a format's version; none for what is no short plain scalar.
    pub(super) value: Option<String>,
}

/// A key that stands twice in one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) name: String,
    pub(super) first: usize,
    pub(super) again: usize,
}

/// What is known of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outline {
    pub(super) root: Root,
    /// Where the root begins.
    pub(super) line: usize,
    /// The keys of the root, if it is a mapping.
    pub(super) top: Vec<Key>,
    /// The keys of the mapping under the root's key `network`, if there is one.
    pub(super) network: Option<Vec<Key>>,
    pub(super) duplicates: Vec<Duplicate>,
}

/// A format's version has a digit or two.
const SHORT: usize = 8;

/// Deeper than this no configuration goes, and PyYAML, which recurses, breaks some hundred levels further on.
const DEPTH: usize = 100;

/// A mapping or a sequence that is open.
enum Level {
    Sequence,
    Mapping {
        keys: BTreeMap<String, usize>,
        /// The key whose value comes next; none if a key comes next. `Some(None)` is a key that is no scalar.
        key: Option<Option<String>>,
    },
}

/// How many lines in quotes may stand further left than YAML wants them. Each costs one more reading of the text.
const DEDENTED: usize = 100;

/// What such a line is moved to the right by: deeper than any mapping around it. White space at the beginning of a line
/// in quotes means nothing.
const MARGIN: usize = 2 * DEPTH;

const TAB: &str = "a tab; use spaces, cloud-init allows tabs only in quotes and in blocks of text";

/// Reads `text`.
pub(super) fn outline(text: &str) -> Result<Outline, CheckError> {
    printable(text)?;
    let mut moved = Cow::Borrowed(text);
    let mut lines = Vec::new();
    loop {
        match read(&moved) {
            Ok(outline) => return Ok(outline),
            // YAML wants what stands in quotes indented on every line; PyYAML does not.
            Err(Stop::Dedented { line }) if lines.len() < DEDENTED && filled(&moved, line) => {
                let margin = " ".repeat(MARGIN);
                let push = |(n, l): (usize, &str)| if n + 1 == line { margin.clone() + l } else { l.to_owned() };
                moved = Cow::Owned(moved.split_inclusive('\n').enumerate().map(push).collect());
                lines.push(line);
            }
            Err(Stop::Dedented { line }) if lines.len() == DEDENTED => {
                let message =
                    "a text in quotes goes on without indentation for too long; use a block of text (|)".to_owned();
                return Err(CheckError::Yaml { line, column: 1, message });
            }
            // All the rest of the text was taken for the quote's: the place to look at is where it first went wrong.
            Err(Stop::Dedented { line } | Stop::Unclosed { line }) => {
                let line = lines.first().copied().unwrap_or(line);
                return Err(CheckError::Yaml {
                    line,
                    column: 1,
                    message: "a quote before this is not closed".to_owned(),
                });
            }
            Err(Stop::Fault(CheckError::Yaml { line, column, message })) if lines.contains(&line) => {
                return Err(CheckError::Yaml { line, column: column.saturating_sub(MARGIN).max(1), message });
            }
            Err(Stop::Fault(error)) => return Err(error),
        }
    }
}

/// Why reading stopped.
enum Stop {
    /// A line in quotes is not indented enough.
    Dedented { line: usize },
    /// The text ends in quotes.
    Unclosed { line: usize },
    /// Anything else.
    Fault(CheckError),
}

impl From<CheckError> for Stop {
    fn from(error: CheckError) -> Self {
        Self::Fault(error)
    }
}

/// Is there anything on this line?
fn filled(text: &str, line: usize) -> bool {
    line.checked_sub(1).and_then(|n| text.split('\n').nth(n)).is_some_and(|l| !l.trim().is_empty())
}

fn read(text: &str) -> Result<Outline, Stop> {
    let mut outline = Outline { root: Root::Empty, line: 1, top: Vec::new(), network: None, duplicates: Vec::new() };
    let mut levels: Vec<Level> = Vec::new();
    let mut documents = 0_usize;
    let mut tabs_allowed = Vec::new();
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| {
            let line = error.marker().line();
            match error.kind() {
                ErrorKind::InvalidQuotedScalarIndent => Stop::Dedented { line },
                ErrorKind::UnclosedQuotedScalar => Stop::Unclosed { line },
                _ => Stop::Fault(syntax(text, &error)),
            }
        })?;
        let at = span.start.line();
        if let Event::Scalar(_, _, _, Some(tag))
        | Event::SequenceStart(_, _, Some(tag))
        | Event::MappingStart(_, _, Some(tag)) = &event
            && !constructible(tag)
        {
            return Err(Stop::Fault(fault(
                span.tag_start().map_or(span, Span::empty),
                "a tag that cloud-init does not know",
            )));
        }
        if matches!(&event, Event::Comment(..))
            || matches!(&event, Event::Scalar(_, style, ..) if *style != ScalarStyle::Plain)
        {
            tabs_allowed.extend(span.byte_range());
        }
        match event {
            Event::DocumentStart(..) => {
                documents += 1;
                if documents > 1 {
                    return Err(Stop::Fault(fault(span, "a second document begins here; cloud-init reads one")));
                }
            }
            Event::Scalar(value, ..) => {
                if levels.is_empty() {
                    // A document without content is one empty scalar.
                    (outline.root, outline.line) = (if value.is_empty() { Root::Empty } else { Root::Scalar }, at);
                }
                node(&mut outline, &mut levels, Some(&value), at);
            }
            Event::Alias(_) => node(&mut outline, &mut levels, None, at),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let mapping = matches!(event, Event::MappingStart(..));
                if levels.is_empty() {
                    (outline.root, outline.line) = (if mapping { Root::Mapping } else { Root::Sequence }, at);
                }
                if levels.len() == DEPTH {
                    return Err(Stop::Fault(fault(span, "it is nested too deeply")));
                }
                if mapping && levels.len() == 1 && awaited(&levels) == Some("network") {
                    outline.network = Some(Vec::new());
                }
                levels.push(if mapping {
                    Level::Mapping { keys: BTreeMap::new(), key: None }
                } else {
                    Level::Sequence
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                levels.pop();
                node(&mut outline, &mut levels, None, at);
            }
            _ => {}
        }
    }
    tabs(text, tabs_allowed)?;
    Ok(outline)
}

/// YAML 1.2 takes a tab for a space in places where PyYAML, which reads 1.1, stops. It may stand in quotes, in blocks of
/// text and in comments.
fn tabs(text: &str, mut allowed: Vec<Range<usize>>) -> Result<(), CheckError> {
    // By where they begin, each with the end of the furthest so far: a block's first line may have a comment in it.
    allowed.sort_by_key(|range| range.start);
    let mut end = 0;
    for range in &mut allowed {
        end = end.max(range.end);
        range.end = end;
    }
    let free = |at: usize| {
        let before = allowed.partition_point(|range| range.start <= at);
        before.checked_sub(1).and_then(|n| allowed.get(n)).is_some_and(|range| at < range.end)
    };
    let Some((at, _)) = text.match_indices('\t').find(|(at, _)| !free(*at)) else { return Ok(()) };
    let before = text.get(..at).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    Err(CheckError::Yaml { line, column, message: TAB.to_owned() })
}

/// Has cloud-init's reader a value for this tag? It is PyYAML's safe one and a tag of Python's own
/// (22.4 `cloudinit/safeyaml.py`). The tag `!`, alone, is the absence of one.
fn constructible(tag: &Tag) -> bool {
    let known = [
        "str",
        "int",
        "float",
        "bool",
        "null",
        "seq",
        "map",
        "binary",
        "timestamp",
        "set",
        "omap",
        "pairs",
        "python/unicode",
    ];
    // A tag that is written in full has no handle.
    let tag = format!("{}{}", tag.handle(), tag.suffix());
    tag == "!" || tag.strip_prefix("tag:yaml.org,2002:").is_some_and(|suffix| known.contains(&suffix))
}

/// The key whose value is open at the innermost level.
fn awaited(levels: &[Level]) -> Option<&str> {
    match levels.last() {
        Some(Level::Mapping { key: Some(Some(key)), .. }) => Some(key),
        _ => None,
    }
}

/// A node is complete: a key or a value of the mapping around it, or an item that nobody looks at.
fn node(outline: &mut Outline, levels: &mut [Level], scalar: Option<&str>, line: usize) {
    let in_network = matches!(levels, [outer, _] if awaited(std::slice::from_ref(outer)) == Some("network"));
    let depth = levels.len();
    let Some(Level::Mapping { keys, key }) = levels.last_mut() else { return };
    let listed = match depth {
        1 => Some(&mut outline.top),
        2 if in_network => outline.network.as_mut(),
        _ => None,
    };
    if key.take().is_some() {
        // The value of the last key that was listed at this level.
        if let (Some(last), Some(value)) = (listed.and_then(|list| list.last_mut()), scalar) {
            last.value = (value.len() <= SHORT).then(|| value.to_owned());
        }
        return;
    }
    if let Some(name) = scalar {
        if let Some(list) = listed {
            list.push(Key { name: name.to_owned(), line, value: None });
        }
        // `<<` merges another mapping, and may do so more than once.
        if name != "<<"
            && let Some(first) = keys.insert(name.to_owned(), line)
        {
            outline.duplicates.push(Duplicate { name: name.to_owned(), first, again: line });
        }
    }
    *key = Some(scalar.map(str::to_owned));
}

/// PyYAML refuses a text with any of these in it (PyYAML 6 `reader.py`, `NON_PRINTABLE`).
fn printable(text: &str) -> Result<(), CheckError> {
    let good = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    for (n, line) in text.split('\n').enumerate() {
        if let Some(column) = line.chars().position(|c| !good(c)) {
            let message = "a control character that YAML does not allow".to_owned();
            return Err(CheckError::Yaml { line: n + 1, column: column + 1, message });
        }
    }
    Ok(())
}

fn fault(span: Span, message: &str) -> CheckError {
    CheckError::Yaml { line: span.start.line(), column: span.start.col() + 1, message: message.to_owned() }
}

/// The parser's messages are constant texts; the one kind that is not is put in our words.
fn syntax(text: &str, error: &ScanError) -> CheckError {
    let (line, column) = (error.marker().line(), error.marker().col() + 1);
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    // The parser stops at the line it cannot read, or at the next one.
    let tab = [line, line.saturating_sub(1)].into_iter().find(|n| {
        let candidate = n.checked_sub(1).and_then(|n| text.split('\n').nth(n)).unwrap_or_default();
        candidate.get(..indent(candidate)).is_some_and(|start| start.contains('\t'))
    });
    if let Some(line) = tab {
        return CheckError::Yaml { line, column: 1, message: TAB.to_owned() };
    }
    let message = match error.kind() {
        ErrorKind::Custom(_) => "it cannot be read here".to_owned(),
        kind => kind.to_string(),
    };
    CheckError::Yaml { line, column, message }
}

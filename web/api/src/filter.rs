//! The filter language for VMs: one for the API, the command line and the panel's search box.
//!
//! Terms stand side by side and all must hold: `node=n1 status=running label.env=prod web`. A value with spaces is put in
//! double quotes. A bare word is looked for in the name. In: a text. Out: a [`Filter`], whose text is canonical, and whether a
//! VM matches. Nothing here knows where the VMs come from.

use crate::vm::Vm;
use std::{fmt, str::FromStr};
use waifud_model::{
    labels::Label,
    name::{NodeName, TemplateName},
    observed::VmState,
};

/// Longest filter, in bytes: many times what a person types, and nothing a server has to fear.
const MAX: usize = 4096;

/// What VMs must be like. The empty one matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    terms: Vec<Term>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// `node=n1`: it is placed there.
    Node(NodeName),
    /// `status=running`: it was last seen like this. `unknown` also matches VMs of silent nodes, other states do not.
    Status(VmState),
    /// `template=debian-12`: its disk started from there.
    Template(TemplateName),
    /// `label.env=prod`: it has this label.
    Label(Label),
    /// `web`: its name contains this.
    Name(String),
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Longer than is taken.
    #[error("the filter is longer than {MAX} bytes")]
    TooLong,
    /// A quote was opened and not closed.
    #[error("a \" is missing in the filter")]
    Quote,
    /// A key that is none.
    #[error("{0:?} cannot be filtered by; there are node, status, template and label.<key>")]
    Key(String),
    /// A value that cannot be.
    #[error("{key}: {why}")]
    Value {
        /// The key.
        key: String,
        /// What was expected.
        why: String,
    },
}

impl Filter {
    /// With one more condition.
    #[must_use]
    pub fn and(mut self, term: Term) -> Self {
        self.terms.push(term);
        self
    }

    /// True if there is no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// True if the VM meets all conditions.
    #[must_use]
    pub fn matches(&self, vm: &Vm) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Node(node) => vm.node == *node,
            Term::Status(state) if vm.status.silent.is_some() => *state == VmState::Unknown,
            Term::Status(state) => vm.status.state == *state,
            Term::Template(template) => vm.template.name == *template,
            Term::Label(label) => vm.labels.get(&label.key) == Some(&label.value),
            Term::Name(part) => vm.name.as_str().contains(part.as_str()),
        })
    }
}

impl FromIterator<Term> for Filter {
    fn from_iter<I: IntoIterator<Item = Term>>(terms: I) -> Self {
        Self { terms: terms.into_iter().collect() }
    }
}

/// Splits at spaces outside quotes, and takes the quotes away.
fn split(text: &str) -> Result<Vec<String>, FilterError> {
    let mut words = Vec::new();
    let mut word = None::<String>;
    let mut quoted = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quoted { Err(FilterError::Quote) } else { Ok(words) }
}

fn value<T: FromStr<Err: fmt::Display>>(key: &str, text: &str) -> Result<T, FilterError> {
    text.parse().map_err(|e: T::Err| FilterError::Value { key: key.to_owned(), why: e.to_string() })
}

fn term(word: String) -> Result<Term, FilterError> {
    let Some((key, text)) = word.split_once('=') else { return Ok(Term::Name(word)) };
    match key {
        "node" => value(key, text).map(Term::Node),
        "status" => value(key, text).map(Term::Status).map_err(|_| FilterError::Value {
            key: key.to_owned(),
            why: format!("{text:?} is not a status; there are {}", VmState::words().join(", ")),
        }),
        "template" => value(key, text).map(Term::Template),
        _ => match key.strip_prefix("label.") {
            Some(label) => value(key, &format!("{label}={text}")).map(Term::Label),
            None => Err(FilterError::Key(key.chars().take(80).collect())),
        },
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX {
            return Err(FilterError::TooLong);
        }
        split(text)?.into_iter().map(term).collect()
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, text) = match self {
            Self::Node(node) => ("node=".to_owned(), node.to_string()),
            Self::Status(state) => ("status=".to_owned(), state.to_string()),
            Self::Template(template) => ("template=".to_owned(), template.to_string()),
            Self::Label(label) => (format!("label.{}=", label.key), label.value.clone()),
            Self::Name(part) => (String::new(), part.clone()),
        };
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\') {
            write!(f, "{key}\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            write!(f, "{key}{text}")
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, term) in self.terms.iter().enumerate() {
            write!(f, "{}{term}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::tests::vm;

    #[test]
    fn filters_read_and_show() {
        for (text, canonical) in [
            ("", ""),
            ("  node=n1   web ", "node=n1 web"),
            ("status=running label.env=prod", "status=running label.env=prod"),
            ("label.team=\"two words\"", "label.team=\"two words\""),
            (r#"label.q="a \"b\" \\ c""#, r#"label.q="a \"b\" \\ c""#),
            ("label.empty=", "label.empty=\"\""),
            ("label.sum=a=b", "label.sum=a=b"),
        ] {
            let filter: Filter = text.parse().unwrap();
            assert_eq!(filter.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(filter));
        }
        for bad in ["node=N1", "status=walking", "colour=red", "label.x=\"", "label.=x", &"x".repeat(MAX + 1)] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_match() {
        let vm = vm();
        for yes in ["", "web", "node=n2 status=running", "label.env=prod template=debian-12 eb-"] {
            assert!(yes.parse::<Filter>().unwrap().matches(&vm), "{yes}");
        }
        for no in ["db", "node=n1", "status=unknown", "label.env=test", "label.nope=prod", "web node=n1"] {
            assert!(!no.parse::<Filter>().unwrap().matches(&vm), "{no}");
        }
        let mut silent = vm;
        silent.status.silent = Some(crate::vm::Silent { since: None });
        assert!("status=unknown".parse::<Filter>().unwrap().matches(&silent));
        assert!(!"status=running".parse::<Filter>().unwrap().matches(&silent));
    }
}

//! A tree as a typed document. All fields that are wrong are told, not only the first: what is wrong is taken out, and the rest
//! is read again.

use super::{
    Image, Origin, WantedNode, WantedTemplate, WantedVm,
    tree::{Fault, Path, Tree},
};
use crate::documents::{Sources, ssh_keys};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use std::path::{Path as FilePath, PathBuf};
use waifud_api::{
    document::{KINDS, NodeDocument, TemplateDocument, VmDocument},
    user_data::UserDataIn,
};

/// What a document describes.
pub(super) enum Described {
    Vm(Box<WantedVm>),
    Template(WantedTemplate),
    Node(WantedNode),
}

/// How many slips of a key may be between what was typed and what was meant.
const SLIPS: usize = 2;

/// Reads a document of the kind that it says, or that its list says.
pub(super) fn document(
    file: &str,
    dir: &FilePath,
    mut tree: Tree,
    kind: Option<&str>,
) -> Result<Described, Vec<Fault>> {
    let line = tree.line(&[]).unwrap_or(1);
    let mut reader = Reader { file, dir, line, faults: Vec::new() };
    let kinds = kinds();
    let Value::Object(map) = &mut tree.value else {
        return Err(reader.only(line, format!("a document was expected: fields, with kind: {kinds}")));
    };
    let said = map.remove("kind");
    let kind = match (said, kind) {
        (Some(Value::String(said)), None) => said,
        (Some(Value::String(said)), Some(kind)) if said == kind => said,
        (None, Some(kind)) => kind.to_owned(),
        (None, None) => return Err(reader.only(line, format!("kind is missing; it is {kinds}"))),
        (Some(other), _) => {
            let line = tree.line(&["kind".to_owned()]).unwrap_or(line);
            return Err(reader.only(line, format!("kind: {other} does not belong here; it is {kinds}")));
        }
    };
    let described = match kind.as_str() {
        "vm" => reader.typed(&mut tree).and_then(|document| reader.vm(document, &tree)),
        "template" => reader.typed(&mut tree).and_then(|document| reader.template(document, &tree)),
        "node" => reader.typed(&mut tree).map(|document| reader.node(document)),
        other => {
            let line = tree.line(&["kind".to_owned()]).unwrap_or(line);
            return Err(reader.only(line, format!("kind: {other:?} is not known; it is {kinds}")));
        }
    };
    described.filter(|_| reader.faults.is_empty()).ok_or(reader.faults)
}

/// `vm, template or node`.
fn kinds() -> String {
    let [others @ .., last] = KINDS;
    format!("{} or {last}", others.join(", "))
}

struct Reader<'a> {
    file: &'a str,
    dir: &'a FilePath,
    line: usize,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, line: usize, what: impl Into<String>) {
        self.faults.push(Fault { file: self.file.to_owned(), line: Some(line), what: what.into() });
    }

    fn only(&mut self, line: usize, what: String) -> Vec<Fault> {
        self.fault(line, what);
        std::mem::take(&mut self.faults)
    }

    /// None if there is nothing more to be read; the faults say why.
    fn typed<T: DeserializeOwned>(&mut self, tree: &mut Tree) -> Option<T> {
        loop {
            let error = match serde_path_to_error::deserialize::<_, T>(&tree.value) {
                Ok(document) => return Some(document),
                Err(error) => error,
            };
            let path: Path = error.path().iter().filter_map(step).collect();
            let why = error.into_inner().to_string();
            if let Some(missing) = between(&why, "missing field `") {
                let line = tree.line(&path).unwrap_or(self.line);
                self.fault(line, format!("{missing} is missing"));
                if !tree.fill(&path, missing) {
                    return None;
                }
                continue;
            }
            let line = tree.line(&path).unwrap_or(self.line);
            self.fault(line, said(&path, &why));
            if !tree.remove(&path) {
                return None;
            }
        }
    }

    fn vm(&mut self, mut document: VmDocument, tree: &Tree) -> Option<Described> {
        let mut sources = Sources::default();
        let at = |field: &str| tree.line(&[field.to_owned()]).unwrap_or(self.line);
        let lines = ["user_data", "user_data_file", "network_config", "network_config_file", "ssh_key_files"].map(at);
        let user_data = document.user_data_file.take();
        self.told("user_data", user_data, &mut document.user_data, [lines[0], lines[1]], &mut sources);
        let network_config = document.network_config_file.take();
        self.told("network_config", network_config, &mut document.network_config, [lines[2], lines[3]], &mut sources);
        if let Some(files) = document.ssh_key_files.take() {
            let paths: Vec<_> = files.iter().map(|file| self.beside(file)).collect();
            match ssh_keys(&paths) {
                Ok(keys) => document.ssh_keys.get_or_insert_default().extend(keys),
                Err(failure) => self.fault(lines[4], format!("ssh_key_files: {failure}")),
            }
        }
        let origin = Origin { file: self.file.to_owned(), line: self.line };
        Some(Described::Vm(Box::new(WantedVm { origin, document, sources })))
    }

    /// A document for the guest: out of the file that is named, or as it stands there.
    fn told(
        &mut self,
        field: &'static str,
        file: Option<String>,
        inline: &mut Option<Option<UserDataIn>>,
        [at, file_at]: [usize; 2],
        sources: &mut Sources,
    ) {
        let Some(file) = file else {
            if inline.is_some() {
                sources.note(field, format!("{}:{at}: {field}", self.file));
            }
            return;
        };
        if inline.is_some() {
            return self.fault(file_at, format!("{field}_file: there is {field} too; only one of them can be meant"));
        }
        match sources.read(field, &self.beside(&file)) {
            Ok(read) => *inline = Some(Some(read)),
            Err(failure) => self.fault(file_at, format!("{field}_file: {failure}")),
        }
    }

    /// A file that a document names.
    fn beside(&self, file: &str) -> PathBuf {
        // Alone it would mean stdin.
        if file == "-" { self.dir.join("./-") } else { self.dir.join(file) }
    }

    fn template(&mut self, document: TemplateDocument, tree: &Tree) -> Option<Described> {
        let at = |field: &str| tree.line(&[field.to_owned()]).unwrap_or(self.line);
        let (url_at, file_at) = (at("url"), at("file"));
        let image = match (document.url, document.file, document.sha256) {
            (Some(_), Some(_), _) => {
                self.fault(file_at, "file: there is url too; only one of them can be meant");
                return None;
            }
            (Some(_), None, None) => {
                self.fault(url_at, "url: sha256 is missing; nothing unverified is ever booted");
                return None;
            }
            (None, None, _) => {
                self.fault(self.line, "url (with sha256) or file is missing");
                return None;
            }
            (Some(url), None, Some(sha256)) => Image::Url { url, sha256 },
            (None, Some(file), sha256) => Image::File { path: self.beside(&file), sha256 },
        };
        if let Image::File { path, .. } = &image
            && let Err(error) = std::fs::metadata(path)
        {
            self.fault(file_at, format!("file: {}: {error}", path.display()));
        }
        let origin = Origin { file: self.file.to_owned(), line: self.line };
        Some(Described::Template(WantedTemplate { origin, name: document.name, image }))
    }

    fn node(&self, document: NodeDocument) -> Described {
        let origin = Origin { file: self.file.to_owned(), line: self.line };
        Described::Node(WantedNode { origin, document })
    }
}

fn step(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { variant } => Some(variant.clone()),
        Segment::Unknown => None,
    }
}

fn between<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.split_once('`').map(|(name, _)| name)
}

/// What serde says, for people.
fn said(path: &[String], why: &str) -> String {
    let Some(unknown) = between(why, "unknown field `") else {
        // Serde speaks of Rust's types.
        let why = why.replace("expected u32", "expected a whole number");
        return format!("{}: {why}", path.join("."));
    };
    let known: Vec<_> = why.split('`').skip(3).step_by(2).collect();
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), name)).min();
    match near {
        Some((slips, name)) if slips <= SLIPS => format!("there is no field {unknown:?}; did you mean {name:?}?"),
        _ => format!("there is no field {unknown:?}; there are {}", known.join(", ")),
    }
}

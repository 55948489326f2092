//! Files as documents: all of them, or all that is wrong with them, each fault with its file and line.
//!
//! ```text
//!   paths ──> texts ──> yaml.rs, toml.rs ──> tree.rs: values with lines ──> decode.rs: typed ──> files beside them read
//! ```

mod decode;
mod toml;
mod tree;
mod yaml;

pub(crate) use tree::Fault;

use crate::documents::Sources;
use decode::Described;
use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};
use tree::Tree;
use waifud_api::document::{KINDS, NodeDocument, VmDocument};
use waifud_model::{digest::Sha256, name::TemplateName};

/// Where a document stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    /// The file, as the user named it.
    pub(crate) file: String,
    /// The line it begins on.
    pub(crate) line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A VM as it shall be; what its document had in files is in the document now.
#[derive(Debug, Clone)]
pub(crate) struct WantedVm {
    pub(crate) origin: Origin,
    pub(crate) document: VmDocument,
    /// Where its documents for the guest came from.
    pub(crate) sources: Sources,
}

/// A template that shall have a version with certain bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedTemplate {
    pub(crate) origin: Origin,
    pub(crate) name: TemplateName,
    pub(crate) image: Image,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Image {
    /// The web.
    Url {
        /// Where.
        url: String,
        /// Its bytes.
        sha256: Sha256,
    },
    /// This machine.
    File {
        /// Where.
        path: PathBuf,
        /// Its bytes, if the document says.
        sha256: Option<Sha256>,
    },
}

/// A node that shall have certain labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedNode {
    pub(crate) origin: Origin,
    pub(crate) document: NodeDocument,
}

/// All that the files describe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) templates: Vec<WantedTemplate>,
    pub(crate) vms: Vec<WantedVm>,
    pub(crate) nodes: Vec<WantedNode>,
}

impl Wanted {
    const fn is_empty(&self) -> bool {
        self.templates.is_empty() && self.vms.is_empty() && self.nodes.is_empty()
    }
}

/// Reads files and directories; `-` is stdin.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Wanted, Vec<Fault>> {
    let (mut wanted, mut faults) = (Wanted::default(), Vec::new());
    for path in paths {
        match files(path) {
            Ok(files) => files.iter().for_each(|path| file(path, &mut wanted, &mut faults)),
            Err(fault) => faults.push(fault),
        }
    }
    twice(&wanted, &mut faults);
    if faults.is_empty() {
        if wanted.is_empty() {
            let file = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            return Err(vec![Fault { file, line: None, what: "nothing is described in it".to_owned() }]);
        }
        return Ok(wanted);
    }
    faults.sort();
    Err(faults)
}

/// The file itself, or those of a directory that can be meant, by name. Not those of directories in it: what is applied is to
/// be seen at one look.
fn files(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let fault = |error: std::io::Error| Fault { file: path.display().to_string(), line: None, what: error.to_string() };
    if crate::documents::is_stdin(path) || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        let path = entry.map_err(fault)?.path();
        let known = path.extension().is_some_and(|end| ["yaml", "yml", "toml"].iter().any(|known| end == *known));
        if known && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn file(path: &Path, wanted: &mut Wanted, faults: &mut Vec<Fault>) {
    let stdin = crate::documents::is_stdin(path);
    let name = if stdin { "stdin".to_owned() } else { path.display().to_string() };
    let text = if stdin {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return faults.push(Fault { file: name, line: None, what: error.to_string() }),
    };
    // Files beside a document are found from where it stands; those of stdin from here.
    let dir = if stdin { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    match trees(path, &name, &text) {
        Ok(trees) => trees.into_iter().for_each(|tree| within(&name, dir, tree, wanted, faults)),
        Err(more) => faults.extend(more),
    }
}

fn trees(path: &Path, name: &str, text: &str) -> Result<Vec<Tree>, Vec<Fault>> {
    // A pipe has no ending that tells; the head of a list of TOML's does.
    let listed = |line: &str| KINDS.iter().any(|kind| line.trim_end() == format!("[[{kind}]]"));
    let is_toml = match path.extension() {
        Some(ending) => ending == "toml",
        None => text.lines().any(listed),
    };
    if is_toml {
        toml::read(name, text).map(|tree| vec![tree])
    } else {
        yaml::read(name, text).map_err(|fault| vec![fault])
    }
}

/// The documents of one tree: itself, the items of a list, or the items of lists by kind.
fn within(name: &str, dir: &Path, tree: Tree, wanted: &mut Wanted, faults: &mut Vec<Fault>) {
    use serde_json::Value;
    let mut one = |tree: Tree, kind: Option<&str>| match decode::document(name, dir, tree, kind) {
        Ok(Described::Vm(vm)) => wanted.vms.push(*vm),
        Ok(Described::Template(template)) => wanted.templates.push(template),
        Ok(Described::Node(node)) => wanted.nodes.push(node),
        Err(more) => faults.extend(more),
    };
    match &tree.value {
        Value::Array(list) => {
            for (n, item) in list.iter().enumerate() {
                one(tree.part(&n.to_string(), item.clone()), None);
            }
        }
        Value::Object(map) if !map.contains_key("kind") && !map.is_empty() && map.values().all(Value::is_array) => {
            for (kind, list) in map {
                let lists = tree.part(kind, list.clone());
                for (n, item) in list.as_array().into_iter().flatten().enumerate() {
                    one(lists.part(&n.to_string(), item.clone()), Some(kind));
                }
            }
        }
        _ => one(tree, None),
    }
}

/// An object that is described twice cannot be meant both ways.
fn twice(wanted: &Wanted, faults: &mut Vec<Fault>) {
    let vms = wanted.vms.iter().map(|vm| (format!("vm {}", vm.document.name), &vm.origin));
    let templates = wanted.templates.iter().map(|template| (format!("template {}", template.name), &template.origin));
    let nodes = wanted.nodes.iter().map(|node| (format!("node {}", node.document.name), &node.origin));
    let mut seen = BTreeMap::<String, &Origin>::new();
    for (object, origin) in vms.chain(templates).chain(nodes) {
        if let Some(first) = seen.get(&object) {
            let what = format!("{object} is described twice; first in {first}");
            faults.push(Fault { file: origin.file.clone(), line: Some(origin.line), what });
        } else {
            seen.insert(object, origin);
        }
    }
}

#[cfg(test)]
mod tests;

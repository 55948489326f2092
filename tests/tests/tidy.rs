//! What a reviewer would check by eye: each module says what it is for, files stay small, the crates know only whom they
//! may know, and nothing is left lying about.
//!
//! In: the files of this repository, as they are. Every test names all that it found at once.

#![allow(clippy::expect_used, reason = "what helps a test fails as the test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file that holds one idea are about 400; this leaves room for the one that needs a few more.
const MOST_LINES: usize = 450;

/// What may stand at the top, beside names that begin with a dot.
const TOP: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "consensus",
    "ctl",
    "gossip",
    "node",
    "target",
    "tests",
    "web",
];

/// Whom each crate of the workspace may know.
const GRAPH: &[(&str, &str, &[&str])] = &[
    ("consensus/histogram", "base2histogram", &[]),
    ("consensus/model", "waifud-model", &[]),
    ("web/api", "waifud-api", &["waifud-model"]),
    ("consensus", "waifud-consensus", &["waifud-model"]),
    ("gossip", "waifud-gossip", &["waifud-model"]),
    ("ctl", "waifuctl", &["waifud-api", "waifud-model"]),
    ("node/cloudinit", "waifud-cloudinit", &["waifud-model"]),
    ("node/mesh", "waifud-mesh", &[]),
    ("node/metadata", "waifud-metadata", &["waifud-cloudinit", "waifud-model"]),
    ("web", "waifud-web", &["waifud-api", "waifud-cloudinit", "waifud-consensus", "waifud-model"]),
    (
        "node",
        "waifud-node",
        &[
            "waifud-api",
            "waifud-cloudinit",
            "waifud-consensus",
            "waifud-gossip",
            "waifud-mesh",
            "waifud-metadata",
            "waifud-model",
            "waifud-web",
        ],
    ),
    (
        "tests",
        "waifud-tests",
        &["waifud-api", "waifud-consensus", "waifud-gossip", "waifud-model", "waifud-node", "waifud-web"],
    ),
];

/// Crates of others that only some of ours may use directly, so that a change of mind about one of them stays in one place.
const ALONE: &[(&str, &[&str])] = &[
    ("virt", &["waifud-node"]),
    ("openraft", &["waifud-consensus"]),
    ("rusqlite", &["waifud-consensus"]),
    ("chitchat", &["waifud-gossip"]),
    ("axum", &["waifud-metadata", "waifud-node", "waifud-web"]),
    ("boringtun", &["waifud-mesh"]),
    ("redis", &["waifud-metadata"]),
    ("smoltcp", &["waifud-metadata"]),
];

/// What the model may not reach for: it is told the time and its ids, and waits for nothing.
const IMPURE: &[&str] = &["futures", "jiff", "rand", "time", "tokio", "tracing"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the repository").to_owned()
}

/// All files written by people whose names end in one of these, by their paths below the root.
fn files(endings: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(&root(), &mut |path| {
        let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
        if endings.iter().any(|ending| name.ends_with(ending)) {
            found.insert(name, fs::read_to_string(path).expect("a text file"));
        }
    });
    assert!(!found.is_empty(), "no file ends in {endings:?}: this test looks in the wrong place");
    found
}

fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).expect("a directory of the repository").flatten() {
        let made_by_tools = [".git", "target", "node_modules", "dist"];
        if made_by_tools.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), visit),
            Ok(kind) if kind.is_file() => visit(&entry.path()),
            _ => {}
        }
    }
}

fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

/// The lines before the unit tests; none for files that hold nothing but tests.
fn lines_of_code(path: &str, text: &str) -> usize {
    let tests_alone = path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/tests/");
    let code = if tests_alone { "" } else { text.split("#[cfg(test)]\nmod ").next().unwrap_or(text) };
    code.lines().count()
}

#[test]
fn every_module_says_what_it_is_for() {
    let findings: Vec<String> =
        files(&[".rs"]).into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(path, _)| path).collect();
    none(&findings, "these do not open with `//!`");
}

#[test]
fn a_file_holds_one_idea() {
    let findings: Vec<String> = files(&[".rs"])
        .iter()
        .map(|(path, text)| (path, lines_of_code(path, text)))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    none(&findings, "these want to be several");
}

#[test]
fn unit_tests_do_not_count_as_code() {
    assert_eq!(lines_of_code("a/src/b.rs", "//! B.\nfn b() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), 3);
    assert_eq!(lines_of_code("a/src/b/tests.rs", "//! Tests.\n"), 0);
}

#[test]
fn files_are_named_for_what_they_hold() {
    let vague = ["common", "helper", "helpers", "misc", "util", "utils"];
    let findings: Vec<String> = files(&[".rs", ".js", ".mjs", ".sh"])
        .into_keys()
        .filter(|path| path.split(['/', '.']).any(|part| vague.contains(&part)))
        .collect();
    none(&findings, "these names say nothing");
}

#[test]
fn nothing_is_left_to_do() {
    // In two halves, so that this file does not find itself.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut findings = Vec::new();
    for (path, text) in files(&[".rs", ".js", ".mjs", ".css", ".html", ".sh", ".toml", ".md", ".ci/run"]) {
        for (number, line) in text.lines().enumerate() {
            if line.split(|c: char| !c.is_alphanumeric()).any(|word| marks.contains(&word)) {
                findings.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    none(&findings, "finish these or take them to the issues");
}

#[test]
fn nothing_depends_on_where_it_was_written() {
    let root = root().to_string_lossy().into_owned();
    // A clone right below `/` has a name that may well mean something else.
    if root.matches('/').count() < 2 {
        return;
    }
    let findings: Vec<String> =
        files(&[".rs", ".js", ".mjs", ".html", ".sh", ".toml", ".json", ".md", ".xml", ".ci/run"])
            .into_iter()
            .filter(|(_, text)| text.contains(&root))
            .map(|(path, _)| path)
            .collect();
    none(&findings, "these name the directory of this clone");
}

#[test]
fn scripts_stop_at_the_first_error() {
    let findings: Vec<String> = files(&[".sh", ".ci/run"])
        .into_iter()
        .filter(|(_, text)| !(text.starts_with("#!/usr/bin/env bash\n# ") && text.contains("\nset -euo pipefail\n")))
        .map(|(path, _)| path)
        .collect();
    none(&findings, "these need `#!/usr/bin/env bash`, a line on what they do, and `set -euo pipefail`");
}

#[test]
fn the_top_level_is_as_agreed() {
    let findings: Vec<String> = fs::read_dir(root())
        .expect("the repository")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !TOP.contains(&name.as_str()))
        .collect();
    none(&findings, "these belong somewhere below");
}

/// The manifests of the workspace by the names of their crates.
fn manifests() -> BTreeMap<String, toml::Table> {
    files(&["Cargo.toml"])
        .into_iter()
        .filter(|(path, _)| path != "Cargo.toml")
        .map(|(path, text)| {
            let manifest: toml::Table = text.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
            (name, manifest)
        })
        .collect()
}

fn dependencies<'m>(manifest: &'m toml::Table, section: &str) -> BTreeMap<&'m str, &'m toml::Value> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

#[test]
fn crates_know_only_whom_they_may_know() {
    let manifests = manifests();
    let ours: BTreeSet<&str> = GRAPH.iter().map(|(_, name, _)| *name).collect();
    let there: BTreeSet<&str> = manifests.keys().map(String::as_str).collect();
    assert_eq!(ours, there, "the crates of the workspace");
    let mut findings = Vec::new();
    for (directory, name, allowed) in GRAPH {
        assert!(root().join(directory).join("Cargo.toml").is_file(), "{name} is not in {directory}");
        let known = dependencies(&manifests[*name], "dependencies");
        for ours in known.keys().filter(|known| ours.contains(*known)) {
            if !allowed.contains(ours) {
                findings.push(format!("{name} knows {ours}"));
            }
        }
        for (theirs, who) in ALONE {
            if known.contains_key(theirs) && !who.contains(name) && *name != "waifud-tests" {
                findings.push(format!("{name} uses {theirs}, which is for {who:?}"));
            }
        }
    }
    let model = dependencies(&manifests["waifud-model"], "dependencies");
    findings
        .extend(IMPURE.iter().filter(|name| model.contains_key(*name)).map(|name| format!("the model uses {name}")));
    none(&findings, "the crate graph is not as designed");
}

#[test]
fn versions_and_lints_are_those_of_the_workspace() {
    let mut findings = Vec::new();
    for (name, manifest) in &manifests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (dependency, value) in dependencies(manifest, section) {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    findings.push(format!("{name}: {dependency} has a version of its own"));
                }
            }
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) {
            findings.push(format!("{name}: lints of its own"));
        }
    }
    none(&findings, "these belong into the workspace's Cargo.toml");
}

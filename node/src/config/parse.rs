//! From text to a [`Config`]: pure, and never content with the first mistake.

use super::{Config, ConfigError, KEYS, Key, Place};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// A value that was given outside of the file.
#[derive(Debug, Clone)]
pub struct Given {
    /// Which setting.
    pub key: &'static Key,
    /// Where it was given.
    pub place: Place,
    /// What was given; with commas where the setting is a list.
    pub text: String,
}

impl Given {
    /// What `variable` says (a look-up in the environment), for every setting there is.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Vec<Self> {
        let given = |key: &'static Key| {
            let name = key.variable();
            variable(&name).map(|text| Self { key, place: Place::Variable(name), text })
        };
        KEYS.iter().filter_map(given).collect()
    }

    fn values(&self) -> Vec<String> {
        if self.key.list {
            self.text.split(',').map(str::trim).filter(|v| !v.is_empty()).map(str::to_owned).collect()
        } else {
            vec![self.text.clone()]
        }
    }
}

/// Reads the file's `text` and puts `variables` and then `flags` over it.
///
/// # Errors
/// Everything that is wrong, in the order file, variables, flags, whole.
pub fn parse(path: &Path, text: &str, variables: Vec<Given>, flags: Vec<Given>) -> Result<Config, Vec<ConfigError>> {
    let mut config = Config::default();
    let mut errors = Vec::new();
    let file = File { path, text };
    let (table, broken) = DeTable::parse_recoverable(text);
    for error in &broken {
        let at = error.span().map_or(0, |span| span.start);
        errors.push(ConfigError { place: file.place(at), message: error.message().to_owned() });
    }
    // What could be recovered from a file that is no TOML would only give errors that follow from the first.
    if broken.is_empty() {
        file.apply(table.get_ref(), &mut config, &mut errors);
    }
    for given in variables.iter().chain(&flags) {
        if let Err(message) = (given.key.set)(&mut config, &given.values()) {
            errors.push(ConfigError { place: given.place.clone(), message });
        }
    }
    if errors.is_empty() {
        errors.extend(contradictions(&config).into_iter().map(|message| ConfigError { place: Place::Whole, message }));
    }
    if errors.is_empty() { Ok(config) } else { Err(errors) }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        Place::File { path: self.path.to_owned(), line: before.matches('\n').count() + 1 }
    }

    fn apply(&self, table: &DeTable<'_>, config: &mut Config, errors: &mut Vec<ConfigError>) {
        let mut found = Vec::new();
        let mut wrong = |offset, message| found.push((offset, message));
        for (section, content) in table {
            let at = section.span().start;
            let name = section.get_ref().as_ref();
            let known = KEYS.iter().any(|key| key.section == name);
            let Some(content) = content.get_ref().as_table().filter(|_| known) else {
                let sections = KEYS.iter().map(|key| key.section);
                wrong(at, unknown(&format!("there is no section [{name}]"), name, sections));
                continue;
            };
            for (key, value) in content {
                let at = key.span().start;
                let key = key.get_ref().as_ref();
                let Some(known) = KEYS.iter().find(|k| k.section == name && k.name == key) else {
                    let names = KEYS.iter().filter(|k| k.section == name).map(|k| k.name);
                    wrong(at, unknown(&format!("[{name}] has no key {key:?}"), key, names));
                    continue;
                };
                let set = values(known, value.get_ref()).and_then(|values| (known.set)(config, &values));
                if let Err(message) = set {
                    wrong(value.span().start, format!("{}: {message}", known.path()));
                }
            }
        }
        // Tables come in the order of their names; people read from top to bottom.
        found.sort();
        errors.extend(found.into_iter().map(|(offset, message)| ConfigError { place: self.place(offset), message }));
    }
}

/// The texts of a TOML value, so that file, variables and flags go the same way.
fn values(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        other => Err(format!("expected {}, not {}", key.form, other.type_str())),
    };
    match value {
        DeValue::Array(items) if key.list => items.iter().map(|item| scalar(item.get_ref())).collect(),
        _ if key.list => Err(format!("expected an array, for example [{:?}]", key.form.trim_end_matches(",…"))),
        other => Ok(vec![scalar(other)?]),
    }
}

/// Names the likeliest intention if there is one, else all there is.
fn unknown<'a>(what: &str, given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = known.collect();
    names.sort_unstable();
    names.dedup();
    let near = names.iter().map(|name| (strsim::damerau_levenshtein(given, name), *name)).min();
    match near {
        Some((distance, name)) if distance <= 2 => format!("{what}; did you mean {name:?}?"),
        _ => format!("{what}; there are {}", names.join(", ")),
    }
}

/// What is wrong although each value is right by itself.
fn contradictions(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if config.api.tls_cert.is_some() != config.api.tls_key.is_some() {
        found.push("[api] tls_cert and tls_key must be given together".to_owned());
    }
    let cluster = &config.cluster;
    if cluster.election_min >= cluster.election_max {
        found.push("[cluster] election_min must be less than election_max".to_owned());
    }
    if cluster.heartbeat * 2 > cluster.election_max {
        found.push(
            "[cluster] election_max must be at least twice the heartbeat, or every lost packet makes an election"
                .to_owned(),
        );
    }
    if let Err(error) = waifud_model::network::check(config.network.cidr, super::SUBNET_PREFIX) {
        found.push(format!("[network] cidr: {error}"));
    }
    if config.node.advertise.is_some_and(|a| a.ip().is_unspecified() || a.port() == 0) {
        found.push(
            "[node] advertise must be an address and port that peers can reach, not 0.0.0.0 or port 0".to_owned(),
        );
    }
    found
}

//! The user's own configuration: where clusters are and as whom to speak (contexts), and what options are by default.
//!
//! In and out: `$XDG_CONFIG_HOME/waifu/config.toml`. Tokens and certificates lie beside it in files of their own, tokens
//! readable by their owner only, so that the configuration itself can be shown to others. Nothing here connects anywhere.

use crate::{exit::Failure, output::Format, output::parse_span};
use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    env, fmt,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use waifud_api::client::Endpoint;

/// The configuration's folder, and its file in it.
const DIR: &str = "waifu";
const FILE: &str = "config.toml";

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The context that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<ContextName>,
    /// What options are where they are not given.
    #[serde(default, skip_serializing_if = "Defaults::is_empty")]
    pub(crate) defaults: Defaults,
    /// The contexts, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) contexts: BTreeMap<ContextName, Place>,
}

/// A cluster: where it is, and as whom to speak to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    /// Its endpoints; the first that answers is used.
    pub(crate) hosts: Vec<Host>,
    /// A file with a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// A file with the certificate of its CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Through which machine `ssh` goes where guests are not routed: `[user@]host[:port]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jump: Option<String>,
}

/// What options are where they are not given. The names of the fields are the keys of `config set`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// A key of `config set`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Key {
    /// The form of results on a terminal: table, wide, json, yaml, csv, name
    Output,
    /// How long to wait: 90s, 5m, 1h
    Timeout,
    /// As whom ssh logs in, where nothing tells
    User,
}

impl Key {
    /// All, in order.
    pub(crate) const ALL: [Self; 3] = [Self::Output, Self::Timeout, Self::User];

    /// As it is typed.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Timeout => "timeout",
            Self::User => "user",
        }
    }

    fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Output => {
                let known = || Format::value_variants().iter().filter_map(|form| form.to_possible_value());
                let words = || known().map(|form| form.get_name().to_owned()).collect::<Vec<_>>().join(", ");
                Format::from_str(value, false).map(drop).map_err(|_| format!("{value:?} is none of {}", words()))
            }
            Self::Timeout => parse_span(value).map(drop),
            Self::User if crate::guest::is_user(value) => Ok(()),
            Self::User => Err(format!("{value:?} is not a user's name")),
        }
    }
}

impl Defaults {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What `key` is, if it is set.
    pub(crate) fn get(&self, key: Key) -> Option<&str> {
        match key {
            Key::Output => self.output.as_deref(),
            Key::Timeout => self.timeout.as_deref(),
            Key::User => self.user.as_deref(),
        }
    }

    /// Sets `key`, or takes it away.
    pub(crate) fn set(&mut self, key: Key, value: Option<String>) -> Result<(), Failure> {
        if let Some(value) = &value {
            key.check(value).map_err(|why| Failure::Usage(format!("{}: {why}", key.word())))?;
        }
        match key {
            Key::Output => self.output = value,
            Key::Timeout => self.timeout = value,
            Key::User => self.user = value,
        }
        Ok(())
    }

    /// The form of results.
    pub(crate) fn output(&self) -> Option<Format> {
        self.output.as_deref().and_then(|word| Format::from_str(word, false).ok())
    }

    /// How long to wait.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout.as_deref().and_then(|text| parse_span(text).ok())
    }
}

/// What people call a context: also the name of its files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ContextName(String);

impl FromStr for ContextName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let good = (1..=63).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['.', '-']);
        let refuse = || format!("{text:?} is no name for a context; it has 1 to 63 letters, digits, -, _ and .");
        if good { Ok(Self(text.to_owned())) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for ContextName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ContextName> for String {
    fn from(name: ContextName) -> Self {
        name.0
    }
}

impl fmt::Display for ContextName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An endpoint in the file: its text form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Host(pub(crate) Endpoint);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|e: waifud_api::client::EndpointError| e.to_string())
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0.to_string()
    }
}

impl Settings {
    /// Reads the file. Where there is none, everything is as if nothing were set.
    pub(crate) fn load() -> Result<Self, Failure> {
        let Some(path) = config_dir().map(|dir| dir.join(FILE)) else { return Ok(Self::default()) };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::read(&text).map_err(|why| Failure::Usage(format!("{}: {why}", path.display()))),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Failure::File { path: path.display().to_string(), source }),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        for key in Key::ALL {
            settings.defaults.get(key).map_or(Ok(()), |value| key.check(value))?;
        }
        Ok(settings)
    }

    /// Writes the file anew, all of it or nothing.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let text = toml::to_string_pretty(self).map_err(|e| Failure::Usage(e.to_string()))?;
        keep(FILE, text.as_bytes()).map(drop)
    }

    /// The context of this name.
    pub(crate) fn place(&self, name: &ContextName) -> Result<&Place, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(ToString::to_string).collect();
            let message = match crate::suggest::nearest(&name.0, known.iter().map(String::as_str)) {
                Some(near) => format!("there is no context {name}; did you mean {near}?"),
                None if known.is_empty() => format!("there is no context {name}, nor any other"),
                None => format!("there is no context {name}; there are {}", known.join(", ")),
            };
            Failure::ended(waifud_api::exit::Exit::NotFound, message, "waifuctl context list")
        })
    }
}

/// Where the configuration lies; none if the user has no home.
pub(crate) fn config_dir() -> Option<PathBuf> {
    base("XDG_CONFIG_HOME", ".config")
}

/// Where things lie that the program remembers by itself; none if the user has no home.
pub(crate) fn state_dir() -> Option<PathBuf> {
    base("XDG_STATE_HOME", ".local/state")
}

fn base(variable: &str, under_home: &str) -> Option<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    let given = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(given.or_else(|| Some(home()?.join(under_home)))?.join(DIR))
}

/// Writes a file of the configuration, readable by its owner only, and tells where it is.
pub(crate) fn keep(name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let dir = config_dir().ok_or_else(|| {
        Failure::Usage("there is no place for a configuration: neither XDG_CONFIG_HOME nor HOME is set".to_owned())
    })?;
    let path = dir.join(name);
    replace(&dir, &path, bytes).map_err(|source| Failure::File { path: path.display().to_string(), source })?;
    Ok(path)
}

/// Through a file beside it, so that a full disk leaves the old one as it is. Temporary files are made with mode 0600.
fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if !dir.exists() {
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    }
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_file_reads_and_shows() {
        let text = "current = \"home\"\n\n[defaults]\noutput = \"wide\"\ntimeout = \"10m\"\n\n[contexts.home]\nhosts = [\n    \"https://n1:7443\",\n    \"unix:/run/waifud/api.sock\",\n]\ntoken_file = \"/x/home.token\"\n";
        let settings = Settings::read(text).unwrap();
        assert_eq!(toml::to_string_pretty(&settings).unwrap(), text);
        assert_eq!(settings.defaults.output(), Some(Format::Wide));
        assert_eq!(settings.defaults.timeout(), Some(Duration::from_secs(600)));
        assert_eq!(Settings::read("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        expect![[r#"
            TOML parse error at line 2, column 1
              |
            2 | outptu = "wide"
              | ^^^^^^
            unknown field `outptu`, expected one of `output`, `timeout`, `user`"#]]
        .assert_eq(&Settings::read("[defaults]\noutptu = \"wide\"\n").unwrap_err());
        for bad in [
            "[defaults]\noutput = \"xml\"",
            "[defaults]\ntimeout = \"soon\"",
            "[contexts.a]\nhosts = [\"n1\"]",
            "[contexts.\"../a\"]\nhosts = []",
            "current = \"\"",
        ] {
            assert!(Settings::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_unknown_context_is_answered_with_the_nearest() {
        let settings = Settings::read("[contexts.home]\nhosts = []\n[contexts.work]\nhosts = []").unwrap();
        let told = |name: &str| settings.place(&name.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(told("hoem"), "there is no context hoem; did you mean home?");
        assert_eq!(told("elsewhere"), "there is no context elsewhere; there are home, work");
    }
}

//! Documents for guests out of the user's files: read byte for byte, and named as the user named them when the server has
//! something to say about one.
//!
//! In: paths. Out: what the API takes, and [`Sources`], which turns the server's `user_data: line 3: …` into the file's name and
//! line. It judges nothing of what the documents say, with one exception: a private key is never sent.

use crate::{
    endpoint::{read, read_text},
    exit::Failure,
    progress::Progress,
};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};
use waifud_api::{client::ClientError, problem::Problem, user_data::UserDataIn};
use waifud_model::cloud_init::{Datasource, Imds};

/// What stdin is called in messages.
const STDIN: &str = "stdin";

/// The words of `--datasource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DatasourceArg {
    /// cloud-init's own, for every image with cloud-init
    #[value(name = "no_cloud", aliases = ["nocloud", "no-cloud"])]
    NoCloud,
    /// Amazon EC2, for images made for it
    #[value(name = "ec2")]
    Ec2,
    /// OpenStack, for images made for it
    #[value(name = "open_stack", aliases = ["openstack", "open-stack"])]
    OpenStack,
}

impl From<DatasourceArg> for Datasource {
    fn from(arg: DatasourceArg) -> Self {
        match arg {
            DatasourceArg::NoCloud => Self::NoCloud,
            DatasourceArg::Ec2 => Self::Ec2,
            DatasourceArg::OpenStack => Self::OpenStack,
        }
    }
}

/// The words of `--imds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ImdsArg {
    /// To plain requests too
    Any,
    /// Only to requests with a session token (IMDSv2)
    V2,
}

impl From<ImdsArg> for Imds {
    fn from(arg: ImdsArg) -> Self {
        match arg {
            ImdsArg::Any => Self::Any,
            ImdsArg::V2 => Self::V2,
        }
    }
}

/// Which document of the API came from where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources(Vec<(&'static str, String)>);

impl Sources {
    /// Reads a document, and keeps in mind where `field` came from. `-` is stdin.
    pub(crate) fn read(&mut self, field: &'static str, path: &Path) -> Result<UserDataIn, Failure> {
        if is_stdin(path) && self.0.iter().any(|(_, source)| source == STDIN) {
            return Err(Failure::Usage("only one document can be read from stdin".to_owned()));
        }
        let document = document(path)?;
        self.note(field, shown(path));
        Ok(document)
    }

    /// `field` came from `shown`.
    pub(crate) fn note(&mut self, field: &'static str, shown: String) {
        self.0.push((field, shown));
    }

    /// The server's words about a document, with the name of its file before them.
    pub(crate) fn name(&self, words: &str) -> String {
        // Fields are spelt as in JSON; in sentences also as people write them.
        let after = |field: &str| {
            let rest = words.strip_prefix(field).or_else(|| words.strip_prefix(&*field.replace('_', "-")))?;
            rest.strip_prefix([':', ',']).map(str::trim_start)
        };
        let named = self.0.iter().find_map(|(field, file)| after(field).map(|rest| format!("{file}: {rest}")));
        named.unwrap_or_else(|| words.to_owned())
    }

    /// The refusal with files' names where the server named fields.
    pub(crate) fn blame(&self, failure: Failure) -> Failure {
        let Failure::Client(ClientError::Problem(mut problem)) = failure else { return failure };
        self.blame_problem(&mut problem);
        Failure::Client(ClientError::Problem(problem))
    }

    fn blame_problem(&self, problem: &mut Problem) {
        problem.detail = self.name(&problem.detail);
        for error in &mut problem.errors {
            if let Some((_, file)) = self.0.iter().find(|(field, _)| *field == error.field) {
                error.field.clone_from(file);
            }
        }
        // The one thing that is wrong with a document is often said twice: once for people, once for programs.
        let detail = &problem.detail;
        problem.errors.retain(|error| *detail != format!("{}: {}", error.field, error.message));
    }

    /// Says what the server finds odd.
    pub(crate) fn warn(&self, progress: &Progress, warnings: &[String]) {
        for warning in warnings {
            progress.say(&format!("warning: {}", self.name(warning)));
        }
    }
}

fn shown(path: &Path) -> String {
    if is_stdin(path) { STDIN.to_owned() } else { path.display().to_string() }
}

/// Does this path mean stdin?
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn document(path: &Path) -> Result<UserDataIn, Failure> {
    let bytes = if is_stdin(path) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|source| Failure::Io { what: "stdin", source })?;
        bytes
    } else {
        read(path)?
    };
    UserDataIn::new(bytes).map_err(|e| Failure::Usage(format!("{}: {e}", shown(path))))
}

/// The OpenSSH public keys in these files.
pub(crate) fn ssh_keys(paths: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut keys = Vec::new();
    for path in paths {
        let text = read_text(path)?;
        // The mistake that must not be made for the user: sending a private key to a cluster.
        if text.contains("PRIVATE KEY") {
            let shown = path.display();
            return Err(Failure::Usage(format!("{shown} is a private key; the public one is probably {shown}.pub")));
        }
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        keys.extend(lines.map(str::to_owned));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use waifud_api::problem::ProblemCode;

    #[test]
    fn a_private_key_stays_here() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        assert!(ssh_keys(&[file.path().to_owned()]).is_err());
        std::fs::write(file.path(), "# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n").unwrap();
        assert_eq!(ssh_keys(&[file.path().to_owned()]).unwrap(), ["ssh-ed25519 AAAA me", "ssh-rsa BBBB you"]);
    }

    #[test]
    fn the_server_s_words_are_about_the_user_s_file() {
        let mut sources = Sources::default();
        sources.note("user_data", "web.yaml".to_owned());
        sources.note("network_config", "stdin".to_owned());
        for (words, named) in [
            ("user_data: line 3: it is odd", "web.yaml: line 3: it is odd"),
            ("user-data, line 3: it is odd", "web.yaml: line 3: it is odd"),
            ("network_config: line 1: it is odd", "stdin: line 1: it is odd"),
            ("user_data_x: line 3", "user_data_x: line 3"),
            ("no name", "no name"),
        ] {
            assert_eq!(sources.name(words), named);
        }
        let problem =
            Problem::new(ProblemCode::Invalid, "the documents are not valid").with_field("user_data", "line 3");
        let blamed = sources.blame(Failure::Client(ClientError::Problem(Box::new(problem))));
        assert!(crate::exit::render(&blamed, false).contains("  web.yaml: line 3"));
        let twice =
            Problem::new(ProblemCode::Invalid, "user_data: line 3: no YAML").with_field("user_data", "line 3: no YAML");
        let blamed = sources.blame(Failure::Client(ClientError::Problem(Box::new(twice))));
        assert_eq!(crate::exit::render(&blamed, false), "error: web.yaml: line 3: no YAML [invalid]\n");
    }

    #[test]
    fn words_of_options_are_those_of_the_api() {
        for (value, word) in Datasource::ALL {
            assert_eq!(Datasource::from(DatasourceArg::from_str(word, false).unwrap()), *value);
        }
        assert_eq!(DatasourceArg::from_str("openstack", false), Ok(DatasourceArg::OpenStack));
        for (value, word) in Imds::ALL {
            assert_eq!(Imds::from(ImdsArg::from_str(word, false).unwrap()), *value);
        }
    }
}

//! Reads the configuration file and hands it to [`parse`]. The only place in this room that touches the disk.

use super::{
    Config, ConfigError,
    parse::{Given, parse},
};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Where the file is looked for. It need not be there.
pub const DEFAULT_FILE: &str = "/etc/waifud/waifud.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file that was asked for cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are mistakes in it; all of them.
    #[error("{}", Lines(.0))]
    Wrong(Vec<ConfigError>),
}

struct Lines<'a>(&'a [ConfigError]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// Reads `file`, or the default one if that is there, and puts variables and flags over it.
///
/// # Errors
/// The file cannot be read, or something is wrong with what was given: then everything that is wrong.
pub fn load(file: Option<&Path>, variables: Vec<Given>, flags: Vec<Given>) -> Result<Config, LoadError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(LoadError::File { path: path.to_owned(), source }),
    };
    parse(path, &text, variables, flags).map_err(LoadError::Wrong)
}

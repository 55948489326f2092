//! Where the API is and as whom to speak: from options, else the environment, else the local socket.

use crate::{cli::Consistency, cli::Global, exit::Failure};
use std::path::Path;
use waifud_api::client::{Client, Config, Endpoint};

/// Makes the client that the options describe. Connects nowhere yet.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let endpoints = match global.host.as_deref() {
        None | Some("") => vec![Endpoint::local()],
        Some(list) => Endpoint::parse_list(list).map_err(|e| Failure::Usage(e.to_string()))?,
    };
    let mut config = Config::new(endpoints);
    config.linearizable = global.consistency == Consistency::Linearizable;
    config.token = match (&global.token_file, std::env::var("WAIFU_TOKEN")) {
        (Some(file), _) => Some(read_text(file)?.trim().to_owned()),
        (None, Ok(token)) if !token.trim().is_empty() => Some(token.trim().to_owned()),
        (None, _) => None,
    };
    config.ca_pem = global.ca_file.as_deref().map(read).transpose()?;
    Ok(Client::new(config)?)
}

/// The bytes of a file of the user's.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::File { path: path.display().to_string(), source })
}

/// The text of a file of the user's.
pub(crate) fn read_text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.display().to_string(), source })
}

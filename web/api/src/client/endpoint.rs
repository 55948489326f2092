//! Where a node's API is: `unix:/run/waifud/api.sock` or `https://n1.lan:7443`.

use std::{fmt, path::PathBuf, str::FromStr};

/// The port of API and panel where none is given.
const DEFAULT_PORT: u16 = 7443;

/// Where a node's API is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A node's local socket.
    Unix(PathBuf),
    /// A node's address. Plain HTTP is not offered: it would carry the token in the clear.
    Https {
        /// A name, an IPv4 address, or an IPv6 address in brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an endpoint; write unix:/path/to/socket or https://host:port")]
pub struct EndpointError(String);

impl Endpoint {
    /// The socket of the node on this machine.
    #[must_use]
    pub fn local() -> Self {
        Self::Unix(PathBuf::from("/run/waifud/api.sock"))
    }

    /// Reads several endpoints, separated by commas.
    ///
    /// # Errors
    /// If one does not read, or there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, EndpointError> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let refuse = || EndpointError(text.chars().take(200).collect());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(refuse()) };
        }
        let authority = text.strip_prefix("https://").ok_or_else(refuse)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        // The URL parser checks the host; the port is read from the text, because the parser hides an explicit 443.
        let url = reqwest::Url::parse(&format!("https://{authority}")).map_err(|_| refuse())?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(refuse());
        }
        let host = url.host_str().ok_or_else(refuse)?.to_owned();
        let port = match url.port() {
            Some(0) => return Err(refuse()),
            Some(port) => port,
            None if authority.ends_with(":443") => 443,
            None => DEFAULT_PORT,
        };
        Ok(Self::Https { host, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Https { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_show() {
        for (text, canonical) in [
            ("unix:/run/waifud/api.sock", "unix:/run/waifud/api.sock"),
            ("https://n1", "https://n1:7443"),
            ("https://n1/", "https://n1:7443"),
            ("https://10.0.0.1:443", "https://10.0.0.1:443"),
            ("https://[fd00::1]:8443", "https://[fd00::1]:8443"),
            ("https://[fd00::1]", "https://[fd00::1]:7443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), canonical);
        }
        for bad in [
            "",
            "n1",
            "http://n1",
            "unix:api.sock",
            "https://",
            "https://n1/api",
            "https://me@n1",
            "https://n1:0",
            "https://n1?x",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        assert_eq!(Endpoint::parse_list("unix:/a, https://n1").unwrap().len(), 2);
        assert!(Endpoint::parse_list("unix:/a,").is_err());
    }
}

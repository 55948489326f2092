//! How calls fail, with what each endpoint said.

use super::Endpoint;
use crate::{exit::Exit, problem::Problem};
use std::{error::Error, fmt, io, path::PathBuf};

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No endpoint was given.
    #[error("no endpoint is given")]
    NoEndpoint,
    /// The token cannot stand in a header.
    #[error("the token has characters that no token has")]
    Token,
    /// There is no certificate in the PEM text.
    #[error("the CA file has no PEM certificate that reads: {0}")]
    Ca(String),
    /// The HTTP machinery did not start.
    #[error("HTTPS cannot be set up: {0}")]
    Http(String),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, or failed, and said why.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
    /// No endpoint could be reached; nothing was done.
    #[error("no endpoint answers: {}", Listed(.0))]
    Unreachable(Vec<Refusal>),
    /// The request was sent and not answered: it may or may not have been done.
    #[error("the request was sent but not answered, so it may or may not have been done: {}", Listed(.0))]
    Unanswered(Vec<Refusal>),
    /// The answer is not one of this API.
    #[error("{endpoint} does not speak this API: {what}")]
    Protocol {
        /// Who answered.
        endpoint: Endpoint,
        /// What is wrong with it.
        what: String,
    },
    /// A local file could not be read.
    #[error("{path:?} cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ClientError {
    /// The exit status of a command that ends with this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Problem(problem) => problem.exit(),
            Self::Unreachable(_) => Exit::Unreachable,
            Self::Unanswered(_) => Exit::TimedOut,
            Self::Protocol { .. } | Self::File { .. } => Exit::Failed,
        }
    }

    /// The server's own words, if it had any.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// Why one endpoint gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub endpoint: Endpoint,
    /// Its reason.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.reason)
    }
}

struct Listed<'a>(&'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, refusal) in self.0.iter().enumerate() {
            write!(f, "{}{refusal}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Why an endpoint is not spoken to whose CA is not known: the reason of its [`Refusal`].
pub const UNTRUSTED: &str = "its certificate is of a CA that is not known here";

/// The innermost cause of an HTTP error, in few words: the layers above it only repeat that a request was made.
pub(super) fn plain(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let words = match cause.downcast_ref::<io::Error>() {
        Some(io) => io_words(io),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None => cause.to_string(),
    };
    // rustls' word for it, which comes inside of errors of several types.
    if words.ends_with("UnknownIssuer") { UNTRUSTED.to_owned() } else { words }
}

/// What a person calls the usual failures of sockets.
fn io_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such socket; is waifud running here?".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; the local socket is for root and the group waifud".to_owned()
        }
        io::ErrorKind::ConnectionRefused => "connection refused; is waifud running there?".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

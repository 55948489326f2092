//! How a command failed: in words on stderr, and as an exit status.

use crate::output::{Terminal, Tone, printable};
use std::{fmt::Write as _, io, path::PathBuf};
use waifud_api::{
    client::{ClientError, Refusal, SetupError, UNTRUSTED},
    exit::Exit,
    problem::{FieldError, Problem},
};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The API did not, or could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The client cannot be made as the options say.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The command line cannot be right.
    #[error("{0}")]
    Usage(String),
    /// A file of the user's cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Something of this machine's failed.
    #[error("{what}: {source}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ended as it should not; `exit` says in which way, `hint` what can be done.
    #[error("{message}")]
    Ended {
        /// The exit status.
        exit: Exit,
        /// What happened.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// It failed with a text in hand that somebody wrote, which is kept.
    #[error("{cause}")]
    Kept {
        /// Where the text is.
        path: PathBuf,
        /// What can be done with it.
        again: String,
        /// Why it came to nothing.
        cause: Box<Failure>,
    },
    /// Nobody reads our output any more. Not worth a word.
    #[error("the output was closed")]
    Closed,
    /// Everything was said already.
    #[error("some of it failed")]
    Told(Exit),
}

impl Failure {
    pub(crate) fn ended(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Ended { exit, message: message.into(), hint: Some(hint.into()) }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            // A mistyped path is a mistyped argument; other troubles with files are not.
            Self::File { source, .. } | Self::Client(ClientError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Exit::Usage
            }
            Self::Client(error) => error.exit(),
            Self::Setup(SetupError::Http(_)) => Exit::Failed,
            Self::Setup(_) | Self::Usage(_) => Exit::Usage,
            Self::File { .. } | Self::Io { .. } => Exit::Failed,
            Self::Ended { exit, .. } | Self::Told(exit) => *exit,
            Self::Kept { cause, .. } => cause.exit(),
            Self::Closed => Exit::Done,
        }
    }

    /// The server's own words, if it was the server that refused.
    pub(crate) fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Client(error) => error.problem(),
            _ => None,
        }
    }
}

/// Says on stderr what went wrong, and gives the exit status.
pub(crate) fn report(failure: &Failure, terminal: Terminal) -> Exit {
    if !matches!(failure, Failure::Told(_) | Failure::Closed) {
        crate::output::stderr(&render(failure, terminal.colour_err));
    }
    failure.exit()
}

/// The words: cause, evidence, what to do.
pub(crate) fn render(failure: &Failure, colour: bool) -> String {
    if let Failure::Kept { path, again, cause } = failure {
        let (path, again) = (printable(&path.display().to_string()), printable(again));
        return format!("{}your text is kept in {path}\ngo on with: {again}\n", render(cause, colour));
    }
    // A wait that ended is no failure and must not look like one: it says what goes on and how to follow it.
    if let Failure::Ended { exit: Exit::TimedOut, message, hint } = failure {
        let follow = hint.as_ref().map(|hint| format!("follow: {}\n", printable(hint))).unwrap_or_default();
        return format!("{}\n{follow}", printable(message));
    }
    let mut text = format!("{} ", Tone::Bad.paint("error:", colour));
    match failure {
        Failure::Client(ClientError::Problem(problem)) => render_problem(&mut text, problem),
        Failure::Client(ClientError::Unreachable(refusals)) => {
            text.push_str("no endpoint answers [unreachable]\n");
            render_refusals(&mut text, refusals);
            text.push_str(if refusals.iter().any(|refusal| refusal.reason == UNTRUSTED) {
                "try: waifuctl login https://host:7443, which meets the cluster's CA; or --ca-file, with a file of it\n"
            } else {
                "try: --host, or WAIFU_HOST, with a node that is up: unix:/run/waifud/api.sock or https://host:7443\n"
            });
        }
        Failure::Client(ClientError::Unanswered(refusals)) => {
            text.push_str("the request was sent but not answered; it may or may not have been done [unanswered]\n");
            render_refusals(&mut text, refusals);
            text.push_str("try: look whether it was done before you ask again\n");
        }
        Failure::Client(ClientError::File { path, source }) => {
            let _ = writeln!(text, "{}: {}", path.display(), without_number(&source.to_string()));
        }
        Failure::Ended { message, hint, .. } => {
            let _ = writeln!(text, "{}", printable(message));
            if let Some(hint) = hint {
                let _ = writeln!(text, "try: {}", printable(hint));
            }
        }
        other => {
            let _ = writeln!(text, "{}", printable(without_number(&other.to_string())));
        }
    }
    text
}

/// The system's words without its number for them: `No such file or directory (os error 2)`.
pub(crate) fn without_number(text: &str) -> &str {
    text.rfind(" (os error ").filter(|_| text.ends_with(')')).map_or(text, |at| &text[..at])
}

/// What is wrong, without the reasons of the nodes, which stand below it one by one.
pub(crate) fn cause(problem: &Problem) -> &str {
    let reasons: Vec<_> = problem.nodes.iter().map(|node| format!("{} {}", node.node, node.reason)).collect();
    let listed = format!(": {}", reasons.join("; "));
    problem.detail.strip_suffix(&listed).filter(|_| !reasons.is_empty()).unwrap_or(&problem.detail)
}

/// The fields that were refused, but for what the cause says already.
pub(crate) fn told_apart(problem: &Problem) -> impl Iterator<Item = &FieldError> {
    problem.errors.iter().filter(|error| !problem.detail.contains(&format!("{}: {}", error.field, error.message)))
}

fn render_problem(text: &mut String, problem: &Problem) {
    let _ = writeln!(text, "{} [{}]", printable(cause(problem)), problem.code);
    for error in told_apart(problem) {
        let _ = writeln!(text, "  {}: {}", printable(&error.field), printable(&error.message));
    }
    let width = problem.nodes.iter().map(|n| n.node.as_str().len()).max().unwrap_or(0);
    for node in &problem.nodes {
        let _ = writeln!(text, "  {:width$}  {}", node.node, printable(&node.reason));
    }
    if let Some(remedy) = &problem.remedy {
        let _ = writeln!(text, "try: {}", printable(remedy));
    }
    // Only a fault of the server's own is looked up in its log.
    if let (500, Some(id)) = (problem.status, &problem.request_id) {
        let _ = writeln!(text, "the server's log has more under request {}", printable(id));
    }
}

fn render_refusals(text: &mut String, refusals: &[Refusal]) {
    for refusal in refusals {
        let _ = writeln!(text, "  {}  {}", refusal.endpoint, printable(&refusal.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_api::problem::ProblemCode;
    use waifud_model::name::NodeName;

    #[test]
    fn a_refusal_has_cause_evidence_and_remedy() {
        let problem = Problem::new(ProblemCode::NoNodeFits, "no node has 64 GiB of memory free\u{1b}[31m")
            .with_remedy("waifuctl node list")
            .with_field("memory", "at most 31 GiB")
            .with_node(NodeName::new("n1").unwrap(), "cordoned")
            .with_node(NodeName::new("host-10").unwrap(), "12 GiB free");
        let failure = Failure::Client(ClientError::Problem(Box::new(problem)));
        assert_eq!(failure.exit(), Exit::Failed);
        expect![[r#"
            error: no node has 64 GiB of memory free [31m [no_node_fits]
              memory: at most 31 GiB
              n1       cordoned
              host-10  12 GiB free
            try: waifuctl node list
        "#]]
        .assert_eq(&render(&failure, false));
    }

    #[test]
    fn nothing_is_told_twice() {
        let problem = Problem::new(ProblemCode::NoNodeFits, "no node can take the VM: n1 is full; n2 is cordoned")
            .with_node(NodeName::new("n1").unwrap(), "is full")
            .with_node(NodeName::new("n2").unwrap(), "is cordoned");
        expect![[r#"
            error: no node can take the VM [no_node_fits]
              n1  is full
              n2  is cordoned
        "#]]
        .assert_eq(&render(&Failure::Client(ClientError::Problem(Box::new(problem))), false));
        let problem = Problem::new(ProblemCode::Invalid, "disk: too small").with_field("disk", "too small");
        expect![[r#"
            error: disk: too small [invalid]
        "#]]
        .assert_eq(&render(&Failure::Client(ClientError::Problem(Box::new(problem))), false));
        let source = io::Error::from_raw_os_error(2);
        let missing = Failure::File { path: "x.yaml".to_owned(), source };
        assert_eq!(render(&missing, false), "error: x.yaml: No such file or directory\n");
    }

    #[test]
    fn a_ca_that_is_not_known_is_met_by_login() {
        let reason = UNTRUSTED.to_owned();
        let refusal = Refusal { endpoint: "https://n1".parse().unwrap(), reason };
        expect![[r#"
            error: no endpoint answers [unreachable]
              https://n1:7443  its certificate is of a CA that is not known here
            try: waifuctl login https://host:7443, which meets the cluster's CA; or --ca-file, with a file of it
        "#]]
        .assert_eq(&render(&Failure::Client(ClientError::Unreachable(vec![refusal])), false));
    }

    #[test]
    fn absent_endpoints_each_say_why() {
        let refusal =
            |endpoint: &str, reason: &str| Refusal { endpoint: endpoint.parse().unwrap(), reason: reason.to_owned() };
        let failure = Failure::Client(ClientError::Unreachable(vec![
            refusal("unix:/run/waifud/api.sock", "there is no such socket; is waifud running here?"),
            refusal("https://n1", "connection refused; is waifud running there?"),
        ]));
        assert_eq!(failure.exit(), Exit::Unreachable);
        expect![[r#"
            error: no endpoint answers [unreachable]
              unix:/run/waifud/api.sock  there is no such socket; is waifud running here?
              https://n1:7443  connection refused; is waifud running there?
            try: --host, or WAIFU_HOST, with a node that is up: unix:/run/waifud/api.sock or https://host:7443
        "#]]
        .assert_eq(&render(&failure, false));
    }
}

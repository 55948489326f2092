//! Failures, and the words they are told in.
//!
//! In: whatever can go wrong with a request, as a [`Failure`]. Out: a problem document (RFC 9457) with a stable code, what is
//! wrong here and now with names instead of ids, the evidence, and what to do next. Internal detail goes to the log, never
//! into an answer. Nothing here decides whether a request fails.

mod console;
mod import;
mod objects;
mod refusal;
mod reject;
mod request;

use crate::{
    conditional::Revision,
    console::ConsoleError,
    ports::{ImportError, MintError},
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use std::{collections::BTreeMap, time::Duration};
use waifud_api::{
    headers::PROBLEM_JSON,
    problem::{Problem, ProblemCode},
};
use waifud_consensus::{ProposeError, ReadError};
use waifud_model::{
    digest::Blake3,
    ids::{NodeId, VmId},
    name::{BridgeName, NodeName, TemplateName, VmName},
    placement::Refusal,
    reject::Reject,
    size::ByteSize,
    token::Role,
};

pub(crate) use objects::Missing;

/// Everything that ends a request without a success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody knows who asks.
    #[error("nobody knows who asks")]
    Unauthenticated,
    /// The role is not enough.
    #[error("the role {role} is not {needed}")]
    NotAllowed { needed: Role, role: Role },
    /// The path leads nowhere.
    #[error("no route {0}")]
    NoSuchPath(String),
    /// The path does not take this method.
    #[error("method {0} is not allowed")]
    Method(String),
    /// The body's media type is not taken here.
    #[error("not {wanted}")]
    MediaType { wanted: &'static str },
    /// The body is too large.
    #[error("the body has more than {limit}")]
    TooLarge { limit: ByteSize },
    /// The body broke off.
    #[error("the body broke off")]
    BrokenOff,
    /// The body does not read, or a field of it does not.
    #[error("bad body at {field:?}: {why}")]
    Body { field: Option<String>, syntax: bool, why: String },
    /// The query does not read.
    #[error("bad query: {0}")]
    Query(String),
    /// A part of the path does not read.
    #[error("bad path: {0}")]
    Path(String),
    /// A header does not read.
    #[error("bad header {name}: {why}")]
    Header { name: &'static str, why: String },
    /// A field is outside its limits.
    #[error("bad field {field}: {why}")]
    Field { field: &'static str, why: String },
    /// A document for cloud-init cannot be right. What stands in it is never repeated.
    #[error("bad document {field}: {why}")]
    Document { field: &'static str, why: String, remedy: &'static str },
    /// The request was answered with an error by something that knows no problems.
    #[error("status {status}: {text}")]
    Plain { status: StatusCode, text: String },
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The body did not come in time.
    #[error("no body within {0:?}")]
    TooSlow(Duration),
    /// Its sender asks too often.
    #[error("too many requests, the next in {0:?}")]
    TooMany(Duration),
    /// A handler panicked.
    #[error("a handler panicked")]
    Panicked,
    /// The object is not the one that the request was made for any more.
    #[error("it is {now}, not {seen}")]
    Changed { seen: String, now: Revision },
    /// There is no such object.
    #[error("no such object: {0:?}")]
    Missing(Missing),
    /// More than one version begins like this.
    #[error("{prefix} is the beginning of {count} versions of {template}")]
    Ambiguous { template: TemplateName, prefix: String, count: usize },
    /// Placement found no node.
    #[error("no node fits: {0}")]
    Refused(Refusal),
    /// The cluster refused the command.
    #[error("rejected: {reject}")]
    Rejected { reject: Reject, names: Box<Names> },
    /// The command did not get through.
    #[error("not proposed")]
    Propose(#[source] ProposeError),
    /// A linearizable read did not get through.
    #[error("no linearizable read")]
    Linearize(#[source] waifud_consensus::LinearizeError),
    /// The local replica has not caught up with what the client has seen.
    #[error("index {wanted} is not applied, {applied} is")]
    Behind { wanted: u64, applied: u64 },
    /// The local replica cannot be read.
    #[error("the state cannot be read")]
    Read(#[source] ReadError),
    /// The state has no digest now.
    #[error("the digest of the state cannot be computed")]
    Digest(#[source] ReadError),
    /// The cluster is not initialised.
    #[error("not initialised")]
    NotInitialised,
    /// An image was not taken in.
    #[error("the image was not taken in")]
    Import(#[source] ImportError),
    /// No join token could be made.
    #[error("no join token was made")]
    Mint(#[source] MintError),
    /// The secret of a token was shown once already.
    #[error("the secret was shown already")]
    SecretShown,
    /// The path is for WebSockets.
    #[error("no WebSocket is asked for")]
    NoWebSocket,
    /// A page of another web site asks.
    #[error("asked by a page of another site")]
    CrossSite,
    /// Only the owner can do it, and it is silent.
    #[error("{node}, the owner of {vm}, is silent")]
    OwnerSilent { vm: VmName, node: NodeName },
    /// The console of a guest cannot be had.
    #[error("no console of {vm}")]
    Console {
        vm: VmName,
        #[source]
        error: ConsoleError,
    },
    /// Only another node can answer, and it does not.
    #[error("{node} does not answer: {why}")]
    Silent { node: NodeName, why: String },
    /// Something that cannot be, unless this program is wrong.
    #[error("{0}")]
    Internal(&'static str),
}

/// The names of what a failure is about: people never see ids where there is a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Names {
    /// Of nodes.
    pub(crate) nodes: BTreeMap<NodeId, NodeName>,
    /// Of VMs.
    pub(crate) vms: BTreeMap<VmId, VmName>,
    /// Of the bridges that the node lets VMs on.
    pub(crate) bridges: Vec<BridgeName>,
}

impl Names {
    /// The node's name, or its id once it is gone.
    pub(crate) fn node(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }

    /// The VM's name, or its id once it is gone.
    pub(crate) fn vm(&self, id: VmId) -> String {
        self.vms.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl Failure {
    /// A reject that no id in it has to be named for.
    pub(crate) fn rejected(reject: Reject) -> Self {
        Self::Rejected { reject, names: Box::default() }
    }

    /// The failure in words.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Missing(missing) => objects::missing(missing),
            Self::Ambiguous { template, prefix, count } => objects::ambiguous(template, prefix, *count),
            Self::Refused(refusal) => refusal::words(refusal),
            Self::Rejected { reject, names } => reject::words(reject, names),
            Self::Propose(error) => propose(error),
            Self::Linearize(error) => linearize(error),
            Self::Import(error) => import::words(error),
            Self::Silent { node, why } => {
                Problem::new(ProblemCode::NodeUnreachable, format!("{node} does not answer: {why}"))
                    .with_remedy("waifuctl cluster status; on the node itself: systemctl status waifud")
            }
            Self::Behind { wanted, applied } => behind(*wanted, *applied),
            Self::NoWebSocket => console::no_websocket(),
            Self::CrossSite => console::cross_site(),
            Self::OwnerSilent { vm, node } => console::owner_silent(vm, node),
            Self::Console { vm, error } => console::words(vm, error),
            Self::NotInitialised => Problem::new(ProblemCode::NotInitialised, "this node is in no cluster yet")
                .with_remedy("waifud init, or waifud join TOKEN"),
            Self::SecretShown => Problem::new(
                ProblemCode::KeyReused,
                "an earlier request with this Idempotency-Key made the token, and its secret is shown only once",
            )
            .with_remedy("make another with a fresh key, and revoke the one whose secret nobody has"),
            Self::Read(_) | Self::Digest(_) | Self::Mint(_) | Self::Internal(_) | Self::Panicked => {
                Problem::new(ProblemCode::Internal, "this node could not answer, because of a fault of its own")
                    .with_remedy("look for the request id in the log of the node, or ask another node")
            }
            other => request::words(other),
        }
    }
}

fn propose(error: &ProposeError) -> Problem {
    match error {
        // Names were not looked up: whoever proposes turns a reject into `Rejected`.
        ProposeError::Rejected { reject, .. } => reject::words(reject, &Names::default()),
        ProposeError::NoLeaderYet => no_leader(),
        ProposeError::NoQuorum { alive, voters } => no_quorum(*alive, *voters),
        ProposeError::Unknown => Problem::new(
            ProblemCode::OutcomeUnknown,
            "the connection to the leader broke before it answered: the change may have been made or not",
        )
        .with_remedy("send the same request again with the same Idempotency-Key: it is done once"),
        ProposeError::ClockSkew { offset_ms } => Problem::new(
            ProblemCode::ClockSkew,
            format!(
                "the leader's clock is {} s off the others, so it takes no changes",
                offset_ms.unsigned_abs() / 1000
            ),
        )
        .with_remedy("set the clock of the leader (waifuctl cluster status names it), for example with chrony"),
        ProposeError::Halted(why) => halted(why),
    }
}

fn linearize(error: &waifud_consensus::LinearizeError) -> Problem {
    use waifud_consensus::LinearizeError as E;
    match error {
        E::NoLeaderYet => no_leader(),
        E::NoQuorum { alive, voters } => no_quorum(*alive, *voters),
        E::Behind { index, applied } => behind(*index, *applied),
        E::Halted(why) => halted(why),
    }
}

fn no_leader() -> Problem {
    Problem::new(ProblemCode::NoLeaderYet, "no leader was found within a second; an election is probably under way")
        .with_remedy("send the same request again with the same Idempotency-Key")
}

/// This node's own trouble: its VMs run on, and other nodes answer.
fn halted(why: &str) -> Problem {
    Problem::new(ProblemCode::Halted, format!("this node has stopped taking part, and its VMs run on: {why}"))
        .with_remedy("ask another node; when the cause is mended, restart waifud on this one")
}

fn behind(wanted: u64, applied: u64) -> Problem {
    Problem::new(
        ProblemCode::Busy,
        format!("this node has applied index {applied} so far, and the request wants at least {wanted}"),
    )
    .with_remedy("try again, or ask another node")
}

fn no_quorum(alive: u32, voters: u32) -> Problem {
    let needed = voters / 2 + 1;
    Problem::new(
        ProblemCode::NoQuorum,
        format!(
            "{alive} of {voters} voters are heard, and {needed} are needed to agree on a change. VMs run on, and everything \
             can be looked at on any node; creating, changing and deleting must wait"
        ),
    )
    .with_remedy("bring a missing voter back; waifuctl cluster status names them")
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let problem = self.problem();
        if problem.status >= 500 {
            let error = &self as &dyn std::error::Error;
            tracing::warn!(code = problem.code.as_str(), error, "request failed");
        }
        respond(problem)
    }
}

/// A problem as an answer.
pub(crate) fn respond(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let code = problem.code;
    let mut response = (status, Json(&problem)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if code.is_momentary() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if code == ProblemCode::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"waifud\""));
    }
    response.extensions_mut().insert(Told(Box::new(problem)));
    response
}

/// Left with an answer, so that the outermost layer can add the request's id.
#[derive(Debug, Clone)]
pub(crate) struct Told(pub(crate) Box<Problem>);

/// So many VMs.
pub(crate) fn vms(count: u32) -> String {
    if count == 1 { "1 VM".to_owned() } else { format!("{count} VMs") }
}

/// A digest as people read it.
fn short(version: &Blake3) -> String {
    format!("{}…", version.short())
}

//! Problems (RFC 9457): a stable code, a message for the person, the evidence, and what to do next.
//!
//! The same text reaches the API, the command line and the panel. Internal detail stays in the log, under `request_id`.

use crate::exit::Exit;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use waifud_model::name::NodeName;

/// What an answer that is not a success holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem: [`ProblemCode::uri`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words; the same for all problems of a code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here and now.
    pub detail: String,
    /// The kind, for programs.
    pub code: ProblemCode,
    /// What to do next, ready to be typed where it is a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Where to find more in the log of the node that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What is wrong with each field of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What each node has to do with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeEvidence>,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field, as in the request.
    pub field: String,
    /// What was expected.
    pub message: String,
}

/// One node's part in a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeEvidence {
    /// Which.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// Its reason.
    pub reason: String,
}

impl Problem {
    /// A problem of this kind, without remedy or evidence.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: code.uri(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            remedy: None,
            request_id: None,
            errors: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// With what to do next.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With one more wrong field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// With one more node's part.
    #[must_use]
    pub fn with_node(mut self, node: NodeName, reason: impl Into<String>) -> Self {
        self.nodes.push(NodeEvidence { node, reason: reason.into() });
        self
    }

    /// The exit status of a command that ends with this. A code of a newer server is judged by its HTTP status.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match (self.code, self.status) {
            (ProblemCode::Other, 400) => Exit::Usage,
            (ProblemCode::Other, 401 | 403) => Exit::NotAllowed,
            (ProblemCode::Other, 404) => Exit::NotFound,
            (ProblemCode::Other, 409 | 412) => Exit::Conflict,
            (code, _) => code.exit(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

/// The kinds of problems. Closed and stable: programs branch on these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// The request does not read, or a field is outside its limits; `errors` names the fields.
    Invalid,
    /// The body is of a media type that is not taken here.
    UnsupportedMedia,
    /// The body is larger than is taken here.
    TooLarge,
    /// The path or method leads nowhere.
    NoSuchEndpoint,
    /// No token, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// The caller's role is not enough.
    NotAllowed,
    /// There is no such VM.
    NoSuchVm,
    /// There is no such template.
    NoSuchTemplate,
    /// The template has no such version.
    NoSuchVersion,
    /// There is no such node.
    NoSuchNode,
    /// There is no such token.
    NoSuchToken,
    /// There is no such machine among those that are no nodes and may reach the guests.
    NoSuchPeer,
    /// The name is taken.
    NameTaken,
    /// The template has this version already.
    VersionExists,
    /// VMs stand on it.
    InUse,
    /// The VM is being deleted.
    BeingDeleted,
    /// It is protected from being deleted.
    Protected,
    /// It is not to run, or does not.
    NotRunning,
    /// It was changed in between.
    Stale,
    /// The idempotency key was used for a different request.
    KeyReused,
    /// No node can take the VM; `nodes` says why not.
    NoNodeFits,
    /// No address or subnet is left.
    Exhausted,
    /// The last node cannot be removed.
    LastNode,
    /// The bytes are not an image that may be booted.
    BadImage,
    /// The bytes do not have the checksum that was given.
    ChecksumMismatch,
    /// The download did not succeed.
    DownloadFailed,
    /// The URL leads where downloads may not go.
    UrlNotAllowed,
    /// The node's disk is full.
    DiskFull,
    /// The cluster has no quorum: it cannot take changes until enough voters are back.
    NoQuorum,
    /// There is no leader at this moment; the same request, with the same key, is to be sent again.
    NoLeaderYet,
    /// It is not known whether the change was made; the same request, with the same key, is to be sent again.
    OutcomeUnknown,
    /// The node that must do it does not answer.
    NodeUnreachable,
    /// The answer took too long.
    TimedOut,
    /// The caller asks too often; the same request is to be sent again after `Retry-After`.
    #[serde(rename = "too_many_requests")]
    TooMany,
    /// The node has too much to do; the same request is to be sent again.
    Busy,
    /// The cluster's clocks differ too much for changes.
    ClockSkew,
    /// This node has stopped taking part, because its storage failed or it is older than the cluster.
    Halted,
    /// The node is not a member of a cluster yet.
    NotInitialised,
    /// A fault of the server; the log has more under `request_id`.
    Internal,
    /// A code of a newer server.
    #[serde(other)]
    Other,
}

impl ProblemCode {
    /// All that a server of this version sends.
    pub const ALL: [Self; 39] = [
        Self::Invalid,
        Self::UnsupportedMedia,
        Self::TooLarge,
        Self::NoSuchEndpoint,
        Self::Unauthenticated,
        Self::NotAllowed,
        Self::NoSuchVm,
        Self::NoSuchTemplate,
        Self::NoSuchVersion,
        Self::NoSuchNode,
        Self::NoSuchToken,
        Self::NoSuchPeer,
        Self::NameTaken,
        Self::VersionExists,
        Self::InUse,
        Self::BeingDeleted,
        Self::Protected,
        Self::NotRunning,
        Self::Stale,
        Self::KeyReused,
        Self::NoNodeFits,
        Self::Exhausted,
        Self::LastNode,
        Self::BadImage,
        Self::ChecksumMismatch,
        Self::DownloadFailed,
        Self::UrlNotAllowed,
        Self::DiskFull,
        Self::NoQuorum,
        Self::NoLeaderYet,
        Self::OutcomeUnknown,
        Self::NodeUnreachable,
        Self::TimedOut,
        Self::TooMany,
        Self::Busy,
        Self::ClockSkew,
        Self::Halted,
        Self::NotInitialised,
        Self::Internal,
    ];

    /// Everything fixed about a code, in one table: its word, HTTP status, exit status, and title.
    const fn facts(self) -> (&'static str, u16, Exit, &'static str) {
        match self {
            Self::Invalid => ("invalid", 400, Exit::Usage, "The request is not valid"),
            Self::UnsupportedMedia => ("unsupported_media", 415, Exit::Usage, "This media type is not taken here"),
            Self::TooLarge => ("too_large", 413, Exit::Failed, "The request is too large"),
            Self::NoSuchEndpoint => ("no_such_endpoint", 404, Exit::Failed, "There is nothing at this path"),
            Self::Unauthenticated => ("unauthenticated", 401, Exit::NotAllowed, "A valid token is needed"),
            Self::NotAllowed => ("not_allowed", 403, Exit::NotAllowed, "The role is not enough"),
            Self::NoSuchVm => ("no_such_vm", 404, Exit::NotFound, "There is no such VM"),
            Self::NoSuchTemplate => ("no_such_template", 404, Exit::NotFound, "There is no such template"),
            Self::NoSuchVersion => ("no_such_version", 404, Exit::NotFound, "The template has no such version"),
            Self::NoSuchNode => ("no_such_node", 404, Exit::NotFound, "There is no such node"),
            Self::NoSuchToken => ("no_such_token", 404, Exit::NotFound, "There is no such token"),
            Self::NoSuchPeer => ("no_such_peer", 404, Exit::NotFound, "There is no such peer"),
            Self::NameTaken => ("name_taken", 409, Exit::Conflict, "The name is taken"),
            Self::VersionExists => ("version_exists", 409, Exit::Conflict, "The template has this version already"),
            Self::InUse => ("in_use", 409, Exit::Conflict, "VMs stand on it"),
            Self::BeingDeleted => ("being_deleted", 409, Exit::Conflict, "It is being deleted"),
            Self::Protected => ("protected", 409, Exit::Failed, "It is protected"),
            Self::NotRunning => ("not_running", 409, Exit::Conflict, "It does not run"),
            Self::Stale => ("stale", 412, Exit::Conflict, "It was changed in between"),
            Self::KeyReused => ("key_reused", 422, Exit::Conflict, "The idempotency key was used for another request"),
            Self::NoNodeFits => ("no_node_fits", 409, Exit::Failed, "No node can take the VM"),
            Self::Exhausted => ("exhausted", 409, Exit::Failed, "No address is left"),
            Self::LastNode => ("last_node", 409, Exit::Failed, "The last node cannot be removed"),
            Self::BadImage => ("bad_image", 422, Exit::Failed, "This is not an image that may be booted"),
            Self::ChecksumMismatch => ("checksum_mismatch", 422, Exit::Failed, "The checksum does not match"),
            Self::DownloadFailed => ("download_failed", 502, Exit::Failed, "The download did not succeed"),
            Self::UrlNotAllowed => ("url_not_allowed", 422, Exit::Failed, "Downloads may not go there"),
            Self::DiskFull => ("disk_full", 507, Exit::Failed, "The node's disk is full"),
            Self::NoQuorum => ("no_quorum", 503, Exit::NoQuorum, "The cluster has no quorum"),
            Self::NoLeaderYet => ("no_leader_yet", 503, Exit::NoQuorum, "There is no leader at this moment"),
            Self::OutcomeUnknown => ("outcome_unknown", 504, Exit::TimedOut, "It is not known whether it was done"),
            Self::NodeUnreachable => ("node_unreachable", 503, Exit::Unreachable, "The node does not answer"),
            Self::TimedOut => ("timed_out", 504, Exit::TimedOut, "It took too long"),
            Self::TooMany => ("too_many_requests", 429, Exit::Failed, "Too many requests"),
            Self::Busy => ("busy", 503, Exit::Failed, "The node has too much to do"),
            Self::ClockSkew => ("clock_skew", 503, Exit::Failed, "The cluster's clocks differ too much"),
            Self::Halted => ("halted", 503, Exit::Failed, "This node has stopped taking part"),
            Self::NotInitialised => ("not_initialised", 503, Exit::Failed, "The node is in no cluster yet"),
            Self::Internal => ("internal", 500, Exit::Failed, "Something went wrong in the server"),
            Self::Other => ("other", 500, Exit::Failed, "Something this client does not know"),
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.facts().1
    }

    /// The exit status of a command that ends with this.
    #[must_use]
    pub const fn exit(self) -> Exit {
        self.facts().2
    }

    /// The kind in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().3
    }

    /// The URI of the kind, for `type`. A URN: it names, there is nothing to be fetched.
    #[must_use]
    pub fn uri(self) -> String {
        format!("urn:waifud:problem:{}", self.as_str())
    }

    /// True where the same request, with the same idempotency key, may succeed a moment later.
    #[must_use]
    pub const fn is_momentary(self) -> bool {
        matches!(self, Self::NoLeaderYet | Self::OutcomeUnknown | Self::TooMany | Self::Busy)
    }

    /// True where the node that must do it was not reached: one that has another way to it may be asked.
    #[must_use]
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Self::NodeUnreachable)
    }

    /// True where the trouble is this node's own and another node may well do it.
    #[must_use]
    pub const fn is_of_this_node(self) -> bool {
        matches!(self, Self::Halted | Self::NotInitialised)
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn codes_are_stable() {
        let table: String = ProblemCode::ALL
            .iter()
            .map(|code| {
                assert_eq!(serde_json::to_value(code).unwrap(), code.as_str(), "the table and serde agree");
                format!("{code:18} {} {}\n", code.status(), code.exit().code())
            })
            .collect();
        expect![[r#"
            invalid            400 2
            unsupported_media  415 2
            too_large          413 1
            no_such_endpoint   404 1
            unauthenticated    401 9
            not_allowed        403 9
            no_such_vm         404 3
            no_such_template   404 3
            no_such_version    404 3
            no_such_node       404 3
            no_such_token      404 3
            no_such_peer       404 3
            name_taken         409 7
            version_exists     409 7
            in_use             409 7
            being_deleted      409 7
            protected          409 1
            not_running        409 7
            stale              412 7
            key_reused         422 7
            no_node_fits       409 1
            exhausted          409 1
            last_node          409 1
            bad_image          422 1
            checksum_mismatch  422 1
            download_failed    502 1
            url_not_allowed    422 1
            disk_full          507 1
            no_quorum          503 4
            no_leader_yet      503 4
            outcome_unknown    504 6
            node_unreachable   503 5
            timed_out          504 6
            too_many_requests  429 1
            busy               503 1
            clock_skew         503 1
            halted             503 1
            not_initialised    503 1
            internal           500 1
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn a_problem_in_json() {
        let problem = Problem::new(ProblemCode::NoNodeFits, "no node has 64 GiB of memory free")
            .with_remedy("waifuctl node list")
            .with_field("memory", "at most 31 GiB")
            .with_node(NodeName::new("n1").unwrap(), "cordoned");
        expect![[r#"
            {
              "type": "urn:waifud:problem:no_node_fits",
              "title": "No node can take the VM",
              "status": 409,
              "detail": "no node has 64 GiB of memory free",
              "code": "no_node_fits",
              "remedy": "waifuctl node list",
              "errors": [
                {
                  "field": "memory",
                  "message": "at most 31 GiB"
                }
              ],
              "nodes": [
                {
                  "node": "n1",
                  "reason": "cordoned"
                }
              ]
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&problem).unwrap());
        let text = serde_json::to_string(&problem).unwrap();
        assert_eq!(serde_json::from_str::<Problem>(&text).unwrap(), problem);
    }

    #[test]
    fn a_code_of_a_newer_server_is_judged_by_its_status() {
        let text = r#"{"type":"urn:x","title":"t","status":404,"detail":"d","code":"no_such_snapshot"}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!((problem.code, problem.exit()), (ProblemCode::Other, Exit::NotFound));
    }
}

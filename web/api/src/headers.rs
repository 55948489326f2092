//! The names of the headers that mean something here beyond plain HTTP. Lower case, as HTTP/2 wants them.

/// Request: a text of the client's choice (1 to 128 visible ASCII characters); a repetition with the same key and body gets
/// the first one's answer, for 24 hours. The same key with another body is [`KeyReused`](crate::problem::ProblemCode::KeyReused).
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Answer to a write: its index in the log. Sent back with later requests it is a minimum: the node answers from a state
/// that has at least this much applied, or waits for it (at most one second). Clients so read their own writes on any node.
pub const INDEX: &str = "waifu-index";

/// Answer: how many milliseconds ago the answering node last knew that it was up to date with a quorum.
pub const AGE: &str = "waifu-age";

/// Answer: the log index the answering node had applied.
pub const APPLIED: &str = "waifu-applied";

/// Answer: present when the data may be out of date; the value says why, in one word (`no_quorum`, `lagging`).
pub const STALE: &str = "waifu-stale";

/// Answer: what whoever asked should know although it was done, as a sentence.
pub const WARNING: &str = "waifu-warning";

/// Answer: what the next part of a list comes after; not there at its end.
pub const NEXT: &str = "waifu-next";

/// Answer: the name of the node that answered.
pub const NODE: &str = "waifu-node";

/// Request: `local` (the default) or `linearizable`: the answer holds every write acknowledged before the request began.
pub const CONSISTENCY: &str = "waifu-consistency";

/// Both ways: names one request in answers, problems and logs.
pub const REQUEST_ID: &str = "x-request-id";

/// Answer: the generation of the VM, or of the cluster's cloud-init defaults, quoted: `"3"`. Observations never change it.
pub const ETAG: &str = "etag";

/// Request: refuse with [`Stale`](crate::problem::ProblemCode::Stale) unless it is at this generation.
pub const IF_MATCH: &str = "if-match";

/// Request for the event stream: the id of the last event received.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// The media type of a problem (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The media type of the event stream.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The media type of a template upload.
pub const OCTET_STREAM: &str = "application/octet-stream";

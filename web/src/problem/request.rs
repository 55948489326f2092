//! Words for requests that cannot be understood or are not allowed.

use super::Failure;
use http::StatusCode;
use waifud_api::problem::{Problem, ProblemCode};

/// How many characters of a client's own text are said back to it.
const ECHO: usize = 200;

/// Words for a failure of the request itself.
pub(super) fn words(failure: &Failure) -> Problem {
    match failure {
        Failure::Unauthenticated => Problem::new(
            ProblemCode::Unauthenticated,
            "the request carries no token, or one that is unknown, expired or revoked",
        )
        .with_remedy("waifuctl token create makes one on a node; give it to waifuctl login or --token-file, or send Authorization: Bearer TOKEN"),
        Failure::NotAllowed { needed, role } => {
            Problem::new(ProblemCode::NotAllowed, format!("this needs the role {needed}, and the caller is {role}"))
                .with_remedy(format!("use a token of role {needed}: waifuctl token create --role {needed}"))
        }
        Failure::NoSuchPath(path) => {
            Problem::new(ProblemCode::NoSuchEndpoint, format!("there is nothing at {}", cut(path)))
                .with_remedy("all paths are listed in /api/v1/openapi.json")
        }
        Failure::Method(method) => {
            let detail = format!("{method} is not possible here; the Allow header lists what is");
            Problem {
                status: StatusCode::METHOD_NOT_ALLOWED.as_u16(),
                ..Problem::new(ProblemCode::NoSuchEndpoint, detail)
            }
        }
        Failure::MediaType { wanted } => {
            Problem::new(ProblemCode::UnsupportedMedia, format!("the body must be {wanted}, as Content-Type says it"))
        }
        Failure::TooLarge { limit } => {
            Problem::new(ProblemCode::TooLarge, format!("the body has more than {limit}, which is the most taken here"))
        }
        Failure::Body { field, syntax, why } => body(field.as_deref(), *syntax, why),
        Failure::Field { field, why } => {
            Problem::new(ProblemCode::Invalid, format!("{field}: {why}")).with_field(*field, why.as_str())
        }
        Failure::Document { field, why, remedy } => {
            let problem = Problem::new(ProblemCode::Invalid, format!("{field}: {why}"));
            unprocessable(problem.with_field(*field, why.as_str()).with_remedy(*remedy))
        }
        Failure::BrokenOff => Problem::new(ProblemCode::Invalid, "the body broke off before its end"),
        Failure::Query(why) => Problem::new(ProblemCode::Invalid, format!("the query does not read: {}", cut(why))),
        Failure::Path(why) => Problem::new(ProblemCode::Invalid, cut(why)),
        Failure::Header { name, why } => {
            Problem::new(ProblemCode::Invalid, format!("the header {name} does not read: {why}"))
                .with_field(*name, why.as_str())
        }
        Failure::Plain { status, text } => plain(*status, text),
        Failure::Changed { seen, now } => Problem::new(
            ProblemCode::Stale,
            format!("it was changed in between: its ETag is \"{now}\", and the request was made for \"{seen}\""),
        )
        .with_remedy("read it again, and make the change to what is there now"),
        Failure::TimedOut(after) => Problem::new(
            ProblemCode::TimedOut,
            format!("there was no answer within {} s; the work may go on", after.as_secs()),
        )
        .with_remedy("look whether it was done before sending it again, or send it with the same Idempotency-Key"),
        Failure::TooSlow(after) => {
            let detail = format!("the body did not come within {} s", after.as_secs());
            let problem = Problem::new(ProblemCode::TimedOut, detail).with_remedy("send it again");
            Problem { status: StatusCode::REQUEST_TIMEOUT.as_u16(), ..problem }
        }
        Failure::TooMany(wait) => Problem::new(
            ProblemCode::TooMany,
            format!("there are too many requests from here; the next may come in {} ms", wait.as_millis() + 1),
        )
        .with_remedy("wait a moment; for what changes all the time, follow the events instead of asking again"),
        // Everything else has words of its own, in the table that calls this one.
        other => Problem::new(ProblemCode::Internal, other.to_string()),
    }
}

/// 422 where it reads as JSON but not as what is wanted, 400 where it is no JSON at all.
fn body(field: Option<&str>, syntax: bool, why: &str) -> Problem {
    let why = cut(why);
    match field {
        Some(field) => {
            unprocessable(Problem::new(ProblemCode::Invalid, format!("{field}: {why}")).with_field(field, why))
        }
        None if syntax => Problem::new(ProblemCode::Invalid, format!("the body is not JSON: {why}")),
        None => {
            unprocessable(Problem::new(ProblemCode::Invalid, format!("the body is not what is wanted here: {why}")))
        }
    }
}

/// It reads, and yet it cannot be what is meant.
fn unprocessable(problem: Problem) -> Problem {
    Problem { status: StatusCode::UNPROCESSABLE_ENTITY.as_u16(), ..problem }
}

/// An error answer of a library that knows no problems: its status is kept, its text is the detail.
fn plain(status: StatusCode, text: &str) -> Problem {
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ProblemCode::NoSuchEndpoint,
        StatusCode::PAYLOAD_TOO_LARGE => ProblemCode::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ProblemCode::UnsupportedMedia,
        _ if status.is_client_error() => ProblemCode::Invalid,
        _ => ProblemCode::Internal,
    };
    let detail = match (code, text.is_empty()) {
        (ProblemCode::Internal, _) => "this node could not answer, because of a fault of its own".to_owned(),
        (_, true) => status.canonical_reason().unwrap_or("the request was refused").to_owned(),
        (_, false) => cut(text),
    };
    Problem { status: status.as_u16(), ..Problem::new(code, detail) }
}

fn cut(text: &str) -> String {
    text.chars().take(ECHO).collect()
}

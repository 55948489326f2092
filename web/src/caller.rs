//! Who asks. The listener knows (socket credentials, a bearer token, a peer's stream) and leaves a [`Caller`] with the
//! request; here it is turned into what an operation demands.
//!
//! In: the request's extensions. Out: `Viewer`, `Operator`, `Admin`: a handler that takes one cannot run without.
//! Must not look at headers by itself: a header is believed only by the listener that knows whose stream it came on.

use crate::problem::Failure;
use axum::extract::FromRequestParts;
use http::request::Parts;
use std::{fmt, str::FromStr};
use waifud_model::{command::Actor, token::Role};

/// Who sent a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who; goes into the log with every change.
    pub actor: Actor,
    /// What they may do. Apply checks it again.
    pub role: Role,
}

/// A text that is not a caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a caller")]
pub struct CallerError(String);

impl Caller {
    /// Carries the caller from node to node, on streams that are authenticated as a member's. A listener for anyone
    /// else strips it.
    pub const HEADER: &'static str = "waifu-caller";

    fn require(&self, needed: Role) -> Result<(), Failure> {
        if self.role >= needed { Ok(()) } else { Err(Failure::NotAllowed { needed, role: self.role }) }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.actor)
    }
}

impl FromStr for Caller {
    type Err = CallerError;

    fn from_str(text: &str) -> Result<Self, CallerError> {
        let parse = || {
            let (role, actor) = text.split_once(' ')?;
            let role = [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|r| r.to_string() == role)?;
            let actor = actor.parse().ok()?;
            Some(Self { actor, role })
        };
        parse().ok_or_else(|| CallerError(text.chars().take(80).collect()))
    }
}

/// Someone who may look.
#[derive(Debug, Clone)]
pub(crate) struct Viewer(pub(crate) Caller);

/// Someone who may change VMs and templates.
#[derive(Debug, Clone)]
pub(crate) struct Operator(pub(crate) Caller);

/// Someone who may do everything.
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Caller);

fn extract(parts: &Parts, needed: Role) -> Result<Caller, Failure> {
    let caller = parts.extensions.get::<Caller>().ok_or(Failure::Unauthenticated)?;
    caller.require(needed)?;
    Ok(caller.clone())
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        extract(parts, Role::Viewer).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        extract(parts, Role::Operator).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        extract(parts, Role::Admin).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waifud_model::ids::{NodeId, TokenId};

    #[test]
    fn callers_travel_as_text() {
        let node = NodeId::from_random(7);
        for actor in [Actor::Local { node, uid: 1000 }, Actor::Token(TokenId::from_random(9)), Actor::Node(node)] {
            let caller = Caller { actor, role: Role::Operator };
            assert_eq!(caller.to_string().parse(), Ok(caller));
        }
        for bad in ["", "admin", "root uid:0@0000000000000007", "admin uid:x@0000000000000007", "admin token:7"] {
            assert!(bad.parse::<Caller>().is_err(), "{bad}");
        }
    }
}

//! Who asks. The listener knows (socket credentials, a bearer token, a peer's stream) and leaves a [`Caller`] with the
//! request; here it is turned into what an operation demands.
//!
//! In: the request's extensions. Out: `Viewer`, `VmOperator`, `Operator`, `Admin`: a handler that takes one cannot run without.
//! Must not look at headers by itself: a header is believed only by the listener that knows whose stream it came on.

use crate::problem::Failure;
use axum::extract::FromRequestParts;
use http::request::Parts;
use std::{collections::BTreeMap, fmt, str::FromStr};
use waifud_model::{command::Actor, reject::Reject, scope::Scope, token::Role};

/// Who sent a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who; goes into the log with every change.
    pub actor: Actor,
    /// What they may do. Apply checks it again.
    pub role: Role,
    /// Which VMs they may know of. Apply checks it again.
    pub scope: Scope,
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
    /// In letters that a header may hold, whatever the labels are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.actor)?;
        for (key, value) in self.scope.labels().iter() {
            write!(f, " {}={}", hex::encode(key), hex::encode(value))?;
        }
        Ok(())
    }
}

fn label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let plain = |text| String::from_utf8(hex::decode(text).ok()?).ok();
    Some((plain(key)?, plain(value)?))
}

impl FromStr for Caller {
    type Err = CallerError;

    fn from_str(text: &str) -> Result<Self, CallerError> {
        let parse = || {
            let mut words = text.split(' ');
            let (role, actor) = (words.next()?, words.next()?);
            let role = [Role::Viewer, Role::Operator, Role::Admin].into_iter().find(|r| r.to_string() == role)?;
            let actor = actor.parse().ok()?;
            // A label that does not read is not left out: the scope would be wider.
            let labels = words.map(label).collect::<Option<BTreeMap<_, _>>>()?;
            Some(Self { actor, role, scope: Scope::new(labels.try_into().ok()?) })
        };
        parse().ok_or_else(|| CallerError(text.chars().take(80).collect()))
    }
}

/// Someone who may look; at VMs, at those of their scope.
#[derive(Debug, Clone)]
pub(crate) struct Viewer(pub(crate) Caller);

/// Someone who may change VMs, those of their scope.
#[derive(Debug, Clone)]
pub(crate) struct VmOperator(pub(crate) Caller);

/// Someone who may change whatever an operator may: nobody with a scope.
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

impl<S: Sync> FromRequestParts<S> for VmOperator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        extract(parts, Role::Operator).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let caller = extract(parts, Role::Operator)?;
        if caller.scope.is_whole() { Ok(Self(caller)) } else { Err(Failure::rejected(Reject::VmsOnly)) }
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
    use waifud_model::{
        ids::{NodeId, TokenId},
        labels::Labels,
    };

    #[test]
    fn callers_travel_as_text() {
        let node = NodeId::from_random(7);
        for actor in [Actor::Local { node, uid: 1000 }, Actor::Token(TokenId::from_random(9)), Actor::Node(node)] {
            let caller = Caller { actor, role: Role::Operator, scope: Scope::default() };
            assert_eq!(caller.to_string().parse(), Ok(caller));
        }
        let labels: Labels = serde_json::from_str(r#"{"team":"wêb, = \" site","env":""}"#).unwrap();
        let actor = Actor::Token(TokenId::from_random(9));
        let scoped = Caller { actor, role: Role::Viewer, scope: Scope::new(labels) };
        let text = scoped.to_string();
        assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
        assert_eq!(text.parse(), Ok(scoped));
        for bad in ["", "admin", "root uid:0@0000000000000007", "admin uid:x@0000000000000007", "admin token:7"]
            .into_iter()
            .chain([
                "viewer token:0000000000000009 ",
                "viewer token:0000000000000009 74656d",
                "viewer token:0000000000000009 7=61",
                "viewer token:0000000000000009 20=61",
            ])
        {
            assert!(bad.parse::<Caller>().is_err(), "{bad}");
        }
    }
}

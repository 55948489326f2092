//! Bearer tokens: who the sender of an API token is.
//!
//! In: the headers of a request that came over HTTPS. Out: a [`Caller`] with the request, if the token is one of the
//! cluster's; requests without one go on and get only what is public. Only the BLAKE3 of a token's secret is stored, which
//! has 256 random bits and so needs no slow hash. Not for streams that say by themselves who is there (the local socket, a
//! peer).

use crate::{api_secret::ApiSecret, app::App, caller::Caller, problem::Failure, rates::Who};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use std::net::IpAddr;
use waifud_model::{command::Actor, digest::Blake3};

/// Where a request came from; left with it by a listener that knows.
#[derive(Debug, Clone, Copy)]
pub struct Remote(pub IpAddr);

/// Puts the caller with each request that carries a valid token, and turns away who asks too often.
///
/// For the HTTPS listener: `router(app.clone()).layer(axum::middleware::from_fn_with_state(app, bearer::identify))`.
pub async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    request.extensions_mut().remove::<Caller>();
    let who = match caller(&app, request.headers()).await {
        Ok(Some(caller)) => {
            let who = Who::Caller(caller.actor.clone());
            request.extensions_mut().insert(caller);
            who
        }
        Ok(None) => Who::Stranger(request.extensions().get().map(|Remote(address)| *address)),
        Err(failure) => return failure.into_response(),
    };
    if let Err(wait) = app.rates.admit(who) {
        return Failure::TooMany(wait).into_response();
    }
    next.run(request).await
}

async fn caller(app: &App, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
    let Some(secret) = presented(headers) else { return Ok(None) };
    let id = secret.id();
    let Some(token) = app.consensus.read(move |view| view.api_token(id)).await? else { return Ok(None) };
    let valid = token.expires_at.is_none_or(|until| app.clock.now() < until);
    let caller = Caller { actor: Actor::Token(id), role: token.role, scope: token.scope };
    Ok((valid && same(token.hash, secret.hash())).then_some(caller))
}

/// Compares in constant time, as `blake3::Hash` does.
fn same(a: Blake3, b: Blake3) -> bool {
    blake3::Hash::from_bytes(a.0) == blake3::Hash::from_bytes(b.0)
}

fn presented(headers: &HeaderMap) -> Option<ApiSecret> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { token.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use waifud_model::ids::TokenId;

    #[test]
    fn only_bearers_of_a_token_present_one() {
        let secret = ApiSecret::new(TokenId::from_random(1), [7; 32]);
        let read = |text: String| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::try_from(text).unwrap())]);
            presented(&headers)
        };
        assert_eq!(read(format!("Bearer {secret}")), Some(secret.clone()));
        assert_eq!(read(format!("bearer  {secret}")), Some(secret.clone()));
        assert_eq!(read(format!("Basic {secret}")), None);
        assert_eq!(read("Bearer x".to_owned()), None);
        assert_eq!(presented(&HeaderMap::new()), None);
    }
}

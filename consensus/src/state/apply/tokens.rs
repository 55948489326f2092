//! Tokens: made and revoked by admins. Their keys and hashes never enter an event.

use super::{
    super::{events::Changes, rows, stop::Stop},
    Work, limits,
};
use waifud_model::{
    command::Reply,
    event::{EventKind, Subject},
    ids::TokenId,
    reject::Reject,
    token::{ApiToken, JoinToken, Role},
};

/// Events name both kinds of tokens by id alone, so an id is taken by either.
fn free(work: &Work<'_>, id: TokenId) -> Result<(), Stop> {
    if work.view.join_token(id)?.is_some() || work.view.api_token(id)?.is_some() {
        return Err(Reject::IdTaken(id.to_string()).into());
    }
    Ok(())
}

pub(super) fn create_join(work: &mut Work<'_>, token: &JoinToken) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    limits::join_token(token, work.now)?;
    free(work, token.id)?;
    rows::token::insert_join(work.db, &JoinToken { created_at: work.now, ..token.clone() })?;
    let changes =
        Changes::none().set("kind", "join").set("expires_at", token.expires_at.0).set("uses_left", token.uses_left);
    work.trail.add(Subject::Token(token.id), EventKind::Created, changes)?;
    Ok(Reply::Done)
}

pub(super) fn create_api(work: &mut Work<'_>, token: &ApiToken) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    limits::api_token(token, work.now)?;
    free(work, token.id)?;
    rows::token::insert_api(work.db, &ApiToken { created_at: work.now, ..token.clone() })?;
    let mut changes = Changes::none().set("kind", "api").set("description", &token.description).set("role", token.role);
    if let Some(end) = token.expires_at {
        changes = changes.set("expires_at", end.0);
    }
    for (key, value) in token.scope.labels().iter() {
        changes = changes.set(&format!("scope.{key}"), value);
    }
    work.trail.add(Subject::Token(token.id), EventKind::Created, changes)?;
    Ok(Reply::Done)
}

pub(super) fn revoke_join(work: &mut Work<'_>, id: TokenId) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    let found = rows::token::delete_join(work.db, id)?;
    revoked(work, id, found)
}

pub(super) fn revoke_api(work: &mut Work<'_>, id: TokenId) -> Result<Reply, Stop> {
    work.standing.at_least(Role::Admin)?;
    let found = rows::token::delete_api(work.db, id)?;
    revoked(work, id, found)
}

fn revoked(work: &mut Work<'_>, id: TokenId, found: bool) -> Result<Reply, Stop> {
    if !found {
        return Err(Reject::NoSuchToken(id).into());
    }
    work.trail.add(Subject::Token(id), EventKind::Deleted, Changes::none())?;
    Ok(Reply::Done)
}

//! API tokens, and the end of tokens of both kinds.

use super::propose::{Author, Done};
use crate::{api_secret::ApiSecret, app::App, ports::draw, problem::Failure, view};
use std::time::Duration;
use waifud_api::token::{ApiTokenCreate, ApiTokenCreated};
use waifud_model::{command::Command, ids::TokenId, labels::Labels, scope::Scope, token::ApiToken};

/// Longest description, in characters: a line in a list.
const DESCRIPTION_MAX: usize = 200;

/// Longest validity that makes sense to write down: a hundred years.
const VALID_MAX: u64 = 100 * 365 * 86_400;

/// Makes an API token. Its secret is in the answer and nowhere else.
pub(crate) async fn create(
    app: &App,
    author: &Author,
    request: ApiTokenCreate,
) -> Result<Done<ApiTokenCreated>, Failure> {
    if request.description.chars().count() > DESCRIPTION_MAX || request.description.chars().any(char::is_control) {
        let why = format!("at most {DESCRIPTION_MAX} characters, none of them control characters");
        return Err(Failure::Field { field: "description", why });
    }
    if request.valid_seconds.is_some_and(|s| !(1..=VALID_MAX).contains(&s)) {
        return Err(Failure::Field { field: "valid_seconds", why: format!("1 to {VALID_MAX}; leave it out for ever") });
    }
    // A script whose list came out empty must not get a token for everything.
    if request.scope.as_ref().is_some_and(Labels::is_empty) {
        return Err(Failure::Field { field: "scope", why: "at least one label; leave it out for all VMs".to_owned() });
    }
    let now = app.clock.now();
    let id = TokenId::from_random(u64::from_le_bytes(draw(app.random.as_ref())));
    let secret = ApiSecret::new(id, draw(app.random.as_ref()));
    let record = ApiToken {
        id,
        description: request.description,
        hash: secret.hash(),
        role: request.role,
        expires_at: request.valid_seconds.map(|s| now.plus(Duration::from_secs(s))),
        created_at: now,
        scope: request.scope.map(Scope::new).unwrap_or_default(),
    };
    let info = view::api_token(&record);
    let committed = author.propose(&app.consensus, Command::CreateApiToken(Box::new(record))).await?;
    if committed.replayed {
        return Err(Failure::SecretShown);
    }
    Ok(Done { index: committed.index, replayed: false, value: ApiTokenCreated { token: secret.to_string(), info } })
}

/// Revokes an API token, on all nodes at once.
pub(crate) async fn revoke(app: &App, author: &Author, id: TokenId) -> Result<Done<()>, Failure> {
    done(author, app, Command::RevokeApiToken(id)).await
}

/// Revokes a join token.
pub(crate) async fn revoke_join(app: &App, author: &Author, id: TokenId) -> Result<Done<()>, Failure> {
    done(author, app, Command::RevokeJoinToken(id)).await
}

async fn done(author: &Author, app: &App, command: Command) -> Result<Done<()>, Failure> {
    let committed = author.propose(&app.consensus, command).await?;
    Ok(Done { index: committed.index, replayed: committed.replayed, value: () })
}

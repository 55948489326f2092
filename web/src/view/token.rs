//! Tokens, without what is secret about them.

use crate::problem::Failure;
use waifud_api::token as wire;
use waifud_consensus::Handle;
use waifud_model::token::{ApiToken, JoinToken};

/// All join tokens, by id.
pub(crate) async fn join_tokens(consensus: &Handle) -> Result<Vec<wire::JoinToken>, Failure> {
    let tokens = consensus.read(|view| view.join_tokens()).await?;
    Ok(tokens.iter().map(join_token).collect())
}

/// All API tokens, by id.
pub(crate) async fn api_tokens(consensus: &Handle) -> Result<Vec<wire::ApiToken>, Failure> {
    let tokens = consensus.read(|view| view.api_tokens()).await?;
    Ok(tokens.iter().map(api_token).collect())
}

/// What may be known of a join token.
pub(crate) fn join_token(token: &JoinToken) -> wire::JoinToken {
    wire::JoinToken {
        id: token.id,
        uses_left: token.uses_left,
        expires_at: token.expires_at.into(),
        created_at: token.created_at.into(),
    }
}

/// What may be known of an API token.
pub(crate) fn api_token(token: &ApiToken) -> wire::ApiToken {
    wire::ApiToken {
        id: token.id,
        description: token.description.clone(),
        role: token.role,
        expires_at: token.expires_at.map(Into::into),
        created_at: token.created_at.into(),
        scope: token.scope.labels().clone(),
    }
}

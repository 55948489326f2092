//! Join tokens and API tokens as rows.

use super::{super::stop::Stop, Cells, ReadError, Word, number};
use rusqlite::{Connection, Row, params};
use waifud_model::{
    digest::Blake3,
    ids::TokenId,
    time::Timestamp,
    token::{ApiToken, JoinToken},
};

pub(in super::super) const JOIN_COLUMNS: &str = "id, key, expires_at, uses_left, created_at";
pub(in super::super) const API_COLUMNS: &str = "id, description, hash, role, expires_at, created_at, scope";

/// The number that a token's id is kept as; ids that apply lets in are positive.
pub(in super::super) fn key(token: TokenId) -> i64 {
    token.get().cast_signed()
}

pub(in super::super) fn read_join(row: &Row<'_>) -> Result<JoinToken, ReadError> {
    let mut cells = Cells::of("join_tokens", row);
    Ok(JoinToken {
        id: cells.id("id", TokenId::new)?,
        key: cells.plain()?,
        expires_at: cells.time()?,
        uses_left: cells.plain()?,
        created_at: cells.time()?,
    })
}

pub(in super::super) fn insert_join(db: &Connection, token: &JoinToken) -> Result<(), Stop> {
    db.prepare_cached(
        "INSERT INTO join_tokens (id, key, expires_at, uses_left, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![
        key(token.id),
        token.key,
        number("expires_at", token.expires_at.0)?,
        token.uses_left,
        number("created_at", token.created_at.0)?,
    ])?;
    Ok(())
}

/// One more node was let in.
pub(in super::super) fn use_join(db: &Connection, token: TokenId) -> Result<(), Stop> {
    db.prepare_cached("UPDATE join_tokens SET uses_left = uses_left - 1 WHERE id = ?1")?.execute([key(token)])?;
    Ok(())
}

/// True when there was one.
pub(in super::super) fn delete_join(db: &Connection, token: TokenId) -> Result<bool, Stop> {
    Ok(db.prepare_cached("DELETE FROM join_tokens WHERE id = ?1")?.execute([key(token)])? > 0)
}

pub(in super::super) fn read_api(row: &Row<'_>) -> Result<ApiToken, ReadError> {
    let mut cells = Cells::of("api_tokens", row);
    let (id, description, hash) = (cells.id("id", TokenId::new)?, cells.plain()?, Blake3(cells.plain()?));
    let role = cells.word()?;
    let expires_at: Option<i64> = cells.plain()?;
    let expires_at = match expires_at.map(u64::try_from) {
        None => None,
        Some(time) => Some(Timestamp(cells.known("expires_at", time.ok())?)),
    };
    let (created_at, scope) = (cells.time()?, cells.packed_or_none()?.unwrap_or_default());
    Ok(ApiToken { id, description, hash, role, expires_at, created_at, scope })
}

pub(in super::super) fn insert_api(db: &Connection, token: &ApiToken) -> Result<(), Stop> {
    db.prepare_cached(
        "INSERT INTO api_tokens (id, description, hash, role, expires_at, created_at, scope)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        key(token.id),
        token.description,
        token.hash.0,
        token.role.word(),
        token.expires_at.map(|time| number("expires_at", time.0)).transpose()?,
        number("created_at", token.created_at.0)?,
        Some(&token.scope).filter(|scope| !scope.is_whole()).map(rmp_serde::to_vec_named).transpose()?,
    ])?;
    Ok(())
}

/// True when there was one.
pub(in super::super) fn delete_api(db: &Connection, token: TokenId) -> Result<bool, Stop> {
    Ok(db.prepare_cached("DELETE FROM api_tokens WHERE id = ?1")?.execute([key(token)])? > 0)
}

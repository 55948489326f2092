//! Replacing the state by a snapshot: all tables go, those of the snapshot come, in one transaction.

use super::file::immutable_uri;
use crate::database::DatabaseError;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::Path;

/// Replaces everything in `db` by what the file holds. Readers see the one or the other, never a mixture.
///
/// The tables themselves are replaced too: the snapshot may be of a later feature level.
pub(crate) fn install(db: &mut Connection, snapshot: &Path) -> Result<(), DatabaseError> {
    let doing = "install a snapshot";
    // Both are illegal within a transaction: ATTACH at all, and the pragma without a word.
    db.execute("ATTACH ?1 AS incoming", [immutable_uri(snapshot)]).map_err(DatabaseError::sqlite(doing))?;
    let result =
        db.pragma_update(None, "foreign_keys", false).map_err(DatabaseError::sqlite(doing)).and_then(|()| replace(db));
    // Whatever happened, the connection is left as it was found; if even that fails, the writer stops.
    db.pragma_update(None, "foreign_keys", true).map_err(DatabaseError::sqlite(doing))?;
    db.execute("DETACH incoming", []).map_err(DatabaseError::sqlite(doing))?;
    result
}

fn replace(db: &mut Connection) -> Result<(), DatabaseError> {
    let failed = || DatabaseError::sqlite("copy a snapshot into the state");
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    copy(&tx).map_err(failed())?;
    // The one who made it may run an earlier build.
    crate::state::complete(&tx).map_err(failed())?;
    // A snapshot is taken between commands, when all references hold; one with dangling ones is not what was built.
    if tx.prepare("PRAGMA main.foreign_key_check").and_then(|mut check| check.exists([])).map_err(failed())? {
        return Err(DatabaseError::Corrupt("the snapshot has dangling references".into()));
    }
    tx.commit().map_err(failed())
}

fn copy(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    for (name, _) in objects(tx, "main", "table")? {
        tx.execute_batch(&format!("DROP TABLE main.{}", quote(&name)))?;
    }
    for (name, sql) in objects(tx, "incoming", "table")? {
        // The text of the schema names no database, so it makes the table in `main`.
        tx.execute_batch(&sql)?;
        let name = quote(&name);
        tx.execute_batch(&format!("INSERT INTO main.{name} SELECT * FROM incoming.{name}"))?;
    }
    for (_, sql) in objects(tx, "incoming", "index")? {
        tx.execute_batch(&sql)?;
    }
    let layout: i64 = tx.query_row("PRAGMA incoming.user_version", [], |row| row.get(0))?;
    tx.pragma_update(None, "user_version", layout)
}

/// Named objects with their text; automatic indexes have none and come with their tables.
fn objects(tx: &Transaction<'_>, database: &str, kind: &str) -> rusqlite::Result<Vec<(String, String)>> {
    tx.prepare(&format!(
        "SELECT name, sql FROM {database}.sqlite_schema
         WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ))?
    .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
    .collect()
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

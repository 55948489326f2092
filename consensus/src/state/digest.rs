//! The state digest: equal logs give equal digests, whatever the files look like inside.

use super::read::ReadError;
use rusqlite::{Connection, types::ValueRef};
use waifud_model::digest::Blake3;

/// A replicated table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns of its key, as they stand in `ORDER BY`.
    pub key: &'static str,
}

/// All replicated tables; those that others refer to come first. `raft` is not among them: it is this node's own.
pub const TABLES: [Table; 11] = [
    Table { name: "clock", key: "one" },
    Table { name: "cluster", key: "one" },
    Table { name: "nodes", key: "id" },
    Table { name: "net_peers", key: "name" },
    Table { name: "cloud_defaults", key: "one" },
    Table { name: "template_versions", key: "template, version" },
    Table { name: "vms", key: "id" },
    Table { name: "join_tokens", key: "id" },
    Table { name: "api_tokens", key: "id" },
    Table { name: "events", key: "place" },
    Table { name: "requests", key: "origin, number" },
];

/// BLAKE3 over all rows in key order. Everything variable is preceded by its length, so that no two states give the same bytes.
pub(super) fn digest(db: &Connection) -> Result<Blake3, ReadError> {
    let mut hasher = blake3::Hasher::new_derive_key("waifud 2025 state digest 1");
    for table in TABLES {
        let mut statement = db.prepare_cached(&format!("SELECT * FROM {} ORDER BY {}", table.name, table.key))?;
        bytes(&mut hasher, table.name.as_bytes());
        let columns = statement.column_count();
        hasher.update(&(columns as u64).to_le_bytes());
        for name in statement.column_names() {
            bytes(&mut hasher, name.as_bytes());
        }
        let mut count = 0_u64;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            count += 1;
            for column in 0..columns {
                cell(&mut hasher, row.get_ref(column)?);
            }
        }
        // After the rows, where a table's end would otherwise be guessed: no cell begins with this tag.
        hasher.update(b"#");
        hasher.update(&count.to_le_bytes());
    }
    Ok(Blake3(*hasher.finalize().as_bytes()))
}

fn cell(hasher: &mut blake3::Hasher, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => {
            hasher.update(b"0");
        }
        ValueRef::Integer(number) => {
            hasher.update(b"i");
            hasher.update(&number.to_le_bytes());
        }
        ValueRef::Real(number) => {
            hasher.update(b"r");
            hasher.update(&number.to_bits().to_le_bytes());
        }
        ValueRef::Text(text) => {
            hasher.update(b"t");
            bytes(hasher, text);
        }
        ValueRef::Blob(blob) => {
            hasher.update(b"b");
            bytes(hasher, blob);
        }
    }
}

fn bytes(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

//! Template versions as rows.

use super::{super::stop::Stop, Cells, ReadError, Word, number};
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use waifud_model::{
    digest::{Blake3, Sha256},
    ids::NodeId,
    name::TemplateName,
    template::{Source, TemplateVersion},
};

pub(in super::super) const COLUMNS: &str =
    "template, version, sha256, size, virtual_size, format, origin, added_at, more";

/// What has no column.
#[derive(Serialize, Deserialize)]
struct More {
    source: Source,
}

pub(in super::super) fn read(row: &Row<'_>) -> Result<TemplateVersion, ReadError> {
    let mut cells = Cells::of("template_versions", row);
    let (template, version, sha256) = (cells.parsed()?, Blake3(cells.plain()?), Sha256(cells.plain()?));
    let (size, virtual_size, format) = (cells.size()?, cells.size()?, cells.word()?);
    let (origin, added_at) = (cells.id("origin", NodeId::new)?, cells.time()?);
    let More { source } = cells.packed()?;
    Ok(TemplateVersion { template, version, sha256, size, virtual_size, format, source, origin, added_at })
}

/// `index` is the Raft index that the version comes with.
pub(in super::super) fn insert(db: &Connection, version: &TemplateVersion, index: i64) -> Result<(), Stop> {
    let more = More { source: version.source.clone() };
    db.prepare_cached(
        "INSERT INTO template_versions (template, version, sha256, size, virtual_size, format, origin, added_at,
         added_index, more) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        version.template.as_str(),
        version.version.0,
        version.sha256.0,
        number("size", version.size.as_bytes())?,
        number("virtual_size", version.virtual_size.as_bytes())?,
        version.format.word(),
        super::node::key(version.origin),
        number("added_at", version.added_at.0)?,
        index,
        rmp_serde::to_vec_named(&more)?,
    ])?;
    Ok(())
}

pub(in super::super) fn delete(db: &Connection, template: &TemplateName, version: Blake3) -> Result<(), Stop> {
    db.prepare_cached("DELETE FROM template_versions WHERE template = ?1 AND version = ?2")?
        .execute(params![template.as_str(), version.0])?;
    Ok(())
}

//! What every guest is told, as a row.

use super::{super::stop::Stop, Cells, ReadError, number};
use rusqlite::{Connection, Row, params};
use waifud_model::{
    cloud_init::{CloudDefaults, UserData},
    ids::Generation,
};

pub(in super::super) const COLUMNS: &str = "generation, user_data, vendor_data";

pub(in super::super) fn read(row: &Row<'_>) -> Result<CloudDefaults, ReadError> {
    let mut cells = Cells::of("cloud_defaults", row);
    let generation = Generation(cells.unsigned()?);
    Ok(CloudDefaults { generation, user_data: super::document(&mut cells)?, vendor_data: super::document(&mut cells)? })
}

pub(in super::super) fn write(db: &Connection, defaults: &CloudDefaults) -> Result<(), Stop> {
    db.prepare_cached(
        "INSERT INTO cloud_defaults (one, generation, user_data, vendor_data) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (one) DO UPDATE SET generation = ?1, user_data = ?2, vendor_data = ?3",
    )?
    .execute(params![
        number("generation", defaults.generation.0)?,
        defaults.user_data.as_ref().map(UserData::as_bytes),
        defaults.vendor_data.as_ref().map(UserData::as_bytes),
    ])?;
    Ok(())
}

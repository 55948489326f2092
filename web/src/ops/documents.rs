//! Documents for cloud-init, looked at before they go anywhere: a mistake in them would otherwise be found by a guest that
//! nobody can log in to.
//!
//! In: documents as they came. Out: what is odd about them, or what is wrong with the first that cannot be right, by line.
//! Must not repeat what stands in them, neither in an answer nor in the log: they hold secrets.

use crate::problem::Failure;
use waifud_cloudinit::user_data::{CheckError, Warning, check, check_network_config};
use waifud_model::cloud_init::{CloudInit, Contradiction, UserData};

/// What to do about any mistake; where and which it is stands in front of it.
const REMEDY: &str = "mend the document and send it again; with --dry-run (dry_run) it is only checked";

/// The cluster's own documents cannot be sent on trial.
const DEFAULTS_REMEDY: &str = "mend the document and send it again; nothing was changed";

/// Checks what one guest is told.
pub(super) fn of_vm(told: &CloudInit) -> Result<Vec<String>, Failure> {
    // Apply refuses it too; but it is not asked on trial.
    if let Err(Contradiction { field, why }) = told.check() {
        return Err(Failure::Document { field, why, remedy: REMEDY });
    }
    let CloudInit { user_data, network_config, .. } = told;
    let mut warnings = look("user_data", user_data.as_ref(), user, REMEDY)?;
    warnings.extend(look("network_config", network_config.as_ref(), check_network_config, REMEDY)?);
    Ok(warnings)
}

/// Checks what every guest is told. Vendor-data has the forms of user-data.
pub(super) fn of_cluster(user_data: Option<&UserData>, vendor_data: Option<&UserData>) -> Result<Vec<String>, Failure> {
    let mut warnings = look("user_data", user_data, user, DEFAULTS_REMEDY)?;
    warnings.extend(look("vendor_data", vendor_data, user, DEFAULTS_REMEDY)?);
    Ok(warnings)
}

fn user(bytes: &[u8]) -> Result<Vec<Warning>, CheckError> {
    check(bytes).map(|checked| checked.warnings)
}

/// One document, which need not be there.
fn look(
    field: &'static str,
    document: Option<&UserData>,
    check: impl FnOnce(&[u8]) -> Result<Vec<Warning>, CheckError>,
    remedy: &'static str,
) -> Result<Vec<String>, Failure> {
    let Some(document) = document else { return Ok(Vec::new()) };
    let warnings =
        check(document.as_bytes()).map_err(|error| Failure::Document { field, why: error.to_string(), remedy })?;
    let said = |Warning { line, message }: Warning| match line {
        Some(line) => format!("{field}: line {line}: {message}"),
        None => format!("{field}: {message}"),
    };
    Ok(warnings.into_iter().map(said).collect())
}

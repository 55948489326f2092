//! A guest's own network-config: is it YAML of one of the two versions that cloud-init reads?
//!
//! 22.4 `cloudinit/stages.py` (`_find_networking_config`): it may stand under a key `network`, and `config: disabled`
//! turns it off. `cloudinit/net/network_state.py` (`parse_net_config_data`): `version` 1 needs `config`, 2 does not.

use super::{
    CheckError, Warning, cloud_config, limit, text,
    yaml::{self, Root},
};

/// Looks at a network-config.
///
/// # Errors
/// If cloud-init would fail on it, which leaves a guest without a network.
pub fn check(bytes: &[u8]) -> Result<Vec<Warning>, CheckError> {
    limit(bytes)?;
    let outline = yaml::outline(text(bytes)?)?;
    let shape = |line, what, expected| Err(CheckError::Shape { line, what, expected });
    if outline.root != Root::Mapping {
        return shape(outline.line, "a network-config", "have keys with values, `version` among them");
    }
    let wrapper = outline.top.iter().find(|key| key.name == "network");
    let (line, keys) = match (wrapper, &outline.network) {
        (Some(key), Some(keys)) => (key.line, keys),
        (Some(key), None) => return shape(key.line, "`network`", "have keys with values, `version` among them"),
        (None, _) => (outline.line, &outline.top),
    };
    let find = |name: &str| keys.iter().find(|key| key.name == name);
    let config = find("config");
    if config.is_some_and(|key| key.value.as_deref() == Some("disabled")) {
        return Ok(cloud_config::duplicates(&outline));
    }
    let Some(version) = find("version") else {
        return shape(line, "a network-config", "have a `version`, 1 or 2");
    };
    match version.value.as_deref() {
        Some("1") if config.is_none() => {
            shape(version.line, "a network-config of version 1", "have a list under `config`")
        }
        Some("1" | "2") => Ok(cloud_config::duplicates(&outline)),
        _ => shape(version.line, "`version`", "be 1 or 2"),
    }
}

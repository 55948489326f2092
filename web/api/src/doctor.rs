//! What a node finds when it looks at itself: the troubles that only it can see.

use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;
use waifud_model::name::NodeName;

/// The answer of `GET /nodes/{name}/doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeReport {
    /// Whose.
    #[schema(value_type = String)]
    pub node: NodeName,
    /// When it looked, by its own clock.
    pub at: Time,
    /// The build it runs.
    pub version: String,
    /// What it found, in a fixed order; what is well, too.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it is.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What that means for the VMs, if it is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// What mends it, ready to be typed where it is a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn well(check: Check, seen: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Well, seen: seen.into(), means: None, remedy: None }
    }

    /// It cannot or need not be looked at.
    #[must_use]
    pub fn unknown(check: Check, seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, ..Self::well(check, seen) }
    }

    /// It works, but somebody should know.
    #[must_use]
    pub fn warning(check: Check, seen: impl Into<String>, means: impl Into<String>, remedy: impl Into<String>) -> Self {
        let told = (Some(means.into()), Some(remedy.into()));
        Self { check, verdict: Verdict::Warning, seen: seen.into(), means: told.0, remedy: told.1 }
    }

    /// Something does not work.
    #[must_use]
    pub fn wrong(check: Check, seen: impl Into<String>, means: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::warning(check, seen, means, remedy) }
    }
}

/// What can be looked at: the ten troubles that are met most often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Can the cluster take changes?
    Quorum,
    /// Do the clocks agree?
    Clock,
    /// Is there room for disks and state?
    Disk,
    /// Does libvirt answer?
    Libvirt,
    /// Do guests run on the CPU itself?
    Kvm,
    /// Do addresses lead where they should?
    Routes,
    /// Are names of VMs answered?
    Dns,
    /// Are certificates valid for a while?
    Certificates,
    /// Do all nodes run the same build?
    Versions,
    /// Does the shared cache answer?
    Redis,
    /// One that a newer server knows.
    #[serde(other)]
    Other,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quorum => "quorum",
            Self::Clock => "clock",
            Self::Disk => "disk",
            Self::Libvirt => "libvirt",
            Self::Kvm => "kvm",
            Self::Routes => "routes",
            Self::Dns => "dns",
            Self::Certificates => "certificates",
            Self::Versions => "versions",
            Self::Redis => "redis",
            Self::Other => "other",
        })
    }
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Well,
    /// It could not be found out, or there is nothing to be found out.
    Unknown,
    /// It works, but somebody should know.
    Warning,
    /// It does not work.
    Wrong,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Well => "well",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use waifud_model::time::Timestamp;

    #[test]
    fn a_report_in_json() {
        let report = NodeReport {
            node: NodeName::new("n1").unwrap(),
            at: Time(Timestamp(1_760_000_000_000)),
            version: "0.1.0".to_owned(),
            findings: vec![
                Finding::well(Check::Libvirt, "answers"),
                Finding::wrong(Check::Disk, "full", "no VM can be made", "df -h"),
            ],
        };
        expect![[r#"{"node":"n1","at":"2025-10-09T08:53:20.000Z","version":"0.1.0","findings":[{"check":"libvirt","verdict":"well","seen":"answers"},{"check":"disk","verdict":"wrong","seen":"full","means":"no VM can be made","remedy":"df -h"}]}"#]]
            .assert_eq(&serde_json::to_string(&report).unwrap());
        assert_eq!(serde_json::from_str::<NodeReport>(&serde_json::to_string(&report).unwrap()).unwrap(), report);
        assert_eq!(serde_json::from_str::<Check>("\"moon_phase\"").unwrap(), Check::Other);
    }
}

//! What can go wrong with a hypervisor, in words for the person who has to mend it.

use std::{fmt, time::Duration};
use waifud_model::ids::VmId;

/// Why the hypervisor did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HypervisorError {
    /// There is no connection. What runs, runs on; it only cannot be seen from here.
    #[error("the hypervisor cannot be reached")]
    Unavailable(#[source] Cause),
    /// It did not answer. Whether the call took effect is unknown.
    #[error("the hypervisor did not answer within {} s when asked to {what}", after.as_secs())]
    Hung {
        /// What it was asked.
        what: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// It answered, and refused.
    #[error("the hypervisor could not {what} VM {vm}")]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// For which VM.
        vm: VmId,
        /// Its own words.
        source: Cause,
    },
    /// It answered a question about the whole host with an error.
    #[error("the hypervisor could not {what}")]
    Failed {
        /// What it was asked.
        what: &'static str,
        /// Its own words.
        source: Cause,
    },
    /// The guest cannot take it up while it runs: it has no room or no driver for it, or does not react. It will when it is
    /// started the next time; that is no failure.
    #[error("the guest of VM {vm} cannot change its {what} while it runs: {why}")]
    NotLive {
        /// Whose.
        vm: VmId,
        /// What was to change.
        what: &'static str,
        /// Why it cannot.
        why: Cause,
    },
    /// The VM has no domain here.
    #[error("VM {0} has no domain on this node")]
    NoDomain(VmId),
    /// A domain stands in the way that is not ours to touch.
    #[error("a domain named {0} is on this node but does not belong to this cluster; move it away with virsh")]
    Foreign(VmId),
    /// The domain cannot be described to the hypervisor.
    #[error("{field} of the domain of VM {vm} {why}")]
    BadSpec {
        /// Whose.
        vm: VmId,
        /// What of it.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl HypervisorError {
    /// True if nothing is known about the state of any domain: the hypervisor did not say anything.
    #[must_use]
    pub const fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Hung { .. })
    }
}

/// The hypervisor's own words, and what helps where we know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    message: String,
    remedy: Option<&'static str>,
}

impl Cause {
    /// Only what it said.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None }
    }

    /// With what helps.
    #[must_use]
    pub fn with_remedy(message: impl Into<String>, remedy: Option<&'static str>) -> Self {
        Self { message: message.into(), remedy }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.remedy.map_or(Ok(()), |remedy| write!(f, " ({remedy})"))
    }
}

impl std::error::Error for Cause {}

//! Names of VMs on the node itself, where systemd-resolved looks names up: one of its interfaces gets the guests' DNS
//! server, for our zones alone. In: a [`Registration`]; out: calls of `resolvectl`, which asks resolved over D-Bus.
//! What is set this way lives as long as the interface and resolved itself do; nothing is written to a file.
//!
//! resolved sends questions for an interface through that interface, also those to an address of this host. The
//! interface has to have the server's address for them to arrive (systemd issue 40534), and to be up at all times,
//! which a bridge without guests is not: hence the mesh's, with the gateway's address as a /32.

use super::layout::DOMAIN;
use crate::names::reverse_zones;
use ipnet::Ipv4Net;
use std::{ffi::OsString, io, net::Ipv4Addr, process::Stdio, time::Duration};
use tokio::process::Command;

/// resolvectl waits for resolved, which D-Bus starts if it has to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What resolved is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The interface: up, with `server` among its addresses.
    pub interface: String,
    /// The guests' DNS server on this node, its gateway.
    pub server: Ipv4Addr,
    /// The cluster's addresses, for the way back from them to names.
    pub cluster: Ipv4Net,
}

/// What registering came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The node resolves names of VMs.
    Done,
    /// No systemd-resolved here. The node does not resolve names of VMs until somebody follows the hint.
    NoResolved {
        /// What line to add where.
        hint: String,
    },
}

/// Why resolved does not do it.
#[derive(Debug, thiserror::Error)]
pub enum ResolvedError {
    /// resolvectl is there and cannot be run.
    #[error("resolvectl cannot be run")]
    Run(#[from] io::Error),
    /// It did not end.
    #[error("resolvectl did not end within {} s", PATIENCE.as_secs())]
    Hung,
    /// It said no.
    #[error("resolvectl {step}: {said}")]
    Refused {
        /// The call.
        step: String,
        /// Its words.
        said: String,
    },
}

/// A way to `resolvectl`.
#[derive(Debug, Clone)]
pub struct Resolved {
    program: OsString,
}

impl Default for Resolved {
    fn default() -> Self {
        Self::at("resolvectl")
    }
}

impl Resolved {
    /// By another program than the `resolvectl` of the path.
    #[must_use]
    pub fn at(program: impl Into<OsString>) -> Self {
        Self { program: program.into() }
    }

    /// Has resolved ask `registration.server` for our names. May be called again whenever the interface is new or
    /// resolved was restarted; a repetition changes nothing.
    ///
    /// # Errors
    /// If resolved runs and does not do it.
    pub async fn register(&self, registration: &Registration) -> Result<Registered, ResolvedError> {
        if !self.runs().await? {
            let hint = hint(registration);
            return Ok(Registered::NoResolved { hint });
        }
        for step in plan(registration) {
            self.call(&step).await?;
        }
        Ok(Registered::Done)
    }

    /// Has it forget them, for a node that leaves its cluster. Nothing happens without resolved or the interface.
    ///
    /// # Errors
    /// If resolved runs and does not do it.
    pub async fn unregister(&self, interface: &str) -> Result<(), ResolvedError> {
        if !self.runs().await? {
            return Ok(());
        }
        match self.call(&["revert".to_owned(), interface.to_owned()]).await {
            Err(ResolvedError::Refused { said, .. }) if said.contains("No such device") => Ok(()),
            done => done,
        }
    }

    /// Does resolved answer? `resolvectl` may be there without it.
    async fn runs(&self) -> Result<bool, ResolvedError> {
        match self.call(&["status".to_owned()]).await {
            Ok(()) => Ok(true),
            Err(ResolvedError::Refused { said, .. }) => {
                tracing::debug!(said, "systemd-resolved does not answer");
                Ok(false)
            }
            Err(ResolvedError::Run(error)) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn call(&self, step: &[String]) -> Result<(), ResolvedError> {
        let run = Command::new(&self.program)
            .args(step)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, run).await.map_err(|_| ResolvedError::Hung)??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        Err(ResolvedError::Refused { step: step.join(" "), said })
    }
}

/// The calls, in their order: at no time is the server asked for anything but our names.
fn plan(registration: &Registration) -> Vec<Vec<String>> {
    let Registration { interface, server, cluster } = registration;
    let call = |name: &str, arguments: Vec<String>| {
        [name.to_owned(), interface.clone()].into_iter().chain(arguments).collect::<Vec<_>>()
    };
    let zones = [DOMAIN.to_owned()].into_iter().chain(reverse_zones(*cluster));
    vec![
        call("default-route", vec!["no".to_owned()]),
        // The tilde: for names that end in these, and never to complete a short name with.
        call("domain", zones.map(|zone| format!("~{zone}")).collect()),
        // There are no signatures below `internal`, and no other names on that wire.
        call("dnssec", vec!["no".to_owned()]),
        call("llmnr", vec!["no".to_owned()]),
        call("mdns", vec!["no".to_owned()]),
        call("dns", vec![server.to_string()]),
    ]
}

/// What to do where there is no resolved.
fn hint(registration: &Registration) -> String {
    let server = registration.server;
    format!(
        "to resolve names of VMs on this node, add `server=/{DOMAIN}/{server}` to its dnsmasq, or `nameserver {server}` \
         as the first line of /etc/resolv.conf"
    )
}

#[cfg(test)]
mod tests;

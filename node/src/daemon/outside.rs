//! What the host and the networks around it are told of this node's guests: systemd-resolved of their names, tailscaled of their
//! subnet, people of networks that stand in the way. Level-triggered; nothing here holds anything else up.

use super::membership::Standing;
use crate::net::{
    Advertised, Own, Registered, Registration, Resolved, Tailscale, TailscaleError, UsedNetwork, conflicting, reach_by,
};
use ipnet::Ipv4Net;
use std::{error::Error, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use waifud_consensus::Handle;
use waifud_model::network;

/// How often it is looked: tailscaled and resolved are restarted now and then, and forget.
const LOOK: Duration = Duration::from_secs(30);
/// Soon after the start: the interface is not there at once.
const FIRST: Duration = Duration::from_secs(3);

/// What is told.
#[derive(Debug)]
pub(super) struct Outside {
    /// What is this node's own.
    pub(super) own: Own,
    /// tailscaled, unless it is not to be asked.
    pub(super) tailscale: Option<Tailscale>,
    /// Who the others are.
    pub(super) consensus: Handle,
}

/// What was said last, so that nothing is said twice.
#[derive(Debug, Default)]
struct Said {
    conflicts: Vec<UsedNetwork>,
    hint: bool,
    resolved: bool,
    tailscale: Option<String>,
    names: Option<String>,
}

impl Outside {
    /// Tells until `stop`. When this node is removed it takes back what it told: its subnet may become another's.
    pub(super) async fn tell(self, mut standing: watch::Receiver<Standing>, stop: CancellationToken) {
        let mut said = Said::default();
        let mut wait = FIRST;
        loop {
            let removed = async { standing.wait_for(|standing| *standing == Standing::Removed).await.is_ok() };
            let gone = tokio::select! {
                () = stop.cancelled() => return,
                gone = removed => gone,
                () = tokio::time::sleep(wait) => false,
            };
            if gone {
                return self.take_back().await;
            }
            wait = LOOK;
            self.tell_tailscale(&mut said).await;
            self.tell_resolved(&mut said).await;
            self.look_for_conflicts(&mut said).await;
        }
    }

    async fn tell_tailscale(&self, said: &mut Said) {
        let Some(tailscale) = &self.tailscale else { return };
        match tailscale.ensure(self.own.subnet).await {
            Ok(Advertised::Changed) => {
                tracing::info!(subnet = %self.own.subnet, "tailscaled offers this node's guests")
            }
            Ok(Advertised::NotRunning | Advertised::Already) => said.tailscale = None,
            Err(error) => once(&mut said.tailscale, &error, "tailscaled does not offer this node's guests"),
        }
    }

    async fn tell_resolved(&self, said: &mut Said) {
        let server = network::gateway(self.own.subnet);
        if let Err(error) = reach_by(&self.own.interface, server).await {
            return once(&mut said.names, &error, "this node does not resolve names of VMs");
        }
        let registration = Registration { interface: self.own.interface.clone(), server, cluster: self.own.cluster };
        match Resolved::default().register(&registration).await {
            Ok(Registered::Done) => {
                if !std::mem::replace(&mut said.resolved, true) {
                    tracing::info!("this node resolves names of VMs");
                }
                said.names = None;
            }
            Ok(Registered::NoResolved { hint }) if !said.hint => {
                said.hint = true;
                tracing::info!("this node does not resolve names of VMs by itself: {hint}");
            }
            Ok(Registered::NoResolved { .. }) => {}
            Err(error) => once(&mut said.names, &error, "this node does not resolve names of VMs"),
        }
    }

    async fn look_for_conflicts(&self, said: &mut Said) {
        let subnets =
            self.consensus.read(|view| Ok(view.nodes()?.into_iter().map(|node| node.subnet).collect::<Vec<_>>()));
        let subnets = match subnets.await {
            Ok(subnets) => subnets,
            Err(error) => return tracing::debug!(%error, "whose subnets are whose cannot be read"),
        };
        match conflicting(self.own.cluster, &subnets, &[&self.own.bridge, &self.own.interface]).await {
            Ok(found) if found == said.conflicts => {}
            Ok(found) => {
                for network in &found {
                    tracing::warn!(
                        %network,
                        cluster = %self.own.cluster,
                        "this host has a route that stands in the way of guests; remove it, or some of them are not reached"
                    );
                }
                said.conflicts = found;
            }
            Err(error) => tracing::debug!(error = &error as &dyn Error, "this host's routes cannot be read"),
        }
    }

    async fn take_back(&self) {
        if let Some(tailscale) = &self.tailscale {
            let subnet = self.own.subnet;
            match tailscale.withdraw(subnet).await {
                Ok(Advertised::Changed) => tracing::info!(%subnet, "tailscaled offers it no more"),
                Ok(Advertised::NotRunning | Advertised::Already) => {}
                Err(error) => give_up(&error, subnet),
            }
        }
        if let Err(error) = Resolved::default().unregister(&self.own.interface).await {
            tracing::warn!(error = &error as &dyn Error, "systemd-resolved still asks here for names of VMs");
        }
    }
}

fn give_up(error: &TailscaleError, subnet: Ipv4Net) {
    tracing::error!(
        error = error as &dyn Error,
        %subnet,
        "tailscaled still offers a subnet that is this node's no more; run tailscale set --advertise-routes without it"
    );
}

/// Says an error unless it is the one said last.
fn once(last: &mut Option<String>, error: &(dyn Error + 'static), what: &'static str) {
    let text = error.to_string();
    if last.as_ref() != Some(&text) {
        tracing::warn!(error, "{what}");
        *last = Some(text);
    }
}

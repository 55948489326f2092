//! `waifud status`: asks the daemon that runs here, and says in a few lines how it is.

use super::output;
use std::{error::Error, fmt::Write as _};
use waifud_api::{
    client::{Client, Config as ClientConfig, Endpoint},
    cluster::ClusterStatus,
};
use waifud_node::config::Config;

/// Prints how this node and its cluster are.
pub(super) async fn status(config: &Config) -> Result<(), Box<dyn Error>> {
    let client = Client::new(ClientConfig::new(vec![Endpoint::Unix(config.api.socket.clone())]))?;
    let status = client.cluster().await?.value;
    output::result(describe(&status).trim_end());
    Ok(())
}

fn describe(status: &ClusterStatus) -> String {
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = writeln!(text, "cluster {}, answered by {}", status.id, status.answered_by);
    let leader = status.leader.as_ref().map_or_else(|| "being chosen".to_owned(), ToString::to_string);
    let quorum = if status.quorum { "yes" } else { "NO" };
    let _ = writeln!(text, "quorum {quorum}, leader {leader}, {} VMs", status.vms);
    for member in &status.members {
        let heard = if member.alive { "alive" } else { "silent" };
        let _ = writeln!(text, "  {:<20} {:<8} {heard}", member.name, member.role);
    }
    for advice in &status.advice {
        let _ = writeln!(text, "! {}", advice.message);
        if let Some(remedy) = &advice.remedy {
            let _ = writeln!(text, "  {remedy}");
        }
    }
    text
}

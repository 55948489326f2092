//! A token that lets machines join. Its text holds a secret, and where the cluster is to be found.

use super::propose::{Author, Done};
use crate::{
    app::App,
    ports::{Observed, draw},
    problem::Failure,
    view,
};
use std::{net::SocketAddr, time::Duration};
use waifud_api::token::{JoinTokenCreate, JoinTokenCreated};
use waifud_model::{
    command::Command,
    ids::{NodeId, TokenId},
    node::Node,
    token::JoinToken,
};

/// As many addresses as keep the token short enough to be copied by hand; any one of them is enough to join.
const ADDRESSES_MAX: usize = 5;

/// Longest validity: a token that lets machines in should not be found in a drawer years later.
const VALID_MAX: u64 = 30 * 86_400;

/// Most machines one token lets in: the size of cluster this is made for.
const USES_MAX: u32 = 1000;

/// Makes a join token.
pub(crate) async fn run(
    app: &App,
    author: &Author,
    request: JoinTokenCreate,
) -> Result<Done<JoinTokenCreated>, Failure> {
    if !(1..=VALID_MAX).contains(&request.valid_seconds) {
        return Err(Failure::Field { field: "valid_seconds", why: format!("1 to {VALID_MAX} (30 days)") });
    }
    if !(1..=USES_MAX).contains(&request.uses) {
        return Err(Failure::Field { field: "uses", why: format!("1 to {USES_MAX}") });
    }
    let (cluster, nodes) = app.consensus.read(|view| Ok((view.cluster()?, view.nodes()?))).await?;
    let cluster = cluster.ok_or(Failure::NotInitialised)?;
    let id = TokenId::from_random(u64::from_le_bytes(draw(app.random.as_ref())));
    let minted =
        app.join_tokens.mint(id, &cluster, &addresses(&nodes, app.node, &app.observed())).map_err(Failure::Mint)?;
    let now = app.clock.now();
    let record = JoinToken {
        id,
        key: minted.key,
        expires_at: now.plus(Duration::from_secs(request.valid_seconds)),
        uses_left: request.uses,
        created_at: now,
    };
    let info = view::join_token(&record);
    let committed = author.propose(&app.consensus, Command::CreateJoinToken(record)).await?;
    if committed.replayed {
        return Err(Failure::SecretShown);
    }
    Ok(Done { index: committed.index, replayed: false, value: JoinTokenCreated { token: minted.text, info } })
}

/// Where the new machine may knock: here first, then at the nodes that are heard, then at the others.
fn addresses(nodes: &[Node], here: NodeId, observed: &Observed) -> Vec<SocketAddr> {
    let mut nodes: Vec<&Node> = nodes.iter().collect();
    nodes.sort_by_key(|node| (node.id != here, observed.alive(node.id).is_none(), node.name.clone()));
    nodes.into_iter().take(ADDRESSES_MAX).map(|node| node.advertise).collect()
}

//! `waifud join`: makes this machine a member of an existing cluster.
//!
//! In: a token, the configuration. Out: an identity and the first table of peers on disk. The state itself comes by
//! replication once the daemon runs. The key is kept between tries: if a try succeeded without this machine hearing of
//! it, the next one becomes that same node.

use super::{layout::Layout, membership::write_first_table};
use crate::config::Config;
use std::{fs, io, path::PathBuf};
use waifud_gossip::{
    identity::{DirError, IdentityDir},
    join::{JoinError as RedeemError, JoinToken, Newcomer, TokenError, redeem},
};
use waifud_model::ids::{ClusterId, NodeId};

/// Why this machine is no member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This machine is a member of a cluster.
    #[error(
        "{0} already belongs to a cluster: start it with `waifud run`. To join another, remove the node there first \
         (`waifuctl node remove`), stop waifud, and remove that directory"
    )]
    AlreadyMember(PathBuf),
    /// The token is mistyped.
    #[error("the join token cannot be used")]
    Token(#[from] TokenError),
    /// The cluster said no, or nobody was there.
    #[error("this machine was not let in")]
    Redeem(#[from] RedeemError),
    /// The identity cannot be kept.
    #[error("this node's identity cannot be kept")]
    Dir(#[from] DirError),
    /// The data directory cannot be written.
    #[error("{path} cannot be written")]
    Data {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What this machine has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its newest member.
    pub node: NodeId,
    /// How many members there are now.
    pub members: usize,
}

/// Joins with the token's text.
///
/// # Errors
/// If it is a member already, or was not let in. It can be called again after any failure.
pub async fn join(config: &Config, token: &str, newcomer: Newcomer) -> Result<Joined, JoinError> {
    let layout = Layout::new(&config.node.data_dir);
    if layout.is_member() {
        return Err(JoinError::AlreadyMember(layout.cluster().root().to_owned()));
    }
    let token: JoinToken = token.trim().parse()?;
    let making = layout.cluster_in_the_making();
    let failed = |source| JoinError::Data { path: making.root().to_owned(), source };
    // What an `init` left that was cut short has no business in a join; the key of an earlier join does.
    match fs::remove_dir_all(making.raft()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => making.make().map_err(failed)?,
    }
    let dir = IdentityDir::open(making.identity())?;
    let key = dir.join_key()?;
    let joined = redeem(&token, &newcomer, &key).await?;
    dir.save(&joined.identity)?;
    write_first_table(&making.peers(), &joined.peers).map_err(failed)?;
    layout.commit_membership().map_err(failed)?;
    Ok(Joined { cluster: token.cluster(), node: joined.identity.node(), members: joined.peers.len() })
}

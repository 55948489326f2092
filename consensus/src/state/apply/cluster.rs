//! The cluster as a whole: its beginning, and what it can do.

use super::{
    super::{
        events::Changes,
        rows,
        stop::{Halt, Stop},
    },
    FEATURE_LEVEL, Work, limits, nodes,
};
use waifud_model::{
    command::{InitCluster, Reply},
    digest::Blake3,
    event::{EventKind, Subject},
    network,
    reject::Reject,
    state::ClusterInfo,
};

/// What a new cluster can do. Fixed, not [`FEATURE_LEVEL`]: the first command must mean the same to every later build.
const FIRST_LEVEL: u32 = 1;

pub(super) fn init(work: &mut Work<'_>, init: &InitCluster) -> Result<Reply, Stop> {
    limits::cluster(init)?;
    limits::node(&init.node)?;
    let info = ClusterInfo {
        id: init.cluster,
        ca_cert: init.ca_cert.clone(),
        ca_key: init.ca_key.clone(),
        cidr: init.cidr,
        subnet_prefix: init.subnet_prefix,
        feature_level: FIRST_LEVEL,
    };
    let subnet = network::next_subnet(info.cidr, info.subnet_prefix, None, |_| false).ok_or(Reject::NoSubnet)?;
    rows::cluster::insert(work.db, &info, subnet)?;
    // Not the CA's key: not even its digest and size are of any use to a reader.
    let changes = Changes::none()
        .set("id", info.id)
        .set("cidr", info.cidr)
        .set("subnet_prefix", info.subnet_prefix)
        .set("ca_cert", Blake3::of(&info.ca_cert))
        .set("feature_level", info.feature_level);
    work.trail.add(Subject::Cluster, EventKind::Created, changes)?;
    nodes::admit(work, &init.node, subnet)
}

/// One level at a time, so that a mistaken number is refused by all builds alike, and none is left behind unasked.
pub(super) fn raise(work: &mut Work<'_>, wanted: u32) -> Result<Reply, Stop> {
    work.standing.node()?;
    let current = work.view.cluster()?.ok_or(Reject::NotInitialised)?.feature_level;
    if Some(wanted) != current.checked_add(1) {
        return Err(Reject::BadFeatureLevel { wanted, current }.into());
    }
    if wanted > FEATURE_LEVEL {
        // A newer build accepts this: to refuse it here would part this node's state from the others'.
        return Err(Halt::TooOld { wanted, known: FEATURE_LEVEL }.into());
    }
    rows::cluster::set_feature_level(work.db, wanted)?;
    let changes = Changes::none().diff("feature_level", &current, &wanted);
    work.trail.add(Subject::Cluster, EventKind::Changed, changes)?;
    Ok(Reply::Done)
}

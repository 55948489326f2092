//! `/metrics`: what a monitoring system wants to know of this node, in the OpenMetrics text format.
//!
//! In: every answered request, and at each scrape the state as this node sees it. Out: text. Only what cannot be asked
//! for later is kept, the requests that passed; everything else is read when it is asked for.

use http::{Method, StatusCode};
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// The content type that `render` writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: a read of the local replica, a write on a good disk, one on a slow disk, the deadline.
const BUCKETS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// What is told apart about a request. The route is the pattern, never the path: labels must not grow with the VMs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: String,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: String,
    node: String,
}

/// Counts requests as they pass.
pub struct Metrics {
    registry: Registry,
    answered: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let answered = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        let mut registry = Registry::with_prefix("waifud");
        registry.register("http_requests", "Requests answered", answered.clone());
        registry.register("http_request_seconds", "Time until the head of the answer", seconds.clone());
        Self { registry, answered, seconds }
    }
}

impl Metrics {
    /// Counts one answer.
    pub(crate) fn count(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let asked = Asked { method: method.to_string(), route: route.to_owned() };
        self.seconds.get_or_create(&asked).observe(took.as_secs_f64());
        let Asked { method, route } = asked;
        self.answered.get_or_create(&Answered { method, route, status: status.as_u16() }).inc();
    }
}

/// The state at the moment of a scrape, already counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges {
    /// The build.
    pub(crate) version: String,
    /// The node's name.
    pub(crate) node: String,
    /// VMs of the whole cluster by observed state, as the API words it.
    pub(crate) vms: BTreeMap<String, i64>,
    /// Nodes by what this one hears of them: alive, silent.
    pub(crate) nodes: BTreeMap<&'static str, i64>,
    /// The last applied index.
    pub(crate) applied: u64,
    /// The last index in the local log.
    pub(crate) last_log: u64,
    /// Transactions of the local log since the start.
    pub(crate) log_commits: u64,
    /// Writes asked of this node since the start, its own reports included.
    pub(crate) proposals: u64,
    /// The Raft term.
    pub(crate) term: u64,
    /// Does this node lead?
    pub(crate) leads: bool,
    /// Does this node know of a leader that is in touch with a majority?
    pub(crate) quorum: bool,
}

/// Writes everything in the text format.
pub(crate) fn render(metrics: &Metrics, gauges: &Gauges) -> Result<String, fmt::Error> {
    let mut now = Registry::with_prefix("waifud");
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: gauges.version.clone(), node: gauges.node.clone() }).set(1);
    now.register("build_info", "The build that answers", build);

    let vms = Family::<InState, Gauge>::default();
    for (state, count) in &gauges.vms {
        vms.get_or_create(&InState { state: state.clone() }).set(*count);
    }
    now.register("cluster_vms", "VMs of the whole cluster by observed state", vms);

    let nodes = Family::<InState, Gauge>::default();
    for (state, count) in &gauges.nodes {
        nodes.get_or_create(&InState { state: (*state).to_owned() }).set(*count);
    }
    now.register("cluster_nodes", "Nodes as this one hears them", nodes);

    let plain = [
        ("raft_applied_index", "The last log index this node has applied", gauges.applied),
        ("raft_last_log_index", "The last log index this node has stored", gauges.last_log),
        ("raft_term", "The Raft term", gauges.term),
        ("raft_leader", "1 if this node leads", u64::from(gauges.leads)),
        ("raft_quorum", "1 if this node is in touch with a majority of the voters", u64::from(gauges.quorum)),
    ];
    for (name, help, value) in plain {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        now.register(name, help, gauge);
    }

    let counted = [
        ("raft_log_commits", "Transactions of the local log, each synced to the disk", gauges.log_commits),
        ("raft_proposals", "Writes asked of this node, its own reports included", gauges.proposals),
    ];
    for (name, help, value) in counted {
        now.register(name, help, ConstCounter::new(value));
    }

    let mut text = String::new();
    encode_registry(&mut text, &metrics.registry)?;
    encode_registry(&mut text, &now)?;
    encode_eof(&mut text)?;
    Ok(text)
}

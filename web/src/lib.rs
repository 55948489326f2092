//! The API that every node serves, and the panel.
//!
//! In: HTTP requests that a listener has put a [`Caller`] with (socket credentials, a bearer token, a peer's stream). Out:
//! commands proposed to [`waifud_consensus`], and answers that merge the local replica with what is observed. Everything else
//! this crate needs of its node it asks through the [`ports`]; it knows no libvirt, no QUIC and no gossip.
//!
//! ```text
//!   request ─> layers ─> freshness ─> routes (who may, parse) ─┬─> ops (decide, propose) ─> consensus
//!                                                              └─> view (merge) <─ consensus, Observer
//!                                     problem (words) <── Failure ──┘
//! ```

mod api_secret;
mod app;
pub mod bearer;
pub mod caller;
mod cluster_metrics;
mod conditional;
pub mod console;
mod digest;
mod extract;
mod freshness;
mod idempotency;
mod layers;
mod leftover;
mod metrics;
mod ops;
mod owner;
mod panel;
pub mod ports;
mod problem;
mod rates;
mod request_id;
mod routes;
mod sse;
mod standing;
mod suggest;
mod view;

pub use app::App;
pub use caller::Caller;
pub use digest::DigestCache;
pub use metrics::Metrics;
pub use rates::Rates;

use std::time::Duration;
use waifud_model::size::ByteSize;

/// Largest body that is no image: two documents of 64 KiB in base64, 64 labels of 4 KiB and keys fit in with room to spare.
const BODY_LIMIT_BYTES: usize = 1 << 20;
const BODY_LIMIT: ByteSize = ByteSize::mib(1);

/// How long a linearizable read may take: one second, then an honest answer.
const LINEARIZE_WITHIN: Duration = Duration::from_secs(1);

/// The router of the API and the panel.
///
/// A request without a [`Caller`] among its extensions gets only what is public.
pub fn router(app: App) -> axum::Router {
    routes::router(app)
}

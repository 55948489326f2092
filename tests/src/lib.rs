//! What the tests share: several hosts on one machine, and what drives the daemons that run on them.
//!
//! The tests themselves are under `tests/`. Nothing here belongs to the product.

pub mod bench;
pub mod cluster;
pub mod lab;
pub mod sim;

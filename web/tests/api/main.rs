//! The whole router over a real consensus of one or three nodes; only the ports are fakes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test fail as loudly as the test")]

mod access;
mod cloud_init;
mod cluster;
mod conditional;
mod console;
mod events;
mod history;
mod house;
mod lists;
mod net;
mod nodes;
mod pages;
mod panel;
mod problems;
mod scope;
mod slow;
mod templates;
mod tokens;
mod vms;

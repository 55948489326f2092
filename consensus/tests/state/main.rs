//! The applied state from the outside: rules one by one, random logs against a plain model, and pinned encodings.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod cost;
mod fixture;
mod golden;
mod history;
mod ledger;
mod property;
mod reference;
mod rules;
mod scenario;
mod scope;

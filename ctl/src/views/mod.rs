//! The wire types as rows and details: which columns there are, and how each value looks. Pure.

pub(crate) mod change;
pub(crate) mod cluster;
pub(crate) mod doctor;
pub(crate) mod event;
pub(crate) mod history;
pub(crate) mod net;
pub(crate) mod node;
pub(crate) mod template;
pub(crate) mod token;
pub(crate) mod vm;

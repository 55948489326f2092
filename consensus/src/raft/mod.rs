//! openraft, filled in: our types, our storage, our network.
//!
//! In: requests of other nodes and proposals, both through openraft's `Raft`. Out: calls of the
//! [`Transport`](crate::Transport), and entries applied to the state in order. Which command does what is `state`'s
//! business; who may vote is `voters`'.

pub(crate) mod applied;
pub(crate) mod doubt;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod patience;
pub(crate) mod runtime;
pub(crate) mod stored;
pub(crate) mod types;
pub(crate) mod wire;

pub(crate) type Raft = openraft::Raft<types::Types, machine::StateMachine>;

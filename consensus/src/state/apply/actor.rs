//! Who asks, and what they may do. Looked up anew for every command: a revoked token or a removed node is refused from
//! the very next one on.

use super::super::{rows, stop::Stop, view::View};
use waifud_model::{
    command::Actor, event::Authority, ids::NodeId, reject::Reject, scope::Scope, time::Timestamp, token::Role,
};

/// What an actor may do at this point of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// A person or their program, and which VMs they may know of.
    Person(Authority, Scope),
    /// A node, on its own account.
    Node(NodeId),
}

impl Standing {
    /// Of an actor in an initialised cluster.
    pub(super) fn of(view: View<'_>, actor: &Actor, now: Timestamp) -> Result<Self, Stop> {
        let member = |node: NodeId| view.any("SELECT 1 FROM nodes WHERE id = ?1", [rows::node::key(node)]);
        let standing = match actor {
            // Who reaches a member's local socket is root or in its group. A removed node's word is worth nothing.
            Actor::Local { node, .. } => member(*node)?.then(Self::local),
            Actor::Node(node) => member(*node)?.then_some(Self::Node(*node)),
            Actor::Token(id) => view
                .api_token(*id)?
                .filter(|token| token.expires_at.is_none_or(|end| now < end))
                .map(|token| Self::Person(Authority { role: token.role, token: Some(token.description) }, token.scope)),
        };
        standing.ok_or_else(|| Reject::UnknownActor.into())
    }

    /// Of who makes the cluster: only its first node can know of it.
    pub(super) fn founder(actor: &Actor, first: NodeId) -> Result<Self, Reject> {
        match actor {
            Actor::Local { node, .. } if *node == first => Ok(Self::local()),
            Actor::Node(node) if *node == first => Ok(Self::Node(first)),
            _ => Err(Reject::UnknownActor),
        }
    }

    fn local() -> Self {
        Self::Person(Authority { role: Role::Admin, token: None }, Scope::default())
    }

    /// As what a person acts.
    pub(super) fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Person(authority, _) => Some(authority),
            Self::Node(_) => None,
        }
    }

    /// Which VMs a person may know of, where it is not all of them.
    pub(super) fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Person(_, scope) if !scope.is_whole() => Some(scope),
            Self::Person(..) | Self::Node(_) => None,
        }
    }

    /// For what people do.
    pub(super) fn at_least(&self, needed: Role) -> Result<(), Reject> {
        match self {
            Self::Person(person, _) if person.role >= needed => Ok(()),
            _ => Err(Reject::NotAllowed { needed }),
        }
    }

    /// For what people do, and a node to what is its own.
    pub(super) fn at_least_or_owner(&self, needed: Role, owner: NodeId) -> Result<(), Reject> {
        match self {
            Self::Node(_) => self.owner(owner),
            Self::Person(..) => self.at_least(needed),
        }
    }

    /// For what admins do, and any node on behalf of one.
    pub(super) fn admin_or_node(&self) -> Result<(), Reject> {
        match self {
            Self::Node(_) => Ok(()),
            Self::Person(..) => self.at_least(Role::Admin),
        }
    }

    /// For what only nodes do; gives the node.
    pub(super) fn node(&self) -> Result<NodeId, Reject> {
        match self {
            Self::Node(node) => Ok(*node),
            Self::Person(..) => Err(Reject::NodesOnly),
        }
    }

    /// For what only the owner does.
    pub(super) fn owner(&self, owner: NodeId) -> Result<(), Reject> {
        let node = self.node()?;
        if node == owner { Ok(()) } else { Err(Reject::NotYours(node)) }
    }
}

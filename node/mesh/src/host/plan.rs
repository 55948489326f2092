//! Which rules and routes there shall be, and what to do about those that are there. Pure.
//!
//! ```text
//!  5199  iif <bridge> to 169.254.169.254/32   lookup 7744     only guests are sent there: the host's own stays the host's
//!  5200  to <cluster>                         lookup 7744     before Tailscale's 5270 and main's 32766
//!
//!  table 7744   169.254.169.254/32   dev <mesh>
//!               <peer's subnet>      dev <mesh> src <gateway>
//!               <guest from there>   throw                    runs here: go on to main, where the bridge is
//! ```
//!
//! The table has no default route, so what it does not know goes on to main: the node's own subnet is the bridge's. Nothing
//! without our protocol number is ever removed.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::config::metadata_network;

/// The routing table of the mesh. Any number that nobody else uses; the mesh's port is 7444, the guests' address service 7744.
pub const TABLE: u32 = 7744;

/// What marks a rule or a route as ours (`proto 74` in `ip route`): not one of those in `/etc/iproute2/rt_protos`.
pub const PROTOCOL: u8 = 74;

/// Guests to the metadata address: before everything that a host usually has.
pub const METADATA_PREFERENCE: u32 = 5199;

/// To the cluster's addresses: before Tailscale's rules (5210 to 5270), which would take them with `accept-routes`.
pub const CLUSTER_PREFERENCE: u32 = 5200;

/// What the host shall be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// The mesh's interface.
    pub interface: String,
    /// Its MTU.
    pub mtu: u16,
    /// The bridge that this node's guests are on.
    pub bridge: String,
    /// All of the cluster's addresses.
    pub cluster: Ipv4Net,
    /// The bridge's own address: the host speaks as that to the others' guests. The bridge has to be there first.
    pub gateway: Ipv4Addr,
    /// What lies behind the mesh: the peers' subnets, laptops, guests of ours that run elsewhere.
    pub remote: Vec<Ipv4Net>,
    /// What would lie behind the mesh but is here: guests of the peers' subnets that run on this node.
    pub local: Vec<Ipv4Net>,
}

/// A policy rule into our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its place among the others.
    pub preference: u32,
    /// Only packets that come in here.
    pub from_interface: Option<String>,
    /// Only packets that go there.
    pub to: Ipv4Net,
}

/// A route in our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub to: Ipv4Net,
    /// By what.
    pub by: By,
}

/// How a route is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Into the mesh, from this address if the host itself speaks.
    Mesh(Option<Ipv4Addr>),
    /// Not by this table.
    Throw,
    /// Some way that we never want (seen only).
    Other,
}

/// One thing to do. Each can be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Add it.
    AddRule(Rule),
    /// Take it away.
    RemoveRule(Rule),
    /// Add it, or put it in the place of the one to the same network.
    SetRoute(Route),
    /// Take away the route to this network.
    RemoveRoute(Ipv4Net),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddRule(rule) => write!(f, "add rule {rule}"),
            Self::RemoveRule(rule) => write!(f, "remove rule {rule}"),
            Self::SetRoute(route) => write!(f, "set route {route}"),
            Self::RemoveRoute(to) => write!(f, "remove route {to}"),
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.preference)?;
        if let Some(name) = &self.from_interface {
            write!(f, " iif {name}")?;
        }
        write!(f, " to {}", self.to)
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.by {
            By::Mesh(None) => write!(f, "{} by the mesh", self.to),
            By::Mesh(Some(source)) => write!(f, "{} by the mesh, from {source}", self.to),
            By::Throw => write!(f, "{} left to main", self.to),
            By::Other => write!(f, "{} elsewhere", self.to),
        }
    }
}

/// The rules that `routing` asks for.
#[must_use]
pub fn rules(routing: &Routing) -> Vec<Rule> {
    vec![
        Rule { preference: METADATA_PREFERENCE, from_interface: Some(routing.bridge.clone()), to: metadata_network() },
        Rule { preference: CLUSTER_PREFERENCE, from_interface: None, to: routing.cluster.trunc() },
    ]
}

/// The routes that `routing` asks for, one a network: what is here wins over what is behind the mesh.
#[must_use]
pub fn routes(routing: &Routing) -> Vec<Route> {
    let metadata = Route { to: metadata_network(), by: By::Mesh(None) };
    let local = routing.local.iter().map(|to| Route { to: to.trunc(), by: By::Throw });
    let remote = routing.remote.iter().map(|to| Route { to: to.trunc(), by: By::Mesh(Some(routing.gateway)) });
    let mut routes: Vec<Route> = Vec::new();
    for route in std::iter::once(metadata).chain(local).chain(remote) {
        if routes.iter().all(|before| before.to != route.to) {
            routes.push(route);
        }
    }
    routes
}

/// What turns what is there (of ours) into what is wanted. Routes come before the rules that lead to them, and go after.
#[must_use]
pub fn plan(rules: &[Rule], routes: &[Route], rules_seen: &[Rule], routes_seen: &[Route]) -> Vec<Step> {
    let mut steps = Vec::new();
    steps.extend(routes.iter().filter(|route| !routes_seen.contains(route)).cloned().map(Step::SetRoute));
    steps.extend(rules.iter().filter(|rule| !rules_seen.contains(rule)).cloned().map(Step::AddRule));
    steps.extend(
        rules_seen
            .iter()
            .enumerate()
            // One of two equal ones is stale too.
            .filter(|(at, rule)| !rules.contains(rule) || rules_seen[..*at].contains(rule))
            .map(|(_, rule)| Step::RemoveRule(rule.clone())),
    );
    steps.extend(
        routes_seen
            .iter()
            .filter(|seen| routes.iter().all(|route| route.to != seen.to))
            .map(|seen| Step::RemoveRoute(seen.to)),
    );
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn routing() -> Routing {
        Routing {
            interface: "waifu0".into(),
            mtu: 1420,
            bridge: "waifubr0".into(),
            cluster: "10.77.0.0/16".parse().unwrap(),
            gateway: "10.77.1.1".parse().unwrap(),
            remote: vec!["10.77.2.0/24".parse().unwrap(), "10.77.1.7/32".parse().unwrap()],
            local: vec!["10.77.2.9/32".parse().unwrap()],
        }
    }

    fn check(routing: &Routing, rules_seen: &[Rule], routes_seen: &[Route], expected: Expect) {
        let steps = plan(&rules(routing), &routes(routing), rules_seen, routes_seen);
        let text: String = steps.iter().map(|step| format!("{step}\n")).collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn everything_on_a_new_host() {
        check(
            &routing(),
            &[],
            &[],
            expect![[r#"
            set route 169.254.169.254/32 by the mesh
            set route 10.77.2.9/32 left to main
            set route 10.77.2.0/24 by the mesh, from 10.77.1.1
            set route 10.77.1.7/32 by the mesh, from 10.77.1.1
            add rule 5199: iif waifubr0 to 169.254.169.254/32
            add rule 5200: to 10.77.0.0/16
        "#]],
        );
    }

    #[test]
    fn nothing_when_all_is_there() {
        let routing = routing();
        check(&routing, &rules(&routing), &routes(&routing), expect![[""]]);
    }

    #[test]
    fn what_changed_and_nothing_else() {
        let before = routing();
        let mut after = before.clone();
        after.gateway = "10.77.1.254".parse().unwrap();
        after.bridge = "br1".into();
        after.remote.remove(1);
        after.local.clear();
        check(
            &after,
            &rules(&before),
            &routes(&before),
            expect![[r#"
            set route 10.77.2.0/24 by the mesh, from 10.77.1.254
            add rule 5199: iif br1 to 169.254.169.254/32
            remove rule 5199: iif waifubr0 to 169.254.169.254/32
            remove route 10.77.2.9/32
            remove route 10.77.1.7/32
        "#]],
        );
    }

    #[test]
    fn a_rule_that_is_there_twice_goes_once() {
        let routing = routing();
        let mut seen = rules(&routing);
        seen.push(seen[1].clone());
        check(
            &routing,
            &seen,
            &routes(&routing),
            expect![[r#"
            remove rule 5200: to 10.77.0.0/16
        "#]],
        );
    }

    #[test]
    fn a_route_that_somebody_bent_is_put_right() {
        let routing = routing();
        let mut seen = routes(&routing);
        seen[0].by = By::Other;
        check(
            &routing,
            &rules(&routing),
            &seen,
            expect![[r#"
            set route 169.254.169.254/32 by the mesh
        "#]],
        );
    }

    #[test]
    fn leaving_takes_all_of_ours() {
        let routing = routing();
        let steps = plan(&[], &[], &rules(&routing), &routes(&routing));
        assert_eq!(steps.len(), 6);
        assert!(steps.iter().all(|step| matches!(step, Step::RemoveRule(_) | Step::RemoveRoute(_))));
    }

    fn net() -> impl Strategy<Value = Ipv4Net> {
        (0u8..4, 22u8..=32).prop_map(|(n, length)| Ipv4Net::new_assert([10, 77, n, 1].into(), length))
    }

    proptest! {
        #[test]
        fn doing_the_plan_gives_what_was_wanted(
            wanted in proptest::collection::vec(net(), 0..6),
            here in proptest::collection::vec(net(), 0..3),
            before in proptest::collection::vec(net(), 0..6),
        ) {
            let after = Routing { remote: wanted, local: here, ..routing() };
            let before = Routing { remote: before, local: vec![], bridge: "other".into(), ..routing() };
            let (mut rules_now, mut routes_now) = (rules(&before), routes(&before));
            for step in plan(&rules(&after), &routes(&after), &rules_now.clone(), &routes_now.clone()) {
                match step {
                    Step::AddRule(rule) => rules_now.push(rule),
                    Step::RemoveRule(rule) => rules_now.retain(|seen| *seen != rule),
                    Step::SetRoute(route) => { routes_now.retain(|seen| seen.to != route.to); routes_now.push(route) }
                    Step::RemoveRoute(to) => routes_now.retain(|seen| seen.to != to),
                }
            }
            prop_assert_eq!(plan(&rules(&after), &routes(&after), &rules_now, &routes_now), vec![]);
            prop_assert_eq!(routes_now.len(), routes(&after).len());
        }
    }
}

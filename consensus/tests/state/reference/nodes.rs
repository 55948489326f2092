//! Members, told plainly.

use super::Reference;
use std::collections::BTreeSet;
use waifud_model::{
    command::{NewNode, Reply},
    event::{EventKind, Subject},
    ids::{NodeId, TokenId},
    labels::Labels,
    node::Node,
    reject::Reject,
    vm::Vm,
};

impl Reference {
    pub(super) fn add_node(&mut self, new: &NewNode, token: TokenId) -> Result<Reply, Reject> {
        if let Some(known) = self.state.nodes.get(&new.id).cloned()
            && known.name == new.name
            && known.fingerprint == new.fingerprint
        {
            return Ok(self.changed(known));
        }
        let now = self.state.log_time;
        let refuse = |why: &str| Err(Reject::BadJoinToken { id: token, why: why.to_owned() });
        match self.state.join_tokens.get_mut(&token) {
            None => return refuse("unknown"),
            Some(found) if found.expires_at <= now => return refuse("expired"),
            Some(found) if found.uses_left == 0 => return refuse("used up"),
            Some(found) => found.uses_left -= 1,
        }
        let holder = |has: &dyn Fn(&Node) -> bool| {
            let mut nodes: Vec<&Node> = self.state.nodes.values().collect();
            nodes.sort_by_key(|node| node.name.clone());
            nodes.into_iter().find(|node| has(node)).map(|node| node.id)
        };
        let taken = |what: &str, holder| Reject::NodeTaken { what: what.to_owned(), holder };
        if let Some(holder) = holder(&|n| n.id == new.id) {
            return Err(taken("id", holder));
        }
        if let Some(holder) = holder(&|n| n.name == new.name) {
            return Err(Reject::NodeNameTaken { name: new.name.clone(), holder });
        }
        if let Some(holder) = holder(&|n| n.fingerprint == new.fingerprint) {
            return Err(taken("key", holder));
        }
        if let Some(holder) = holder(&|n| n.advertise == new.advertise) {
            return Err(taken("address", holder));
        }
        // Four subnets of sixteen addresses, the last of which is not for nodes.
        let taken: BTreeSet<u32> =
            self.state.nodes.values().map(|n| (n.subnet.network().to_bits() & 0x3f) / 16).collect();
        let free = (1..=4).map(|step| (self.last_subnet + step) % 4).find(|n| *n != 3 && !taken.contains(n));
        Ok(self.admit(new, free.ok_or(Reject::NoSubnet)?))
    }

    pub(super) fn admit(&mut self, new: &NewNode, subnet: u32) -> Reply {
        self.last_subnet = subnet;
        // What a former member of the same id was given is forgotten with it.
        self.last_host.remove(&new.id);
        let node = Node {
            id: new.id,
            name: new.name.clone(),
            advertise: new.advertise,
            fingerprint: new.fingerprint,
            labels: Labels::default(),
            cordoned: false,
            capacity: new.capacity.clone(),
            subnet: format!("10.77.0.{}/28", subnet * 16).parse().unwrap(),
            mesh: None,
            joined_at: self.state.log_time,
        };
        self.event(Subject::Node(node.id, node.name.clone()), EventKind::Created);
        self.state.nodes.insert(node.id, node.clone());
        Reply::Node(Box::new(node))
    }

    pub(super) fn remove_node(&mut self, id: NodeId, force: bool) -> Result<Reply, Reject> {
        let node = self.node(id)?;
        if self.state.nodes.len() == 1 {
            return Err(Reject::LastNode);
        }
        let mut vms: Vec<Vm> = self.state.vms.values().filter(|vm| vm.node == id).cloned().collect();
        if !vms.is_empty() && !force {
            return Err(Reject::NodeHasVms { node: id, count: vms.len() as u32 });
        }
        vms.sort_by_key(|vm| vm.name.clone());
        for vm in vms {
            self.state.vms.remove(&vm.id);
            self.event(Subject::Vm(vm.id, vm.name), EventKind::Deleted);
        }
        self.state.nodes.remove(&id);
        self.shrunk.remove(&id);
        Ok(self.done(Subject::Node(id, node.name), EventKind::Deleted))
    }
}

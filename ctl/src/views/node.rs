//! Nodes.

use crate::output::{Cell, Column, Details, Look, Row, Tone, short_span};
use waifud_api::{node::Node, time::Time};

impl Row for Node {
    const COLUMNS: &'static [Column] = &[
        Column::text("NAME"),
        Column::text("STATUS"),
        Column::text("ROLE"),
        Column::number("VMS"),
        Column::number("CPU"),
        Column::number("MEMORY"),
        Column::number("DISK"),
        Column::text("SUBNET"),
        Column::wide("ADDRESS"),
        Column::wide("ARCH"),
        Column::wide("KVM"),
        Column::wide("VERSION"),
        Column::wide("LABELS"),
        Column::wide("JOINED"),
        Column::wide("ID"),
    ];

    fn cells(&self, look: &Look) -> Vec<Cell> {
        vec![
            self.name.to_string().into(),
            status(self.alive, self.since, self.cordoned, look),
            self.role.to_string().into(),
            self.vms.to_string().into(),
            format!("{}/{}", self.reserved.cpus, self.capacity.cpus).into(),
            look.share(self.reserved.memory, self.capacity.memory).into(),
            look.share(self.reserved.disk, self.capacity.disk).into(),
            self.subnet.to_string().into(),
            self.address.to_string().into(),
            self.arch.to_string().into(),
            if self.kvm { "yes" } else { "no" }.into(),
            self.version.as_deref().unwrap_or("-").into(),
            look.words(self.labels.iter().map(|(key, value)| format!("{key}={value}"))).into(),
            look.since(Some(self.joined_at)).into(),
            self.id.to_string().into(),
        ]
    }

    fn name(&self) -> String {
        self.name.to_string()
    }
}

/// Alive or silent, and whether it is cordoned.
pub(crate) fn status(alive: bool, since: Option<Time>, cordoned: bool, look: &Look) -> Cell {
    let heard = match (alive, since) {
        (true, _) => "alive".to_owned(),
        (false, Some(since)) if look.human => format!("silent for {}", short_span(since.age(look.now))),
        (false, _) => "silent".to_owned(),
    };
    let tone = match (alive, cordoned) {
        (false, _) => Tone::Bad,
        (true, true) => Tone::Warn,
        (true, false) => Tone::Good,
    };
    Cell { text: if cordoned { format!("{heard},cordoned") } else { heard }, tone }
}

/// All that is known of a node.
pub(crate) fn details(node: &Node, look: &Look) -> Details {
    let ago = |text: String| if look.human { format!("{text} ago") } else { text };
    let labels = node.labels.iter().map(|(key, value)| format!("{key}={value}"));
    Details::default()
        .with("name", &node.name)
        .with("status", status(node.alive, node.since, node.cordoned, look).text)
        .with("role", node.role)
        .with("vms", node.vms)
        .with("cpus", format!("{} of {} promised; {} threads", node.reserved.cpus, node.capacity.cpus, node.threads))
        .with("memory", format!("{} of {} promised", look.size(node.reserved.memory), look.size(node.capacity.memory)))
        .with("disk", format!("{} of {} promised", look.size(node.reserved.disk), look.size(node.capacity.disk)))
        .with("guests", if node.kvm { "on the CPU (KVM)" } else { "emulated (TCG)" })
        .with("arch", node.arch)
        .with("subnet", node.subnet)
        .with("address", node.address)
        .with_each("bridges", &node.bridges)
        .with_some("version", node.version.as_ref())
        .with_each("labels", labels)
        .with("joined", ago(look.since(Some(node.joined_at))))
        .with("id", node.id)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        output::{Out, Terminal},
        views::vm::tests::look,
    };
    use expect_test::expect;

    pub(crate) fn node() -> Node {
        serde_json::from_str(
            r#"{
                "name": "n1", "id": "0000000000000001", "address": "192.168.1.11:7443", "alive": true,
                "since": "2026-03-01T12:00:00Z", "cordoned": false, "role": "leader",
                "capacity": { "cpus": 16, "memory": 33285996544, "disk": 429496729600 },
                "reserved": { "cpus": 2, "memory": 4294967296, "disk": 10737418240 },
                "threads": 4, "vms": 1, "subnet": "10.77.1.0/24", "kvm": true, "arch": "x86_64", "bridges": ["br0", "br1"], "labels": {},
                "version": "0.1.0", "joined_at": "2026-03-01T12:00:00Z"
            }"#,
        )
        .unwrap()
    }

    #[test]
    fn nodes_in_a_list_and_alone() {
        let mut gone = node();
        gone.name = "n2".parse().unwrap();
        (gone.alive, gone.cordoned) = (false, true);
        let nodes = [node(), gone];
        let shown = |human| {
            Out::of(None, look(human), Terminal { out: human, ..Terminal::default() }).list_text(&nodes).unwrap()
        };
        expect![[r#"
            NAME  STATUS                  ROLE    VMS   CPU    MEMORY        DISK  SUBNET
            n1    alive                   leader    1  2/16  4/31 GiB  10/400 GiB  10.77.1.0/24
            n2    silent for 1h,cordoned  leader    1  2/16  4/31 GiB  10/400 GiB  10.77.1.0/24
        "#]]
        .assert_eq(&shown(true));
        expect![[r#"
            n1|alive|leader|1|2/16|4294967296/33285996544|10737418240/429496729600|10.77.1.0/24
            n2|silent,cordoned|leader|1|2/16|4294967296/33285996544|10737418240/429496729600|10.77.1.0/24
        "#]]
        .assert_eq(&shown(false).replace('\t', "|"));
        expect![[r#"
            name     n1
            status   alive
            role     leader
            vms      1
            cpus     2 of 16 promised; 4 threads
            memory   4 GiB of 31 GiB promised
            disk     10 GiB of 400 GiB promised
            guests   on the CPU (KVM)
            arch     x86_64
            subnet   10.77.1.0/24
            address  192.168.1.11:7443
            bridges  br0
                     br1
            version  0.1.0
            joined   1h ago
            id       0000000000000001
        "#]]
        .assert_eq(&details(&node(), &look(true)).render());
    }
}
